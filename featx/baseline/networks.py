"""The small networks that are trained from scratch for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.backbones import import_keras

if TYPE_CHECKING:
    import keras

OUTPUT = "features@flatten"
"""What the network gives before its last layer, as a bundle names it"""
LOGITS = "logits"


@dataclass(frozen=True)
class Design:
    """A network: convolutions of 3 x 3 pixels with ReLU, then dense layers.

    blocks : the filters of the convolutions between two poolings (the largest of 2 x 2), block by block
    dense : units of the hidden layer behind them, 0 for none
    """

    blocks: tuple[tuple[int, ...], ...]
    dense: int = 0


DESIGNS: Mapping[str, Design] = {
    "conv1": Design(((32,),)),
    "conv3": Design(((32,), (64,), (128,)), 1024),
    "conv6": Design(((32, 32), (64, 64), (128, 128)), 256),
}


def make_network(net: str, side: int, classes: int, dropout: float, seed: int) -> keras.Model:
    """A network with random weights that depend on the seed alone (Glorot and Bengio 2010).

    Takes float32 (n, side, side, 3), RGB in [0, 255]; gives logits (n, classes).

    dropout : of what the last layer takes
    """
    keras, design = import_keras(), DESIGNS[net]
    layers = keras.layers
    inputs = keras.Input((side, side, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(inputs)
    number = 0
    for block, filters in enumerate(design.blocks, 1):
        for count in filters:
            number += 1
            start = keras.initializers.GlorotUniform(_seed(seed, number))
            x = layers.Conv2D(
                count, 3, padding="same", activation="relu", kernel_initializer=start, name=f"conv{number}"
            )(x)
        x = layers.MaxPooling2D(2, name=f"pool{block}")(x)
    x = layers.Flatten(name="flat")(x)
    if design.dense:
        start = keras.initializers.GlorotUniform(_seed(seed, number + 1))
        x = layers.Dense(design.dense, activation="relu", kernel_initializer=start, name="dense")(x)
    start = keras.initializers.GlorotUniform(_seed(seed, number + 2))
    dropped = layers.Dropout(dropout, seed=0, name="dropout")(x)  # the loop draws its seeds anew in every epoch
    return keras.Model(inputs, layers.Dense(classes, kernel_initializer=start, name=LOGITS)(dropped), name=net)


def feature_network(model: keras.Model) -> keras.Model:
    """The part of a network of `make_network` before dropout and the last layer: gives {`OUTPUT`: (n, features)}."""
    return import_keras().Model(model.inputs[0], {OUTPUT: model.get_layer("dropout").input}, name=model.name)


def _seed(seed: int, layer: int) -> int:
    import numpy as np

    return int(np.random.default_rng((seed, layer)).integers(2**31))
