"""Pixels of any mode to upright 8-bit RGB, over white."""

from __future__ import annotations

import numpy as np
from PIL import Image

from featx.images.fault import DAMAGE, BadImage
from featx.images.samples import to_8_bits

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB: turned by its EXIF orientation, over white where it is transparent.

    Raises
    ------
    BadImage
        When its values have no known black and white.
    """
    image.load()
    return _to_rgb(turn(image, orientation_of(image)), image.format)  # after loading: TIFF is turned by its decoder


def orientation_of(image: Image.Image) -> int:
    """Its EXIF orientation, 1 where it has none."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except DAMAGE:  # EXIF that cannot be parsed says nothing about the pixels
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and file_format == "PPM"):  # PPM: 16 bits, held in 32
        return _halve_depth(image).convert("RGB")
    if mode in ("I", "F"):
        kind = "whole numbers" if mode == "I" else "fractions"
        raise BadImage(f"pixels are 32-bit {kind}, whose black and white are not known: save it with 8 or 16 bits")
    if mode == "LAB":
        raise BadImage("its colours are CIELAB: save it as RGB")
    if image.has_transparency_data:
        return _over_white(image)
    # A copy, since the file's own image is closed with the file.
    return image.convert("RGB") if mode != "RGB" else image.copy()


def _halve_depth(image: Image.Image) -> Image.Image:
    return Image.fromarray(to_8_bits(np.asarray(image), 16))  # Image.convert would clip at 255 instead


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """An image turned as an EXIF orientation says; any other number leaves it as it is."""
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)
