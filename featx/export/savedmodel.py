"""TensorFlow's SavedModel, as Keras writes it: a folder, served under `serving_default`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import import_keras
from featx.export.network import INPUT, OUTPUT

if TYPE_CHECKING:
    import keras

    from featx.export.formats import Runner


def convert(network: keras.Model, path: Path, precision: str, images: np.ndarray) -> None:  # noqa: ARG001
    """Write the network, taking uint8, into the folder `path`."""
    write(network, path)


def write(network: keras.Model, path: Path) -> None:
    """Write a SavedModel of uint8 (n, height, width, 3) -> {"probabilities": float32 (n, classes)}."""
    import tensorflow as tf

    def serve(images: tf.Tensor) -> tf.Tensor:
        return network(tf.cast(images, tf.float32), training=False)

    archive = import_keras().export.ExportArchive()
    archive.track(network)
    taken = tf.TensorSpec((None, *network.input_shape[1:]), tf.uint8, name=INPUT)
    archive.add_endpoint("serve", serve, input_signature=[taken])
    archive.write_out(str(path), verbose=False)


def load(path: Path) -> Runner:
    """Read the folder anew and run it in TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: np.ndarray) -> np.ndarray:
        serve = loaded.signatures["serving_default"]  # it does not keep the variables alive, so `loaded` is held
        return np.asarray(serve(**{INPUT: tf.constant(images)})[OUTPUT].numpy())

    return run
