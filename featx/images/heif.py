"""HEIC and other HEIF images, by pillow-heif, an extra: pip install 'featx[heic]'."""

from __future__ import annotations

from importlib.util import find_spec
from typing import IO, Any

import numpy as np
from PIL import Image

from featx.images.levels import scale
from featx.images.samples import over_white
from featx.io.filetypes import HEIC, HEIF, describe_content

PACKAGE = "pillow_heif"
_CHANNELS = {"L": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}


def is_heic(head: bytes) -> bool:
    """Whether a file begins as one, and can be read; videos and AVIF, which Pillow reads, begin much the same."""
    return describe_content(head) == HEIC and find_spec(PACKAGE) is not None


def is_heif(head: bytes) -> bool:
    """The same of HEIF files that are not, or not known to be, HEIC."""
    return describe_content(head) == HEIF and find_spec(PACKAGE) is not None


class HeifFile:
    """The main image of a file. size : (width, height), upright: its decoder turns it."""

    def __init__(self, file: IO[bytes]) -> None:
        import pillow_heif

        file.seek(0)
        self._image: Any = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
        self.size: tuple[int, int] = self._image.size

    def decode(self, levels: str) -> Image.Image:
        """Its RGB pixels, over white; levels : which of the values of deep files are black and white."""
        mode = self._image.mode
        values = np.asarray(self._image)
        values = values.reshape(self.size[1], self.size[0], -1)[..., : _CHANNELS[mode.partition(";")[0]]]
        if values.dtype != np.uint8:  # of 10 or 12 bits, which stand in the upper ones of 16
            bits = int(self._image.info["bit_depth"])
            values = scale(values >> (16 - bits), bits, levels, alpha=values.shape[2] in (2, 4))
        return over_white(values, bool(self._image.premultiplied_alpha))
