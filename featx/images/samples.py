"""Samples of any depth, from a second decoder, to RGB over white."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import numpy as np
from PIL import Image

from featx.images.fault import BadImage

_TOGETHER = 1 << 20  # numbers
SECOND_DECODERS = ("imagecodecs", "tifffile", "pillow_heif", "pydicom")
FORMATS_READ = 4  # raised when files of a format are read that were not


def need(package: str) -> Any:
    """A package that decodes what Pillow cannot.

    Raises
    ------
    BadImage
        It is not installed.
    """
    logger = logging.getLogger(package)
    if logger.level != logging.CRITICAL:  # to set it empties what all loggers remember, which slows each image down
        logger.setLevel(logging.CRITICAL)  # what it finds odd is no news to who reads images
    try:
        return importlib.import_module(package)
    except ImportError:
        raise BadImage(f"Pillow cannot read it, and {package}, which can, is missing: pip install {package}") from None


def to_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned numbers of so many bits (up to 16), rounded to 0 to 255."""
    most = (1 << bits) - 1
    scaled = np.empty(values.shape, np.uint8)
    rows = max(1, _TOGETHER // max(1, values[0].size)) if len(values) else 1
    for first in range(0, len(values), rows):  # a large image takes four times its memory otherwise
        some = values[first : first + rows].astype(np.uint32)
        scaled[first : first + rows] = (some * 510 + most) // (2 * most)
    return scaled


def over_white(channels: np.ndarray, premultiplied: bool = False) -> Image.Image:
    """RGB of uint8 (height, width, n): grey, grey with alpha, RGB, or RGB with alpha."""
    count = channels.shape[2]
    if count in (1, 2):
        channels = np.concatenate([np.repeat(channels[..., :1], 3, axis=2), channels[..., 1:]], axis=2)
    if channels.shape[2] == 3:
        return Image.fromarray(np.ascontiguousarray(channels))
    alpha = channels[..., 3]
    if premultiplied:
        white = 255 - alpha[..., None].astype(np.uint16)
        return Image.fromarray(np.minimum(channels[..., :3] + white, 255).astype(np.uint8))
    colours = Image.fromarray(np.ascontiguousarray(channels[..., :3]))
    white_image = Image.new("RGB", colours.size, (255, 255, 255))
    white_image.paste(colours, mask=Image.fromarray(np.ascontiguousarray(alpha)))
    return white_image
