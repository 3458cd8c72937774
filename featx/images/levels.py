"""Which values of deep files are black and white, if less than the full range of their samples is meant.

Scanners and cameras write 10 to 14 bits into files that state 16, and such images are nearly black. What is done is
named by one word, the option `features.levels`, which is a part of the rule of resizing (`featx.images.resize`).
"""

from __future__ import annotations

import re
from typing import IO

import numpy as np
from PIL import Image, PngImagePlugin

from featx.images import png
from featx.images.fault import DAMAGE, BadImage
from featx.images.samples import need, over_white, to_8_bits

FULL = "full"
LEVELS = (FULL, "10bit", "12bit", "14bit", "minmax", "percentile")
PERCENT = (1, 99)
_TOGETHER = 1 << 20  # numbers
_PPM = re.compile(rb"P([2356])((?:\s|#[^\n]*\n)+)(\d+)((?:\s|#[^\n]*\n)+)(\d+)((?:\s|#[^\n]*\n)+)(\d+)\s")
_HEADER = 4096  # bytes of a PPM file that hold its sizes


def scale(values: np.ndarray, bits: int, levels: str, alpha: bool = False) -> np.ndarray:
    """Unsigned numbers (height, width, n) of so many bits as uint8.

    levels : one of `LEVELS`; "12bit": 4,095 is white in files that state 16 bits; "minmax" and "percentile": the
        smallest number of an image is black and its largest white, or those that 1 % are below and above, for files of
        more than 8 bits; "full" for all others
    alpha : whether the last channel is one, which is never spread
    """
    if levels == FULL or bits <= 8:
        return to_8_bits(values, bits)
    if levels.endswith("bit"):
        used = int(levels.removesuffix("bit"))
        return to_8_bits(values, bits) if bits != 16 else to_8_bits(np.minimum(values, (1 << used) - 1), used)
    colours = values[..., :-1] if alpha else values
    ends = [colours.min(), colours.max()] if levels == "minmax" else np.percentile(colours, PERCENT)
    low, high = map(float, ends)
    if high <= low:
        return to_8_bits(values, bits)
    scaled = np.empty(values.shape, np.uint8)
    rows = max(1, _TOGETHER // max(1, values[0].size))
    for first in range(0, len(values), rows):
        some = (colours[first : first + rows].astype(np.float64) - low) / (high - low)
        scaled[first : first + rows, ..., : colours.shape[-1]] = np.floor(255 * np.clip(some, 0, 1) + 0.5)
    if alpha:
        scaled[..., -1:] = to_8_bits(values[..., -1:], bits)
    return scaled


def decode_by_levels(file: IO[bytes], image: Image.Image, levels: str) -> Image.Image | None:
    """The RGB pixels, as they lie in the file, of PNG and PPM files of 16 bits; None for all others.

    image : what Pillow makes of the file, of which it keeps the upper 8 bits where it has colours

    Raises
    ------
    BadImage
        The second decoder refuses the file, which Pillow may read.
    """
    try:
        if isinstance(image, PngImagePlugin.PngImageFile):
            return _decode_png(file, levels) if png.is_deep(file) else None
        return _decode_ppm(file, levels) if image.format == "PPM" else None
    except BadImage:
        raise
    except DAMAGE as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise
        raise BadImage(f"damaged: {error} (it is read in full for --levels {levels})", transient=True) from error


def _decode_png(file: IO[bytes], levels: str) -> Image.Image:
    file.seek(0)
    values: np.ndarray = need("imagecodecs").png_decode(png.without_metadata(file) or _all_of(file))
    values = values.reshape(*values.shape[:2], -1)  # a transparent colour has become alpha
    return over_white(scale(values, 16, levels, alpha=values.shape[2] in (2, 4)))


def _decode_ppm(file: IO[bytes], levels: str) -> Image.Image | None:
    file.seek(0)
    found = _PPM.match(file.read(_HEADER))
    if found is None or int(found[7]) <= 255 or int(found[7]) > 65_535:
        return None
    kind, width, height, most = found[1], int(found[3]), int(found[5]), int(found[7])
    shape = (height, width, 3 if kind in b"36" else 1)
    count = height * width * shape[2]
    file.seek(found.end())
    if kind in b"56":
        values = np.frombuffer(file.read(2 * count), ">u2")
    else:
        values = np.array(re.sub(rb"#[^\n]*", b"", file.read()).split()[:count], np.float64)
    if len(values) < count:
        raise BadImage("damaged: it is cut off")
    values = values.reshape(shape).astype(np.uint16)
    if most != 65_535:  # it states what is white
        if levels.endswith("bit"):
            return None
        values = np.minimum(values, most)
    return over_white(scale(values, 16, levels))


def _all_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
