"""Files of unusual kinds, built byte by byte: no library that reads them has written them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

_FORMS = {3: "H", 4: "I", 16: "Q"}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, content: bytes, crc: int | None = None) -> bytes:
    checked = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checked)


def _packed(values: np.ndarray, bits: int, order: str = ">") -> bytes:
    """Rows of unsigned numbers, each row padded to whole bytes."""
    if bits == 8:
        return values.astype("u1").tobytes()
    if bits == 16:
        return values.astype(f"{order}u2").tobytes()
    flat = values.reshape(len(values), -1)
    return np.packbits((flat[..., None] >> np.arange(bits)[::-1] & 1).reshape(len(values), -1), axis=1).tobytes()


def png(
    values: np.ndarray,
    bits: int,
    key: Sequence[int] | None = None,
    before: bytes = b"",
    after: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """A PNG file of grey (height, width) or RGB (height, width, 3) numbers; before, after : chunks around them."""
    colour = 0 if values.ndim == 2 else 2
    passes = [values[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [values]
    raw = b"".join(b"\0" + _packed(line[None], bits) for one in passes if one.size for line in one)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, interlaced)
    clear = b"" if key is None else chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    pixels = clear + chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + pixels + after + chunk(b"IEND", b"")


def tiff(
    values: np.ndarray,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    separate: bool = False,
    deflated: bool = False,
    big: bool = False,
    content: bytes | None = None,
    **tags: Sequence[int],
) -> bytes:
    """A TIFF file of one strip to a plane, of (height, width, samples) numbers.

    content : the bytes of the pixels, where they are not unsigned whole numbers; tags : `t338=(2,)`
    """
    height, width, samples = values.shape
    planes = [values[..., number] for number in range(samples)] if separate else [values]
    strips = [_packed(plane, bits, order) for plane in planes] if content is None else [content]
    strips = [zlib.compress(strip) for strip in strips] if deflated else strips
    start = 16 if big else 8
    places = [start + sum(map(len, strips[:number])) for number in range(len(strips))]
    entries: dict[int, tuple[int, Sequence[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * samples),
        259: (3, [8 if deflated else 1]),
        262: (3, [photometric]),
        273: (4, places),
        277: (3, [samples]),
        278: (4, [height]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [2 if separate else 1]),
    }
    entries |= {int(name[1:]): (3, list(one)) for name, one in tags.items()}
    return _with_directory(entries, b"".join(strips), order, big)


def _with_directory(entries: dict[int, tuple[int, Sequence[int]]], body: bytes, order: str, big: bool) -> bytes:
    inside, count, place = (8, "Q", "Q") if big else (4, "H", "I")
    start = 16 if big else 8
    body += b"\0" * (len(body) % 2)
    first = start + len(body)
    table, beyond = b"", b""
    end = first + struct.calcsize(f"={count}") + len(entries) * (20 if big else 12) + inside
    for tag, (kind, numbers) in sorted(entries.items()):
        value = struct.pack(f"{order}{len(numbers)}{_FORMS[kind]}", *numbers)
        if len(value) > inside:
            at, beyond = end + len(beyond), beyond + value + b"\0" * (len(value) % 2)
            value = struct.pack(f"{order}{place}", at)
        table += struct.pack(f"{order}HH{place}", tag, kind, len(numbers)) + value.ljust(inside, b"\0")
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, first) if big else struct.pack(f"{order}HI", 42, first)
    return mark + head + body + struct.pack(f"{order}{count}", len(entries)) + table + b"\0" * inside + beyond


def bitmap(rgba: np.ndarray) -> bytes:
    """A BMP file of 32 bits a pixel with an alpha mask."""
    height, width = rgba.shape[:2]
    pixels = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    header = struct.pack("<IiiHHIIiiII", 124 - 16, width, height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks
    header = header[:108]
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def icon(rgba: np.ndarray) -> bytes:
    """An ICO file that holds a bitmap of 32 bits a pixel."""
    height, width = rgba.shape[:2]
    pixels = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    mask = bytes(-(-width // 32) * 4 * height)
    header = struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, 32, 0, len(pixels), 0, 0, 0, 0)
    size = len(header) + len(pixels) + len(mask)
    entry = struct.pack("<BBBBHHII", width, height, 0, 0, 1, 32, size, 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + header + pixels + mask
