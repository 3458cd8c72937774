"""PAM files (P7 of the Netpbm formats): grey and RGB of up to 16 bits, with or without alpha."""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image

from featx.images.fault import BadImage
from featx.images.levels import FULL, scale
from featx.images.samples import over_white

_START = b"P7\n"
_HEADER = 1 << 14  # bytes
_DEPTHS = {1: "BLACKANDWHITE or GRAYSCALE", 2: "GRAYSCALE_ALPHA", 3: "RGB", 4: "RGB_ALPHA"}
_KINDS = {"": 0, "BLACKANDWHITE": 1, "GRAYSCALE": 1, "BLACKANDWHITE_ALPHA": 2, "GRAYSCALE_ALPHA": 2}
_KINDS |= {"RGB": 3, "RGB_ALPHA": 4}


def is_pam(head: bytes) -> bool:
    """Whether a file begins as one."""
    return head.startswith(_START)


class PamFile:
    """A file. size : (width, height)"""

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        head, end, _ = file.read(_HEADER).partition(b"\nENDHDR\n")
        if not end:
            raise EOFError("its header has no end")
        self._file, self._start = file, len(head) + len(end)
        stated = [line.split(None, 1) for line in head.decode("latin-1").splitlines()[1:] if not line.startswith("#")]
        said = {one[0]: one[1].strip() for one in stated if len(one) == 2}
        self.size = int(said["WIDTH"]), int(said["HEIGHT"])
        self._depth, self._most, self._kind = int(said["DEPTH"]), int(said["MAXVAL"]), said.get("TUPLTYPE", "")
        if min(*self.size, self._depth, self._most) < 1 or self._most > 65_535:
            raise ValueError("its header has numbers out of range")

    def decode(self, levels: str) -> Image.Image:
        """The RGB pixels, over white; levels : which of the values of files of 16 bits are black and white."""
        if self._depth not in _DEPTHS or _KINDS.get(self._kind, -1) not in (0, self._depth):
            raise BadImage(
                f"its {self._depth} channels ({self._kind or 'not named'}) are not grey or RGB: save it as RGB"
            )
        width, height = self.size
        count, form = width * height * self._depth, "u1" if self._most < 256 else ">u2"
        self._file.seek(self._start)
        values = np.frombuffer(self._file.read(count * np.dtype(form).itemsize), form)
        if len(values) < count:
            raise EOFError("it is cut off")
        values = values.reshape(height, width, self._depth)
        if levels != FULL and self._most == 65_535:
            return over_white(scale(values.astype(np.uint16), 16, levels, alpha=self._depth in (2, 4)))
        return over_white(_shares(np.minimum(values, self._most), self._most))


def _shares(values: np.ndarray, most: int) -> np.ndarray:
    """Numbers up to `most` as 0 to 255, rounded."""
    scaled = np.empty(values.shape, np.uint8)
    for row, some in zip(scaled, values, strict=True):
        row[...] = (some.astype(np.uint32) * 510 + most) // (2 * most)
    return scaled
