"""JPEG files without their metadata, and whether their scans are whole."""

from __future__ import annotations

import importlib
import struct
from typing import IO

from featx.images.fault import DamagedScan

_MOST = 1 << 30  # bytes of a file that are looked through for what to leave out
_OF_SCANS = ("Corrupt JPEG data", "Inconsistent progression")
_SCAN, _COMMENT = 0xDA, 0xFE


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

    It is decoded once more, at an eighth of its size; without the package simplejpeg nothing is checked.

    Raises
    ------
    DamagedScan
        The JPEG library warns of it.
    """
    try:
        simplejpeg = importlib.import_module("simplejpeg")
    except ImportError:
        return
    file.seek(0)
    try:
        simplejpeg.decode_jpeg(file.read(), "GRAY", fastdct=True, min_height=1, min_width=1, strict=True)
    except ValueError as error:
        message = str(error)
        # some cameras write a few bytes too many at the end, and their pictures are whole
        if message.startswith(_OF_SCANS) and not message.endswith("extraneous bytes before marker 0xd9"):
            reason = message.removeprefix("Corrupt JPEG data: ")
            raise DamagedScan(f"a damaged JPEG file, part of which is not the picture: {reason}") from error


def _is_needed(marker: int, payload: bytes) -> bool:
    if marker == 0xE0:
        return payload.startswith(b"JFIF\0") and len(payload) >= 14
    if marker == 0xE1:
        return payload.startswith(b"Exif\0\0")
    if marker == 0xEE:  # by which CMYK is told from YCCK
        return payload.startswith(b"Adobe") and len(payload) >= 12
    return not (0xE0 <= marker <= 0xEF or marker == _COMMENT)
