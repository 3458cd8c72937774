"""LiteRT, formerly TensorFlow Lite: one `.tflite` file for phones and small computers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.export import savedmodel
from featx.export.network import INPUT, OUTPUT
from featx.images.batches import usable_cores
from featx.io.temporary import temporary_folder

if TYPE_CHECKING:
    import keras

    from featx.export.formats import Runner


def convert(network: keras.Model | Path, path: Path, precision: str, images: np.ndarray) -> None:
    """Write the network, taking uint8.

    network : Keras', or the folder of a SavedModel that was made of it
    precision : float16 halves the weights; int8 computes in whole numbers, whose ranges are measured on `images`
    """
    if isinstance(network, Path):
        path.write_bytes(_converted(network, precision, images))
        return
    with temporary_folder() as folder:
        savedmodel.write(network, folder)
        content = _converted(folder, precision, images)
    path.write_bytes(content)


def _converted(saved: Path, precision: str, images: np.ndarray) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: _one_by_one(images)
    content: bytes = converter.convert()
    return content


def _one_by_one(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for image in images:
        yield {INPUT: image[None]}


def load(path: Path) -> Runner:
    """Run the file in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=os.fspath(path), num_threads=usable_cores()).get_signature_runner()

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(runner(**{INPUT: images})[OUTPUT])

    return run
