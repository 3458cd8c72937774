"""JPEG files of 9 to 16 bits, by imagecodecs: Pillow reads only 8."""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image

from featx.images import jpeg
from featx.images.fault import BadImage
from featx.images.levels import scale
from featx.images.samples import need, over_white
from featx.images.upright import orientation_of, turn


class DeepJpegFile:
    """A file. size : (width, height), as it is stored"""

    def __init__(self, file: IO[bytes]) -> None:
        frame = jpeg.read_frame(file)
        if frame is None or not frame.readable:
            raise BadImage("a damaged JPEG file" if frame is None else frame.fault)
        self._file, self._frame = file, frame
        self.size = (frame.width, frame.height)

    def decode(self, levels: str) -> Image.Image:
        """The RGB pixels, upright; levels : which of its values are black and white."""
        if self._frame.channels not in (1, 3):
            raise BadImage(f"its colours are not grey or RGB ({self._frame.channels} channels): save it as RGB")
        self._file.seek(0)
        content = self._file.read()
        values: np.ndarray = need("imagecodecs").jpeg8_decode(jpeg.without_metadata(self._file) or content)
        bits = self._frame.bits
        pixels = over_white(scale(np.minimum(values, (1 << bits) - 1).reshape(*values.shape[:2], -1), bits, levels))
        return turn(pixels, _orientation(content))


def is_deep_jpeg(file: IO[bytes]) -> bool:
    """Whether its header says so; files of other kinds that Pillow does not read are named by their first bytes."""
    frame = jpeg.read_frame(file)
    return frame is not None and (frame.bits != 8 or not frame.readable)


def _orientation(content: bytes) -> int:
    exif = jpeg.find_exif(content)
    image = Image.new("L", (1, 1))
    image.info["exif"] = exif or b""
    return orientation_of(image)
