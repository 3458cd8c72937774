"""JPEG files without their metadata, and whether their scans are whole."""

from __future__ import annotations

import importlib
import re
import struct
from typing import IO, Any

import numpy as np

from featx.images.fault import DamagedScan

_MOST = 1 << 30  # bytes of a file that are looked through for what to leave out
_OF_SCANS = ("Corrupt JPEG data", "Inconsistent progression")
_TABLES, _SCAN, _COMMENT = 0xDB, 0xDA, 0xFE
_LARGEST = 1024  # the mean of a block of 8 x 8 numbers from -128 to 127, times 8
_PADDING = 8  # bytes
_SIGNS = 3  # blocks beyond it: an encoder's rounding is not taken for damage


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
