"""BMP files that Pillow refuses or misreads: any bit fields, run-length encoding, few colours."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image

from featx.images.fault import BadImage
from featx.images.samples import over_white, to_8_bits

_PLAIN, _RUNS_8, _RUNS_4, _MASKS, _MASKS_ALPHA = 0, 1, 2, 3, 6
_MOST_RAMP = 16  # colours, of those that are looked at
_COMPRESSIONS = {
    (_MASKS, 1): "a BMP file compressed as a fax (Huffman): convert it to PNG",  # of OS/2
    (4, 24): "a BMP file of 24-bit runs: convert it to PNG",  # of OS/2
    (4, 0): "a JPEG file within a BMP file: convert it to PNG",
    (5, 0): "a PNG file within a BMP file: convert it to PNG",
}
_CORE, _INFO, _LONGEST = 12, 40, 124
_FILE = 14  # bytes before the header
# The masks that Pillow reads; all others are read here.
_USUAL = {
    16: ((0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)),
    32: (
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF000000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
        (0, 0, 0, 0),
    ),
}


@dataclass(frozen=True)
class Bitmap:
    """What the header says.

    start : where the pixels are; table : where the colours are; masks : red to alpha
    ramp : whether its colours are grey, from black on, in single steps, or black and white
    """

    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    start: int
    table: int
    colours: int
    masks: tuple[int, int, int, int]
    ramp: bool

    @property
    def by_masks(self) -> bool:
        """Whether its colours stand in bits that Pillow does not know of."""
        stated = self.compression in (_MASKS, _MASKS_ALPHA) and self.bits in _USUAL
        return stated and self.masks not in _USUAL[self.bits]

    @property
    def by_runs(self) -> bool:
        """Whether equal pixels are counted."""
        return (self.compression, self.bits) in ((_RUNS_8, 8), (_RUNS_4, 4))

    @property
    def by_table(self) -> bool:
        """Whether Pillow takes its numbers for grey of another depth, or does not know the depth."""
        if self.compression != _PLAIN:
            return False
        as_bits = self.colours == 2 or self.colours == 1
        return self.bits == 2 or (self.ramp and (self.bits == 4 or (self.bits == 8 and as_bits)))

    @property
    def fault(self) -> str | None:
        """Why neither Pillow nor this module reads it, None where one does."""
        return _COMPRESSIONS.get((self.compression, self.bits)) or _COMPRESSIONS.get((self.compression, 0))

    @property
    def wrong_before_3(self) -> bool:
        """Whether Pillow takes another picture for it."""
        if self.by_table:
            return self.bits != 2
        alpha_of_16 = self.by_masks and self.bits == 16 and self.masks[:3] in {one[:3] for one in _USUAL[16]}
        return alpha_of_16 or (self.by_runs and self.start % 2 == 1)


def read_header(file: IO[bytes]) -> Bitmap | None:
    """What its header says; None where it is no BMP file, or has a header of an unknown size."""
    file.seek(0)
    head = file.read(_FILE + _LONGEST + 4 * _MOST_RAMP)
    if len(head) < _FILE + _CORE or not head.startswith(b"BM"):
        return None
    start, size = struct.unpack_from("<II", head, 10)
    if size < _INFO or len(head) < _FILE + _INFO:
        return None  # of 12 bytes: all of these are plain
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", head, _FILE + 4)
    (colours,) = struct.unpack_from("<I", head, _FILE + 32)
    masks, table = (0, 0, 0, 0), _FILE + size
    colours = colours or (1 << bits if bits <= 8 else 0)
    ramp = bits <= 8 and 0 < colours <= _MOST_RAMP and _is_ramp(head[table : table + 4 * colours], colours)
    if compression in (_MASKS, _MASKS_ALPHA) and bits in _USUAL:
        count = 4 if size >= 56 or compression == _MASKS_ALPHA else 3
        if len(head) < _FILE + _INFO + 4 * count:
            return None
        masks = (*struct.unpack_from(f"<{count}I", head, _FILE + _INFO), 0)[:4]
    return Bitmap(width, abs(height), height < 0, bits, compression, start, table, colours, masks, ramp)


def _is_ramp(table: bytes, colours: int) -> bool:
    greys = (0, 255) if colours == 2 else range(colours)
    return len(table) == 4 * colours and all(table[4 * n : 4 * n + 3] == bytes([v] * 3) for n, v in enumerate(greys))


class BitmapFile:
    """A file that Pillow does not read right. size : (width, height)"""

    def __init__(self, file: IO[bytes]) -> None:
        header = read_header(file)
        if header is None or header.width < 0:
            raise BadImage("a damaged BMP file")
        if header.fault is not None:
            raise BadImage(header.fault)
        self._file, self._header = file, header
        self.size = (header.width, header.height)

    def decode(self, levels: str) -> Image.Image:  # noqa: ARG002 - no bits are more than 8 of a colour, but for few
        """Its RGB pixels, over white."""
        if self._header.by_masks:
            return _by_masks(self._file, self._header)
        return _by_table(self._file, self._header)


def is_unusual(file: IO[bytes]) -> bool:
    """Whether it is a BMP file for this module: one that it reads, or refuses in its words."""
    header = read_header(file)
    return header is not None and (header.by_masks or header.by_runs or header.by_table or header.fault is not None)


def _by_masks(file: IO[bytes], header: Bitmap) -> Image.Image:
    size = header.bits // 8
    pixels = _rows(file, header, header.width * size)
    pixels = np.ascontiguousarray(pixels).view(f"<u{size}")
    masks = header.masks if header.masks[3] else header.masks[:3]
    channels = np.stack([_channel(pixels, mask) for mask in masks], axis=2)
    if channels.shape[2] == 4 and not channels[..., 3].any():
        channels = channels[..., :3]  # nobody fills the alpha of an image that is to be seen with zeros
    return over_white(channels if header.top_down else channels[::-1])


def _rows(file: IO[bytes], header: Bitmap, used: int) -> np.ndarray:
    """The bytes of the rows, as they lie in the file, of which so many are used."""
    stride = -(-used // 4) * 4
    file.seek(header.start)
    content = file.read(stride * header.height)
    if len(content) < stride * header.height:
        raise BadImage("truncated: a BMP file that ends within its pixels")
    return np.frombuffer(content, np.uint8).reshape(header.height, stride)[:, :used]


def _channel(pixels: np.ndarray, mask: int) -> np.ndarray:
    """The bits of a mask, of which there may be none, as 0 to 255."""
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    most = mask >> shift
    bits = most.bit_length()
    if most & (most + 1):
        raise BadImage("a BMP file of colours in bits that are apart: convert it to PNG")
    if not mask:
        return np.zeros(pixels.shape, np.uint8)
    values = (pixels & np.array(mask, pixels.dtype)) >> shift
    return to_8_bits(values if bits <= 16 else values >> (bits - 16), min(bits, 16))


def _by_table(file: IO[bytes], header: Bitmap) -> Image.Image:
    file.seek(header.table)
    table = file.read(4 * min(header.colours, 1 << header.bits))
    colours = np.zeros((1 << header.bits, 3), np.uint8)
    known = np.frombuffer(table[: len(table) // 4 * 4], np.uint8).reshape(-1, 4)[:, 2::-1]
    colours[: len(known)] = known
    if header.by_runs:
        file.seek(header.start)
        numbers = _unrolled(file.read(), header)
    else:
        rows = _rows(file, header, -(-header.width * header.bits // 8))
        parts = np.arange(8 - header.bits, -1, -header.bits, dtype=np.uint8)
        numbers = (rows[..., None] >> parts & ((1 << header.bits) - 1)).reshape(header.height, -1)[:, : header.width]
    return Image.fromarray(colours[numbers if header.top_down else numbers[::-1]])


def _unrolled(content: bytes, header: Bitmap) -> np.ndarray:
    """The numbers of the pixels, in the order of the file; what is left out has the first colour."""
    pixels = np.zeros((header.height, header.width), np.uint8)
    x = y = at = 0
    while at + 2 <= len(content) and y < header.height:
        count, one = content[at], content[at + 1]
        at += 2
        if count:
            some = bytes([one]) if header.bits == 8 else bytes([one >> 4, one & 15])
            x = _put(pixels, y, x, (some * -(-count // len(some)))[:count])
        elif one == 0:
            x, y = 0, y + 1
        elif one == 1:
            return pixels
        elif one == 2:
            right, down = content[at : at + 2].ljust(2, b"\0")
            x, y, at = x + right, y + down, at + 2
        else:
            length = one if header.bits == 8 else -(-one // 2)
            some = content[at : at + length]
            if len(some) < length:
                break
            if header.bits == 4:
                some = b"".join(bytes([byte >> 4, byte & 15]) for byte in some)[:one]
            x, at = _put(pixels, y, x, some), at + length + length % 2
    if y < header.height - 1 or (y == header.height - 1 and x < header.width):
        raise BadImage("truncated: a BMP file that ends within its pixels")
    return pixels


def _put(pixels: np.ndarray, y: int, x: int, some: bytes) -> int:
    """Lay pixels down in a row, as far as there is room."""
    room = max(0, pixels.shape[1] - x)
    pixels[y, x : x + min(room, len(some))] = np.frombuffer(some[:room], np.uint8)
    return x + len(some)
