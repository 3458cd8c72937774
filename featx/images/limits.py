"""The maximum size of an image, checked in its header before memory is allocated."""

from __future__ import annotations

import re

from featx.images.fault import BadImage

MAX_PIXELS = 178_956_970  # twice Pillow's warning level: where Pillow itself refuses
MAX_SIDE = 1_000_000  # resampling a side takes 16 to 32 bytes for each of its pixels


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image of more pixels than `max_pixels`, or of an extreme side.

    Raises
    ------
    BadImage
        It is too large.
    """
    if size[0] * size[1] > max_pixels:
        raise BadImage(_over_limit(size[0] * size[1], max_pixels))
    if max(size) > MAX_SIDE:
        raise BadImage(f"{size[0]:,} x {size[1]:,} pixels: over the limit of {MAX_SIDE:,} on a side")


def describe_bomb(error: Exception, max_pixels: int) -> str:
    """Pillow's own refusal of a large image, in the same words."""
    pixels = re.search(r"\((\d+) pixels\)", str(error))
    return _over_limit(int(pixels[1]), max_pixels) if pixels else f"too large: {error}"


def _over_limit(pixels: int, max_pixels: int) -> str:
    return f"{_millions(pixels)} megapixels: over the limit of {_millions(max_pixels)}"


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:.0f}" if pixels >= 10_000_000 else f"{pixels / 1e6:.2g}"
