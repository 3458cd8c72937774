"""PNG files beyond what Pillow does: transparent colours at full depth, and files without their metadata."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3  # colour types that may have a transparent colour
_MOST = 1 << 30  # bytes of a file that are looked through for what to leave out


def has_deep_colour_key(file: IO[bytes]) -> bool:
    """Whether a PNG file has a transparent colour of another depth than 8 bits, which 0.1.0 got wrong."""
    file.seek(len(SIGNATURE))
    header = file.read(25)
    if header[4:8] != b"IHDR" or len(header) < 25:
        return False
    depth, colour = header[16], header[17]
    if (depth, colour) not in ((2, _GREY), (4, _GREY), (16, _GREY), (16, _RGB)):
        return False
    for name, length, position in _chunks(file):
        if name == b"IDAT":
            return False
        if name == b"tRNS":
            file.seek(position)
            return length >= (6 if colour == _RGB else 2)
    return False


def is_deep(file: IO[bytes]) -> bool:
    """Whether a PNG file has 16 bits a sample."""
    return _depth(file) == 16


def over_white_by_colour_key(file: IO[bytes]) -> tuple[Image.Image, Image.Image]:
    """The RGB pixels of a PNG file for which `has_deep_colour_key` holds, and what Pillow makes of it.

    The transparent colour becomes white, and no other.
    """
    depth = _depth(file)
    image = _open(file)
    key = image.info["transparency"]
    image.load()
    if image.mode == "RGB":
        return _over_white_of_two_bytes(file, image, key), image
    values = np.asarray(image)
    most = (1 << depth) - 1
    # Pillow spreads 2 and 4 bits over 0 to 255 and keeps 16 as they are.
    clear = values == (key & most) * (1 if depth == 16 else 255 // most)
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8) if depth == 16 else values.copy()
    grey[clear] = 255
    return Image.fromarray(grey).convert("RGB"), image


def _over_white_of_two_bytes(file: IO[bytes], high: Image.Image, key: tuple[int, int, int]) -> Image.Image:
    """Pillow keeps the high bytes of 48 bits a pixel; read as little-endian, the same file gives the low ones."""
    low = _open(file)
    low.tile = [low.tile[0]._replace(args="RGB;16L")]  # type: ignore[attr-defined]
    low.load()
    pixels = np.array(high)
    clear = np.all(pixels == [value >> 8 for value in key], axis=-1)
    clear &= np.all(np.asarray(low) == [value & 255 for value in key], axis=-1)
    pixels[clear] = 255
    return Image.fromarray(pixels)


def without_metadata(file: IO[bytes]) -> bytes | None:
    """The file with nothing but what its pixels are made of; None where that is all of it, or where it is cut off."""
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    kept, left_out, total, name = [SIGNATURE], False, 0, b""
    depth, colour = _depth(file), _colour(file)
    for name, length, position in _chunks(file):
        file.seek(position)
        critical = name[:1].isupper()
        total += length
        if (critical or name in (b"tRNS", b"eXIf")) and total <= _MOST:
            content, crc = file.read(length), file.read(4)
            sound = critical or crc == struct.pack(">I", zlib.crc32(name + content))
            if sound and not (name == b"tRNS" and _is_no_key(length, depth, colour)):
                kept.append(struct.pack(">I", length) + name + content + crc)
                continue
        left_out = True
    return b"".join(kept) if left_out and name == b"IEND" and total <= _MOST else None


def _is_no_key(length: int, depth: int, colour: int) -> bool:
    needed = {_GREY: 2, _RGB: 6, _PALETTE: 1}.get(colour)
    return needed is None or length < needed or (colour == _PALETTE and length > 1 << depth)


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Name, length and place of the content of every chunk."""
    position = len(SIGNATURE)
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        length, name = struct.unpack(">I4s", head)
        yield name, length, position + 8
        if name == b"IEND":
            return
        position += length + 12


def _depth(file: IO[bytes]) -> int:
    file.seek(len(SIGNATURE) + 16)
    return (file.read(1) or b"\0")[0]


def _colour(file: IO[bytes]) -> int:
    file.seek(len(SIGNATURE) + 17)
    return (file.read(1) or b"\0")[0]


def _open(file: IO[bytes]) -> Image.Image:
    file.seek(0)
    return Image.open(file, formats=("PNG",))
