"""Learnable downscaling in front of a backbone: images are read larger, and training decides what is kept.

It begins as the antialiased resizing that images would otherwise have gone through (the triangle filter of Pillow's
BILINEAR), so the first predictions are about those of the network without it. Beside the filter there is a branch of
two convolutions with a ReLU between, whose last kernel begins at zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import import_keras

if TYPE_CHECKING:
    import keras

PREFIX = "downscale_"
_CHANNELS = 16  # of the branch


def prepend_downscale(backbone: keras.Model, factor: int) -> keras.Model:
    """Return a network that takes images `factor` times as high and wide; the layers are shared with `backbone`.

    Takes float32 (n, factor * height, factor * width, 3), RGB in [0, 255], where the backbone takes
    (n, height, width, 3); gives what the backbone gives. Its own layers have names that begin with `downscale_`.
    """
    api = import_keras()
    height, width = backbone.input_shape[1:3]
    inputs = api.Input((factor * height, factor * width, 3), name=f"{PREFIX}image")
    small = _downscale(inputs, factor)

    def call(layer: keras.Layer, *args: object, **kwargs: object) -> keras.KerasTensor:
        return layer(*api.tree.map_structure(lambda tensor: small if tensor is inputs else tensor, args), **kwargs)

    return api.models.clone_model(
        backbone, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call
    )


def downscale_layers(model: keras.Model) -> list[str]:
    """Return the names of the layers of a down-scaling in a network, from the bottom up."""
    return [layer.name for layer in model.layers if layer.name.startswith(PREFIX)]


def _downscale(images: keras.KerasTensor, factor: int) -> keras.KerasTensor:
    keras = import_keras()
    layers = keras.layers
    taps = triangle_filter(factor)
    margin = (len(taps) - factor) // 2
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name=f"{PREFIX}scale")(images)
    x = keras.ops.pad(x, [[0, 0], [margin, margin], [margin, margin], [0, 0]], mode="symmetric")
    resize = layers.Conv2D(3, len(taps), factor, use_bias=False, kernel_initializer="zeros", name=f"{PREFIX}resize")
    start = keras.initializers.GlorotUniform(seed=0)
    detail = layers.Conv2D(
        _CHANNELS, len(taps), factor, activation="relu", kernel_initializer=start, name=f"{PREFIX}detail"
    )
    mix = layers.Conv2D(3, 1, use_bias=False, kernel_initializer="zeros", name=f"{PREFIX}mix")
    sum_ = layers.Add(name=f"{PREFIX}add")([resize(x), mix(detail(x))])
    resize.set_weights([np.einsum("h,w,io->hwio", taps, taps, np.eye(3)).astype(np.float32)])
    return layers.Rescaling(127.5, offset=127.5, name=f"{PREFIX}unscale")(sum_)


def triangle_filter(factor: int) -> np.ndarray:
    """Weights of the pixels that one pixel is made of, float64 (2 factor,) or, of odd factors, (2 factor - 1,).

    The sum is 1. A pixel counts by its distance from the new pixel's centre, none from `factor` pixels on.
    """
    length = 2 * factor - factor % 2
    distance = np.abs(np.arange(length) - (length - 1) / 2)
    weights = 1 - distance / factor
    return np.asarray(weights / weights.sum())
