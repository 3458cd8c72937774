"""JPEG XL, by imagecodecs. The header is read here, since the decoder allocates memory before it reports the size."""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image

from featx.images.fault import BadImage
from featx.images.levels import scale
from featx.images.samples import need, over_white

_CODESTREAM = b"\xff\x0a"
_BOXES = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_HEADER = 256  # bytes of a codestream that hold its size and depth
_MOST_BOXES = 1000
# The shapes that the width follows from, by their numbers (ISO/IEC 18181-1, SizeHeader).
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIDES = ((1, 9), (1, 13), (1, 18), (1, 30))


def is_jpeg_xl(head: bytes) -> bool:
    """Whether a file begins as one."""
    return head.startswith((_CODESTREAM, _BOXES))


class JpegXlFile:
    """A file. size : (width, height), as it is stored"""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        bits = _Bits(_codestream(file))
        self.size = _read_size(bits)
        self._bits, self._fractions = _read_depth(bits)

    def decode(self, levels: str) -> Image.Image:
        """The RGB pixels of its first frame, upright, over white; levels : which values are black and white."""
        if self._fractions:
            raise BadImage("pixels are fractions, whose black and white are not known: save it with 8 or 16 bits")
        if self._bits > 16:
            raise BadImage(f"pixels have {self._bits} bits: save it with 8 or 16")
        self._file.seek(0)
        codecs = need("imagecodecs")
        if not codecs.JPEGXL.available:
            raise BadImage("a JPEG XL image, which imagecodecs was built without: convert it to PNG")
        values: np.ndarray = codecs.jpegxl_decode(self._file.read(), index=0, keeporientation=False)
        values = values.reshape(*values.shape[:2], -1)
        if values.shape[2] > 4:
            raise BadImage(f"its {values.shape[2]} channels are not grey or RGB: save it as RGB")
        return over_white(scale(values, self._bits, levels, alpha=values.shape[2] in (2, 4)))


class _Bits:
    """Reads numbers of a header, whose lowest bits come first."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content, "little"), 8 * len(content)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise EOFError("its header is cut off")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        return value

    def choose(self, *forms: tuple[int, int]) -> int:
        """A number in one of four forms: an offset, and how many bits are added to it."""
        offset, count = forms[self.take(2)]
        return offset + self.take(count)


def _codestream(file: IO[bytes]) -> bytes:
    """The first bytes of the codestream behind its mark: that of the file, or that in its boxes."""
    file.seek(0)
    head = file.read(_HEADER)
    if head.startswith(_CODESTREAM):
        return head[2:]
    position = 0
    for _ in range(_MOST_BOXES):
        file.seek(position)
        box = file.read(16)
        length, name, start = int.from_bytes(box[:4], "big"), box[4:8], 8
        if length == 1:
            length, start = int.from_bytes(box[8:16], "big"), 16
        if name in (b"jxlc", b"jxlp"):
            file.seek(position + start + (4 if name == b"jxlp" else 0))  # parts are numbered
            return file.read(_HEADER)[2:]
        if length < 8:
            break
        position += length
    raise EOFError("it has no codestream")


def _read_size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else bits.choose(*_SIDES)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if small else bits.choose(*_SIDES)), height


def _read_depth(bits: _Bits) -> tuple[int, bool]:
    """How many bits a sample has, and whether it is a fraction (ImageMetadata of the same standard)."""
    if bits.take(1):  # all is as usual
        return 8, False
    if bits.take(1):  # more of it
        bits.take(3)
        if bits.take(1):
            _read_size(bits)
        if bits.take(1):
            _skip_preview(bits)
        if bits.take(1):
            bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
            bits.take(1)
    if bits.take(1):
        return bits.choose((32, 0), (16, 0), (24, 0), (1, 6)), True
    return bits.choose((8, 0), (10, 0), (12, 0), (1, 6)), False


def _skip_preview(bits: _Bits) -> None:
    eighths = bits.take(1)
    forms = ((16, 0), (32, 0), (1, 5), (33, 9)) if eighths else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.choose(*forms)
    if not bits.take(3):
        bits.choose(*forms)
