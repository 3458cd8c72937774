"""JPEG 2000 of depths other than 8 bits: Pillow shifts values so that the largest wrap round to 0."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image

from featx.images.fault import BadImage
from featx.images.levels import FULL, scale
from featx.images.samples import need, over_white, to_8_bits

_CODESTREAM = b"\xff\x4f\xff\x51"
_BOXES = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_SRGB, _GREY, _YCC, _CMYK = 16, 17, 18, 12
_MOST_BOXES = 1000  # a file has a handful


@dataclass(frozen=True)
class Jpeg2000:
    """What the header of a JPEG 2000 file says.

    bits : of each component; signed : whether any has signed numbers
    colours : the number of its colour space, None where it names none; palette : whether its numbers mean a palette
    """

    bits: tuple[int, ...]
    signed: bool
    colours: int | None = None
    palette: bool = False

    @property
    def deep(self) -> bool:
        """Whether it is of a kind that 0.1.0 got wrong."""
        return not self.palette and (self.signed or any(bits != 8 for bits in self.bits))


def read_header(file: IO[bytes]) -> Jpeg2000 | None:
    """What its header says, None where it has none."""
    file.seek(0)
    head = file.read(12)
    if head.startswith(_CODESTREAM):
        return _read_size(file, 2, None, False)
    if head != _BOXES:
        return None
    colours, palette = None, False
    position = 0
    for _ in range(_MOST_BOXES):
        file.seek(position)
        length, name, start = _read_box(file, position)
        if name == b"jp2c":
            return _read_size(file, start + 2, colours, palette)
        if name == b"jp2h":  # its boxes follow
            position = start
            continue
        if name == b"pclr":
            palette = True
        elif name == b"colr" and colours is None:
            content = file.read(7)
            if content[:1] == b"\x01" and len(content) == 7:
                colours = int.from_bytes(content[3:], "big")
        if length < 8:
            return None
        position += length
    return None


def _read_box(file: IO[bytes], position: int) -> tuple[int, bytes, int]:
    """Length and name of the box at a position, and where its content begins."""
    head = file.read(8)
    if len(head) < 8:
        return 0, b"", position
    length, name = struct.unpack(">I4s", head)
    if length == 1:
        return int.from_bytes(file.read(8), "big"), name, position + 16
    return length, name, position + 8


def _read_size(file: IO[bytes], position: int, colours: int | None, palette: bool) -> Jpeg2000 | None:
    file.seek(position)
    segment = file.read(40)
    if segment[:2] != b"\xff\x51" or len(segment) < 40:
        return None
    (count,) = struct.unpack_from(">H", segment, 38)
    depths = file.read(3 * count)[::3]
    if not 0 < len(depths) == count:
        return None
    return Jpeg2000(tuple((one & 127) + 1 for one in depths), any(one & 128 for one in depths), colours, palette)


def decode_deep(file: IO[bytes], header: Jpeg2000, levels: str = FULL) -> Image.Image:
    """The RGB pixels of a file whose header is `deep`; levels : which of its values are black and white."""
    if header.signed:
        raise BadImage("its pixels are signed numbers, whose black and white are not known: save it unsigned")
    count = len(header.bits)
    if max(header.bits) > 16:
        raise BadImage(f"its channels have {max(header.bits)} bits: save it with 8 or 16 bits each")
    if count > 4 or header.colours in (_YCC, _CMYK):
        raise BadImage(f"its colours are not grey or RGB ({count} channels of {max(header.bits)} bits): save it as RGB")
    file.seek(0)
    values = need("imagecodecs").jpeg2k_decode(file.read(), planar=False)
    values = values.reshape(*values.shape[:2], -1)
    if levels != FULL and len(set(header.bits)) == 1:
        return over_white(scale(values, header.bits[0], levels, alpha=count in (2, 4)))
    return over_white(np.stack([to_8_bits(values[..., i], bits) for i, bits in enumerate(header.bits)], axis=-1))
