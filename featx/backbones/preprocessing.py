"""What each kind of preprocessing does to pixels: one table for the layer in front of a network and for pictures of it.

The constants are those of `keras.applications` (imagenet_utils.preprocess_input).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

TORCH_STD = (0.229, 0.224, 0.225)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

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


FORMULAS: Mapping[str, Formula] = {
    "tf": Formula(1 / 127.5, -1.0),
    "caffe": Formula(offset=tuple(-mean for mean in _CAFFE_MEAN_BGR), bgr=True),
    "torch": Formula(
        tuple(1 / (255 * std) for std in TORCH_STD),
        tuple(-mean / std for mean, std in zip(_TORCH_MEAN, TORCH_STD, strict=True)),
    ),
    "none": Formula(),
}
