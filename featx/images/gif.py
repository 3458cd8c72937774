"""GIF files whose first frame does not cover the canvas: Pillow paints the rest in the first colour."""

from __future__ import annotations

import struct
from typing import IO

from PIL import Image

_MOST_BLOCKS = 100_000  # before the first frame
_CONTROL = 0xF9

Box = tuple[int, int, int, int]


def uncovered(file: IO[bytes]) -> Box | None:
    """The place (left, upper, right, lower) of the first frame, where it leaves some of the canvas bare.

    None where it covers it, where it has a transparent colour, in which Pillow paints the rest, and in a damaged file.
    """
    file.seek(0)
    head = file.read(13)
    if len(head) < 13 or not head.startswith(b"GIF8"):
        return None
    width, height, flags = struct.unpack_from("<HHB", head, 6)
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), 1)
    for _ in range(_MOST_BLOCKS):
        mark = file.read(1)
        if mark == b",":
            place = file.read(8)
            if len(place) < 8:
                return None
            left, upper, across, down = struct.unpack("<4H", place)
            bare = left or upper or across < width or down < height
            return (left, upper, left + across, upper + down) if bare else None
        if mark != b"!" or not _skip_extension(file):
            return None
    return None


def _skip_extension(file: IO[bytes]) -> bool:
    """Whether what follows is an extension, and says of no transparent colour."""
    label, length = (file.read(2) + b"\0\0")[:2]
    while length:
        content = file.read(length)
        if len(content) < length or (label == _CONTROL and content[0] & 1):
            return False
        (length,) = file.read(1) or b"\0"
    return True


def on_white(image: Image.Image, box: Box) -> Image.Image:
    """The pixels of a frame on a white canvas; image : RGB, as Pillow makes it"""
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image.crop(box), box[:2])
    return canvas
