"""Files of 16 bits that hold fewer: cameras and scanners of 10 to 14 bits write such ones, which are nearly black."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from featx.images import png, tiff

# The largest value of 255 that 10, 12 and 14 bits come to where 16 are the whole.
_LARGEST = {10: 4, 12: 16, 14: 64}


def bits_used(path: str | Path, image: Image.Image) -> int:
    """How many of its 16 bits an image uses: 10, 12 or 14 where it is that dark, else 0.

    path : of the file that `image`, in RGB, was decoded from
    """
    largest = int(np.asarray(image).max())
    bits = next((bits for bits, most in _LARGEST.items() if largest <= most), 0)
    if not bits or not largest:  # all black: nobody can tell
        return 0
    try:
        with open(path, "rb") as file:
            return bits if _has_16_bits(file) else 0
    except OSError:
        return 0


def _has_16_bits(file: IO[bytes]) -> bool:
    head = file.read(64)
    if head.startswith(png.SIGNATURE):
        return head[24:25] == b"\x10"
    if head[:2] in (b"II", b"MM"):
        page = tiff.read_header(file)
        return page is not None and max(page.bits) == 16
    found = re.match(rb"P[256]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s+(\d+)\s", head)
    return found is not None and int(found[1]) == 65_535


def describe_dark(used: list[int]) -> str | None:
    """A sentence on the bits that the dark images of a set use; None where there are none.

    used : what `bits_used` found of each image
    """
    dark = [bits for bits in used if bits]
    if not dark:
        return None
    bits, one = max(dark), len(dark) == 1
    which = "is nearly black: a file" if one else "are nearly black: files"
    return (
        f"{len(dark):,} of {len(used):,} images {which} of 16 bits of which {bits} are used. Multiply the values by "
        f"{1 << (16 - bits)} and save {'it' if one else 'them'} again, unless the scene was as dark as that."
    )
