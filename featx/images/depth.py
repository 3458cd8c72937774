"""16-bit files that hold fewer bits, as cameras and scanners of 10 to 14 bits write them, nearly black.

They are found here; the option `features.levels` says what their values mean (`featx.images.levels`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from featx.images import jpeg2000, png, tiff
from featx.images.decoder import decode
from featx.images.fault import BadImage
from featx.images.levels import FULL
from featx.io.counting import agreeing, counted, counted_of
from featx.io.urls import is_url

# The largest value of 255 that 10, 12 and 14 bits come to where 16 are the whole.
_LARGEST = {10: 4, 12: 16, 14: 64}
_JPEG_2000 = (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")


def bits_used(path: str | Path, image: Image.Image) -> int:
    """How many of its 16 bits an image uses: 10, 12 or 14 where it is that dark, else 0.

    path : of the file that `image`, in RGB, was decoded from
    """
    largest = int(np.asarray(image).max())
    bits = next((bits for bits, most in _LARGEST.items() if largest <= most), 0)
    if not bits or not largest:  # all black: unknowable
        return 0
    try:
        with open(path, "rb") as file:
            return bits if _has_16_bits(file) else 0
    except OSError:
        return 0


def note_levels(paths: Iterable[str], levels: str = FULL) -> str | None:
    """A sentence on how the values of some images are read, where that is not as usual, or should not be."""
    if levels != FULL:
        return describe_levels(levels)
    return describe_dark([_bits_used_by(path) for path in paths])


def describe_levels(levels: str) -> str:
    """A sentence on levels that are not the default."""
    meaning = {
        "minmax": "the smallest of each image is black and its largest white",
        "percentile": "the darkest 1 % of each image are black, the brightest 1 % white",
    }
    white = f"{(1 << int(levels[:-3])) - 1:,} is white in files of 16 bits" if levels.endswith("bit") else ""
    return f"Values of deep files are read by the levels {levels}: {meaning.get(levels, white)}."


def _bits_used_by(path: str) -> int:
    if is_url(path):
        return 0
    try:
        with open(path, "rb") as file:
            deep = _has_16_bits(file)
        return bits_used(path, decode(path)) if deep else 0
    except (OSError, BadImage):
        return 0


def _has_16_bits(file: IO[bytes]) -> bool:
    head = file.read(64)
    if head.startswith(png.SIGNATURE):
        return head[24:25] == b"\x10"
    if head[:2] in (b"II", b"MM"):
        page = tiff.read_header(file)
        return page is not None and max(page.bits) == 16
    if head.startswith(_JPEG_2000):
        codestream = jpeg2000.read_header(file)
        return codestream is not None and max(codestream.bits) == 16
    found = re.match(rb"P[2356]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s+(\d+)\s", head)
    return found is not None and int(found[1]) == 65_535


def describe_dark(used: list[int]) -> str | None:
    """A sentence on the bits that the dark images of a set use; None where there are none.

    used : what `bits_used` found of each image
    """
    dark = [bits for bits in used if bits]
    if not dark:
        return None
    bits = max(dark)
    which = agreeing(len(dark), "is nearly black: a file", "are nearly black: files")
    return (
        f"{counted_of(len(dark), len(used), 'image')} {which} of 16 bits of which {counted(bits, 'is', 'are')} used. "
        f"Add --levels {bits}bit to every command (features.levels in a pipeline file), unless the scenes were as dark "
        "as that."
    )
