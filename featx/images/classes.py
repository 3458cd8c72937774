"""Which kinds of files the decoder was fixed for, and since when.

A row of the store was made by the decoder of some revision, 0 in featx 0.1.0. The class of a file (its type, depth,
alpha and layout) has a revision as well: that since which it is read right, 0 for what always was. A row below the
revision of its file's class is wrong and counts as missing; all others stay in use, whatever is mended.
"""

from __future__ import annotations

import struct
from typing import IO

from featx.images import bmp, dicom, gif, jpeg2000, png, tiff

REVISION = 3  # of this decoder; raised when a class is mended


def class_revision(file: IO[bytes]) -> int:
    """The revision of a file's class; its header is all that is read."""
    file.seek(0)
    head = file.read(16)
    if head.startswith(png.SIGNATURE):
        wrong = png.has_deep_colour_key(file)
    elif head[:2] in (b"II", b"MM"):
        header = tiff.read_header(file)
        if header is not None and header.wrong_before_3:
            return 3
        if header is not None and header.wrong_before_2:
            return 2
        wrong = header is not None and header.wrong_in_0_1_0
    elif head.startswith((b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")):
        codestream = jpeg2000.read_header(file)
        wrong = codestream is not None and codestream.deep
    elif head.startswith(b"GIF8"):
        return 0 if gif.uncovered(file) is None else 3
    elif head.startswith(b"BM"):
        header_of_bitmap = bmp.read_header(file)
        if header_of_bitmap is not None and header_of_bitmap.wrong_before_3:
            return 3
        wrong = bitmap_has_alpha(file, 14)
    elif head.startswith(b"\x00\x00\x01\x00"):
        wrong = _icon_has_bitmap_alpha(file)
    else:
        return 3 if dicom.read_otherwise(file) else 0
    return 1 if wrong else 0


def bitmap_has_alpha(file: IO[bytes], position: int) -> bool:
    """Whether a BMP of 32 bits a pixel has an alpha mask; position : of its second header."""
    file.seek(position)
    header = file.read(56)
    if len(header) < 20:
        return False
    size, bits = struct.unpack_from("<I", header)[0], struct.unpack_from("<H", header, 14)[0]
    mask = header[52:56] if size >= 56 and len(header) == 56 else b""
    return bits == 32 and header[16] == 3 and any(mask)  # 3: "bit fields", of which the fourth is alpha


def _icon_has_bitmap_alpha(file: IO[bytes]) -> bool:
    """Whether an icon holds a bitmap of 32 bits a pixel, the last byte of which is alpha."""
    file.seek(4)
    (count,) = struct.unpack("<H", file.read(2).ljust(2, b"\0"))
    entries = file.read(16 * min(count, 256))
    for at in range(0, len(entries) - 15, 16):
        file.seek(struct.unpack_from("<I", entries, at + 12)[0])
        header = file.read(16)
        if len(header) == 16 and not header.startswith(b"\x89PNG") and struct.unpack_from("<H", header, 14)[0] == 32:
            return True
    return False
