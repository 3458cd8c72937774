"""Keras' own format: backbone, head and calibration as one model, to inspect, train further or build upon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import import_keras
from featx.backbones.keras_files import keras_folders, save_network
from featx.export.network import OUTPUT

if TYPE_CHECKING:
    import keras

    from featx.export.formats import Runner


def convert(network: keras.Model, path: Path, precision: str, images: np.ndarray) -> None:  # noqa: ARG001
    """Write the network, which takes float32 images, as the file `path`."""
    save_network(network, path)


def load(path: Path) -> Runner:
    """Read the file anew and run it in Keras."""
    with keras_folders():
        network = import_keras().saving.load_model(path, compile=False)

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(network.predict_on_batch(images.astype(np.float32))[OUTPUT])

    return run
