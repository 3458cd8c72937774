"""The preprocessing between an image file and a network, as data.

`Preprocessing` is what people and files say of it: a size, a way to resize, mean and deviation. `Formula` is what of it
is computed on pixels, for the layer in front of a network and for pictures of it alike.

The named ones are those of `keras.applications` (imagenet_utils.preprocess_input).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

TORCH_STD = (0.229, 0.224, 0.225)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_ANY_SIZE = (0, 0)  # of the named ones, which are taken at the size of a network

Factor = float | tuple[float, ...]  # one for all channels, or one for each


@dataclass(frozen=True)
class Formula:
    """`values = pixels * scale + offset`, with the channels of the pixels turned round first where `bgr`."""

    scale: Factor = 1.0
    offset: Factor = 0.0
    bgr: bool = False

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """What a network is given: float32 (..., 3) of RGB pixels (..., 3) in [0, 255]."""
        ordered = np.asarray(pixels, np.float32)[..., :: -1 if self.bgr else 1]
        return ordered * np.asarray(self.scale, np.float32) + np.asarray(self.offset, np.float32)

    def undo(self, values: np.ndarray) -> np.ndarray:
        """The RGB pixels, float32 (..., 3), that these values (..., 3) come from; any number, not only [0, 255]."""
        pixels = (values - np.asarray(self.offset, np.float32)) / np.asarray(self.scale, np.float32)
        return np.asarray(pixels[..., :: -1 if self.bgr else 1], np.float32)


@dataclass(frozen=True)
class Preprocessing:
    """An image as a network takes it: resized, then `(pixels * scale - mean) / std`.

    size : (height, width) in pixels
    resize : "stretch", "crop" or "pad", as in `featx.images.decoder.load_image`
    crop_share : how much of the resized image's side is kept, from the middle
    interpolation : "bilinear" or "bicubic", antialiased
    scale : what pixels in [0, 255] are multiplied by
    mean, std : of all channels, or of each in the order of `channels`
    channels : "rgb" or "bgr"
    """

    size: tuple[int, int]
    resize: str = "stretch"
    crop_share: float = 1.0
    interpolation: str = "bilinear"
    scale: float = 1.0
    mean: Factor = 0.0
    std: Factor = 1.0
    channels: str = "rgb"

    @property
    def formula(self) -> Formula:
        """What is computed on the pixels of the resized image."""
        whole = 1 / self.scale  # the value that becomes 1: 255 of 1 / 255
        scale = 1 / (whole * self.std) if isinstance(self.std, float) else tuple(1 / (whole * std) for std in self.std)
        return Formula(scale, _offset(self.mean, self.std), self.channels == "bgr")

    @property
    def name(self) -> str | None:
        """The name of what is computed on pixels; None where it has none."""
        values = Preprocessing(_ANY_SIZE, scale=self.scale, mean=self.mean, std=self.std, channels=self.channels)
        return next((name for name, known in _NAMED.items() if known == values), None)


def _offset(mean: Factor, std: Factor) -> Factor:
    if isinstance(mean, float) and isinstance(std, float):
        return 0.0 - mean / std
    means, stds = (one if isinstance(one, tuple) else (one,) * 3 for one in (mean, std))
    return tuple(-one / deviation for one, deviation in zip(means, stds, strict=True))


_NAMED: Mapping[str, Preprocessing] = {
    "tf": Preprocessing(_ANY_SIZE, scale=1 / 255, mean=0.5, std=0.5),
    "caffe": Preprocessing(_ANY_SIZE, mean=_CAFFE_MEAN_BGR, channels="bgr"),
    "torch": Preprocessing(_ANY_SIZE, scale=1 / 255, mean=_TORCH_MEAN, std=TORCH_STD),
    "none": Preprocessing(_ANY_SIZE),
}
FORMULAS: Mapping[str, Formula] = {name: one.formula for name, one in _NAMED.items()}


def named_preprocessing(name: str, size: tuple[int, int]) -> Preprocessing:
    """The preprocessing of that name at a size (height, width)."""
    return replace(_NAMED[name], size=size)
