"""JPEG files without their metadata, and whether their scans are complete."""

from __future__ import annotations

import importlib
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from featx.images.fault import DamagedScan

_MOST = 1 << 30  # bytes of a file that are looked through for what to leave out
_OF_SCANS = ("Corrupt JPEG data", "Inconsistent progression")
_TABLES, _SCAN, _COMMENT = 0xDB, 0xDA, 0xFE
_LARGEST = 1024  # the mean of a block of 8 x 8 numbers from -128 to 127, times 8
_PADDING = 8  # bytes
_SIGNS = 3  # blocks beyond it: an encoder's rounding is not taken for damage
_HUFFMAN, _ARITHMETIC = (0xC0, 0xC1, 0xC2, 0xC3), (0xC9, 0xCA)
_LOSSLESS, _LS = 0xC3, 0xF7
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # tables, and what is kept for later, among the numbers of frames


@dataclass(frozen=True)
class Frame:
    """What the header of the frame says. process : how it is coded, as its marker is numbered (T.81, table B.1)"""

    process: int
    bits: int
    width: int
    height: int
    channels: int

    @property
    def lossless(self) -> bool:
        """Whether it is coded by prediction, and so of no size but its own."""
        return self.process == _LOSSLESS

    @property
    def readable(self) -> bool:
        """Whether a decoder at hand reads frames of this process and depth."""
        if self.lossless:
            return 2 <= self.bits <= 16
        return self.process in _HUFFMAN + _ARITHMETIC and self.bits in (8, 12)

    @property
    def fault(self) -> str:
        """Why it is not `readable`, as far as it is of a kind that is known."""
        if self.process == _LS:
            return "a JPEG-LS image: convert it to PNG"
        if self.process in _HUFFMAN + _ARITHMETIC:
            return f"a JPEG file of {self.bits} bits, which is neither 8 nor 12: convert it to PNG"
        return "a JPEG file that is coded in an unusual way (hierarchical or arithmetic): convert it to PNG"


def read_frame(file: IO[bytes]) -> Frame | None:
    """The first frame of a JPEG file; None where its segments are not as they should be."""
    file.seek(0)
    for marker, payload in _segments(file):
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == _LS:
            if len(payload) < 6:
                return None
            bits, height, width, channels = struct.unpack_from(">BHHB", payload)
            return Frame(marker, bits, width, height, channels)
    return None


def find_exif(content: bytes) -> bytes | None:
    """What a JPEG file says of its camera, None where it says nothing."""
    found = (one for marker, one in _segments(io.BytesIO(content)) if marker == 0xE1)
    return next((one for one in found if one.startswith(b"Exif\0\0")), None)


def _segments(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Marker and content of the segments before the scan, as long as each begins where the one before ends."""
    if file.read(2) != b"\xff\xd8":
        return
    while True:
        head = file.read(2)
        while head == b"\xff\xff":  # padding
            head = b"\xff" + file.read(1)
        length = file.read(2)
        if head[:1] != b"\xff" or len(head) < 2 or len(length) < 2 or head[1] in (0, 1) or 0xD0 <= head[1] <= 0xDA:
            return
        yield head[1], file.read(max(0, int.from_bytes(length, "big") - 2))


def without_metadata(file: IO[bytes]) -> bytes | None:
    """The file with nothing but what its pixels are made of, and how it is turned; None where that is all of it."""
    file.seek(0)
    content = file.read(_MOST + 1)
    if not content.startswith(b"\xff\xd8\xff") or len(content) > _MOST:
        return None
    kept, left_out, at = [b"\xff\xd8"], False, 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == _SCAN:
            return b"".join([*kept, content[at:]]) if left_out else None
        (length,) = struct.unpack_from(">H", content, at + 2)
        segment = content[at : at + 2 + length]
        if _is_needed(marker, segment[4:]):
            kept.append(segment)
        else:
            left_out = True
        at += 2 + length
    return None


def check_scan(file: IO[bytes]) -> None:
    """Refuse a scan that breaks off or out of step, where Pillow goes on without a word.

    It is decoded once more, at an eighth of its size, and where parts of it are black or white, a third time; without
    the package simplejpeg nothing is checked. Not found is what is overwritten so that every code is one by chance,
    their number is right, and no mean leaves its range.

    Raises
    ------
    DamagedScan
        The JPEG library warns of it, or means of blocks are such as no picture has.
    """
    try:
        simplejpeg = importlib.import_module("simplejpeg")
    except ImportError:
        return
    frame = read_frame(file)
    if frame is None or frame.bits != 8 or frame.lossless or not frame.readable:
        return  # of a lossless one, simplejpeg writes beyond the memory that it has for the smaller picture
    content = without_metadata(file)  # of which the library warns too, and of the first thing alone
    if content is None:
        file.seek(0)
        content = file.read()
    try:
        means = _decode_means(simplejpeg, content)
        if _count_beyond(simplejpeg, content, means) >= _SIGNS:
            raise DamagedScan(
                "a damaged JPEG file, part of which is not the picture: brighter or darker than it can be"
            )
    except ValueError as error:
        message = str(error)
        if message.startswith(_OF_SCANS) and not _is_padding(message, content):
            reason = message.removeprefix("Corrupt JPEG data: ")
            raise DamagedScan(f"a damaged JPEG file, part of which is not the picture: {reason}") from error


def _is_padding(message: str, content: bytes) -> bool:
    """Whether the bytes too many at the end are such as some cameras write, whose pictures are whole."""
    found = re.search(r"(\d+) extraneous bytes before marker 0xd9$", message)
    if found is None:
        return False
    count, end = int(found[1]), content.find(b"\xff\xd9", max(0, content.find(b"\xff\xda")))
    return count <= _PADDING or len(set(content[end - count : end])) <= 2


def _decode_means(simplejpeg: Any, content: bytes) -> np.ndarray:
    """The brightness of every block of 8 x 8 pixels, 0 to 255."""
    means: np.ndarray = simplejpeg.decode_jpeg(content, "GRAY", fastdct=True, min_height=1, min_width=1, strict=True)
    return means


def _count_beyond(simplejpeg: Any, content: bytes, means: np.ndarray) -> int:
    """How many means are beyond white or black, which decoders cut off: numbers go wrong from a damaged place on.

    Each mean is stored as its difference from the one before, so that damage shifts all that follow. They are decoded
    with multiples so large that the largest mean that there can be just fits the JPEG library's table of 1,024
    numbers, of which the upper half are below zero: what is beyond white comes out black, and the other way round.
    """
    white, black = means >= 250, means <= 5
    if white.sum() + black.sum() < _SIGNS:
        return 0
    enlarged = _enlarge_means(content)
    if enlarged is None:
        return 0
    turned = _decode_means(simplejpeg, enlarged)
    return int((white & (turned < 128)).sum() + (black & (turned > 127)).sum())


def _enlarge_means(content: bytes) -> bytes | None:
    """The file with other multiples of the means in its tables; None where its segments are not as they should be."""
    parts, at = [b"\xff\xd8"], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        segment = content[at : at + 2 + length]
        parts.append(segment if marker != _TABLES else _enlarge_tables(segment[4:]))
        at += 2 + length
        if marker == _SCAN:
            return b"".join([*parts, content[at:]])
    return None


def _enlarge_tables(tables: bytes) -> bytes:
    """A segment of the same tables, of numbers of 16 bits."""
    written, at = [], 0
    while at < len(tables):
        form, count = (">64H", 128) if tables[at] >> 4 else (">64B", 64)
        numbers = list(struct.unpack_from(form, tables, at + 1))
        most = int(_LARGEST / max(1, numbers[0]) + 0.5)  # of what is stored
        numbers[0] = 4 if most == _LARGEST else 4088 // max(1, most)
        written.append(bytes([0x10 | tables[at] & 15]) + struct.pack(">64H", *numbers))
        at += 1 + count
    body = b"".join(written)
    return struct.pack(">BBH", 0xFF, _TABLES, 2 + len(body)) + body


def _is_needed(marker: int, payload: bytes) -> bool:
    if marker == 0xE0:
        return payload.startswith(b"JFIF\0") and len(payload) >= 14
    if marker == 0xE1:
        return payload.startswith(b"Exif\0\0")
    if marker == 0xEE:  # by which CMYK is told from YCCK
        return payload.startswith(b"Adobe") and len(payload) >= 12
    return not (0xE0 <= marker <= 0xEF or marker == _COMMENT)
