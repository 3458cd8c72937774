"""The cells of GIF, BMP, ICO, put together byte by byte, and of formats that are refused; see `format_cells`."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from format_cells import HEIGHT, MIXED, NEAR, UPPER, WIDTH, Cell, as_rgb, numbers, png_file
from PIL import Image
from unkind import gradient

# --- GIF (CompuServe, version 89a) ----------------------------------------------------------------------------------


def _lzw(indices: np.ndarray, bits: int) -> bytes:
    """Variable-length codes, lowest bits first, in blocks of up to 255 bytes (appendix F)."""
    clear, end = 1 << bits, (1 << bits) + 1
    codes: list[tuple[int, int]] = [(clear, bits + 1)]
    table = {(one,): one for one in range(clear)}
    size, known = bits + 1, end + 1
    word: tuple[int, ...] = ()
    for one in indices.ravel().tolist():
        if (*word, one) in table:
            word = (*word, one)
            continue
        codes.append((table[word], size))
        if known < 4096:
            table[(*word, one)] = known
            size += known == 1 << size
            known += 1
        else:
            codes.append((clear, size))
            table = {(each,): each for each in range(clear)}
            size, known = bits + 1, end + 1
        word = (one,)
    codes += [(table[word], size), (end, size)]
    whole = at = 0
    for code, count in codes:
        whole |= code << at
        at += count
    data = whole.to_bytes(-(-at // 8), "little")
    return b"".join(bytes([len(data[n : n + 255])]) + data[n : n + 255] for n in range(0, len(data), 255)) + b"\0"


_PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))


def gif_frame(
    indices: np.ndarray, bits: int, colours: np.ndarray | None, interlaced: bool, clear: int | None, at: tuple[int, int]
) -> bytes:
    """One frame. colours : its own, None for those of the file; clear : the number that is transparent"""
    height, width = indices.shape
    control = b"" if clear is None else b"!\xf9\x04" + struct.pack("<BHBB", 1, 10, clear, 0)
    flags = (0 if colours is None else 0x80 | (bits - 1)) | (0x40 if interlaced else 0)
    rows = np.concatenate([indices[a::b] for a, b in _PASSES]) if interlaced else indices
    table = b"" if colours is None else colours.astype(np.uint8).tobytes()
    place = struct.pack("<HHHHB", at[1], at[0], width, height, flags)
    least = max(2, bits)
    return control + b"," + place + table + bytes([least]) + _lzw(rows, least)


def gif_file(size: tuple[int, int], frames: list[bytes], bits: int, colours: np.ndarray | None) -> bytes:
    flags = 0x70 if colours is None else 0xF0 | (bits - 1)
    table = b"" if colours is None else colours.astype(np.uint8).tobytes()
    repeat = b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0" if len(frames) > 1 else b""
    head = b"GIF89a" + struct.pack("<HHBBB", size[1], size[0], flags, 0, 0)
    return head + table + repeat + b"".join(frames) + b";"


def gif_cells() -> Iterator[Cell]:
    ways = product((1, 2, 4, 7, 8), (False, True), (False, True), (False, True), (False, True), (False, True))
    for bits, interlaced, local, clear, animated, small in ways:
        made = np.random.default_rng(bits)
        colours, other = made.integers(0, 256, (2, 1 << bits, 3))
        values = numbers(bits)[..., 0]
        key = int(values[5, 6]) if clear else None
        shown = colours[values].astype(float)
        if clear:
            shown[values == key] = 255
        at = (3, 4) if small else (0, 0)
        canvas = (HEIGHT + 6, WIDTH + 9) if small else (HEIGHT, WIDTH)
        if small:  # around the first frame nothing is painted
            whole = np.full((*canvas, 3), 255.0)
            whole[3 : 3 + HEIGHT, 4 : 4 + WIDTH] = shown
            shown = whole
        frames = [gif_frame(values, bits, colours if local else None, interlaced, key, at)]
        if animated:
            frames.append(gif_frame(values[::-1], bits, None, False, None, at))
        source = gif_file(canvas, frames, bits, other if local else colours)
        name = f"{bits} bits{', interlaced' if interlaced else ''}{', its own colours' if local else ''}"
        name += f"{', transparent' if clear else ''}{', animated' if animated else ''}"
        name += ", within a canvas" if small else ""
        yield Cell("GIF", name, lambda s=source: s, values, shown, NEAR, None)


def gif_within(margin: int) -> bytes:
    """A frame with so many pixels of bare canvas on each side."""
    values, colours = numbers(4)[..., 0], np.random.default_rng(4).integers(0, 256, (16, 3))
    frame = gif_frame(values, 4, None, False, None, (margin, margin))
    return gif_file((HEIGHT + 2 * margin, WIDTH + 2 * margin), [frame], 4, colours)


# --- BMP ------------------------------------------------------------------------------------------------------------

_OS2, _OS2_2, _INFO, _V3, _V4, _V5 = 12, 64, 40, 56, 108, 124


def bmp_header(
    kind: int, tall: int, bits: int, compression: int, size: int, colours: int, masks: tuple[int, ...] = ()
) -> bytes:
    """A header of `kind` bytes; masks follow the short ones, and are a part of the long ones."""
    if kind == _OS2:
        return struct.pack("<IHHHH", _OS2, WIDTH, abs(tall), 1, bits)
    head = struct.pack("<IiiHHIIiiII", kind, WIDTH, tall, 1, bits, compression, size, 2835, 2835, colours, 0)
    packed = struct.pack(f"<{len(masks)}I", *masks)
    if kind == _INFO:
        return head + packed
    packed = packed.ljust(16, b"\0")
    return (head + packed + (b"BGRs" if kind in (_V4, _V5) else b"")).ljust(kind, b"\0")[:kind]


def _bmp(header: bytes, table: bytes, body: bytes) -> bytes:
    start = 14 + len(header) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + table + body


def _rows(values: np.ndarray, bits: int) -> list[bytes]:
    """Rows of numbers of so many bits, each padded to four bytes."""
    if bits < 8:
        rows = [np.packbits((row[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)).tobytes() for row in values]
    else:
        rows = [row.astype(f"<u{bits // 8}").tobytes() for row in values]
    return [row + bytes(-len(row) % 4) for row in rows]


def _table(colours: np.ndarray, width: int) -> bytes:
    return b"".join(bytes(one[::-1].tolist()).ljust(width, b"\0") for one in colours)


def bmp_more_cells() -> Iterator[Cell]:
    for kind, bits, upside_down in product((_OS2, _OS2_2, _INFO, _V3, _V4, _V5), (1, 4, 8), (False, True)):
        if upside_down and kind == _OS2:
            continue
        for used in {1 << bits, (1 << bits) - 1}:
            if used < 1 << bits and kind == _OS2:
                continue
            colours = np.random.default_rng(bits).integers(0, 256, (used, 3))
            values = np.minimum(numbers(bits)[..., 0], used - 1)
            rows = _rows(values, bits)
            body = b"".join(rows if upside_down else rows[::-1])
            header = bmp_header(kind, -HEIGHT if upside_down else HEIGHT, bits, 0, len(body), used)
            source = _bmp(header, _table(colours, 3 if kind == _OS2 else 4), body)
            name = f"header of {kind}, {bits} bits, {used} colours{', top down' if upside_down else ''}"
            yield Cell("BMP", name, lambda s=source: s, values, colours[values].astype(float), NEAR, None)
    yield from _deep_bmp_cells()
    yield from _run_length_cells()


_MASKS = {
    "16 bits 5-5-5": (16, (0x7C00, 0x3E0, 0x1F)),
    "16 bits 5-6-5": (16, (0xF800, 0x7E0, 0x1F)),
    "32 bits BGRX": (32, (0xFF0000, 0xFF00, 0xFF)),
    "32 bits RGBX": (32, (0xFF, 0xFF00, 0xFF0000)),
    "32 bits XBGR": (32, (0xFF000000, 0xFF0000, 0xFF00)),
    "32 bits XRGB": (32, (0xFF00, 0xFF0000, 0xFF000000)),
    "32 bits BGRA": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "32 bits RGBA": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "32 bits ABGR": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "16 bits 4-4-4-4": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "16 bits 1-5-5-5": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "32 bits 10-10-10": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    "32 bits 8-8-8 shifted by 1": (32, (0x1FE0000, 0x1FE00, 0x1FE >> 1)),
}


def _of_masks(masks: tuple[int, ...], bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of random numbers in the places of masks; RGB over white of the same."""
    pixels = np.random.default_rng(sum(masks) % 999).integers(0, 1 << bits, (HEIGHT, WIDTH))
    shares = np.stack([(pixels & mask) / mask for mask in masks], axis=2)
    alpha = shares[..., 3:] if len(masks) == 4 else np.ones((HEIGHT, WIDTH, 1))
    return pixels, 255 * (shares[..., :3] * alpha + 1 - alpha)


def _deep_bmp_cells() -> Iterator[Cell]:
    for (name, (bits, masks)), kind, upside_down in product(_MASKS.items(), (_INFO, _V3, _V4, _V5), (False, True)):
        if len(masks) == 4 and kind == _INFO:
            continue
        pixels, shown = _of_masks(masks, bits)
        rows = _rows(pixels, bits)
        body = b"".join(rows if upside_down else rows[::-1])
        source = _bmp(bmp_header(kind, -HEIGHT if upside_down else HEIGHT, bits, 3, len(body), 0, masks), b"", body)
        about = f"header of {kind}, {name}{', top down' if upside_down else ''}"
        tolerance = MIXED if len(masks) == 4 else UPPER
        yield Cell("BMP", about, lambda s=source: s, pixels, shown, tolerance, None)
    for kind, bits in product((_OS2, _OS2_2, _INFO), (16, 24, 32)):
        if kind == _OS2 and bits != 24:
            continue
        pixels, shown = _of_masks((0x7C00, 0x3E0, 0x1F) if bits == 16 else (0xFF0000, 0xFF00, 0xFF), bits)
        rows = [row.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes() for row in pixels]
        body = b"".join(row + bytes(-len(row) % 4) for row in rows[::-1])
        source = _bmp(bmp_header(kind, HEIGHT, bits, 0, len(body), 0), b"", body)
        yield Cell("BMP", f"header of {kind}, {bits} bits", lambda s=source: s, pixels, shown, UPPER, None)


def sixteen_bits_with_alpha() -> bytes:
    """Pixels of 5 bits of each colour and one of alpha."""
    masks = _MASKS["16 bits 1-5-5-5"][1]
    rows = _rows(_of_masks(masks, 16)[0], 16)
    return _bmp(bmp_header(_V4, HEIGHT, 16, 3, sum(map(len, rows)), 0, masks), b"", b"".join(rows))


def few_colours(bits: int, used: int) -> bytes:
    """Black, white and others, in pixels of more bits than they need."""
    colours = np.array([[0, 0, 0], [255, 255, 255], [9, 99, 200]])[:used]
    rows = _rows(np.minimum(numbers(bits)[..., 0], used - 1), bits)
    header = bmp_header(_INFO, HEIGHT, bits, 0, sum(map(len, rows)), used)
    return _bmp(header, _table(colours, 4), b"".join(rows))


def run_length_bmp(shifted: int) -> bytes:
    """Runs of 8 bits that begin so many bytes behind the colours."""
    values = np.repeat(numbers(8)[..., 0], 3, axis=1)[:, :WIDTH]
    body = run_lengths(values, 8, "mixed")
    colours = np.random.default_rng(8).integers(0, 256, (256, 3))
    header = bmp_header(_INFO, HEIGHT, 8, 1, len(body), 0)
    return _bmp(header, _table(colours, 4) + bytes(shifted), body)


def run_lengths(values: np.ndarray, bits: int, way: str) -> bytes:
    """Rows from below. way : "runs" of equal numbers; "absolute": none; "mixed": both in turn"""
    out = []
    for number, row in enumerate(values[::-1]):
        at = 0
        while at < len(row):
            left = len(row) - at
            same = next((n for n in range(1, min(left, 255)) if row[at + n] != row[at]), min(left, 255))
            literal = way == "absolute" or (way == "mixed" and same < 3 and (number + at) % 2)
            if literal and left >= 3:
                some = row[at : at + min(left, 7)]
                packed = _packed_row(some, bits)
                out.append(bytes([0, len(some)]) + packed + bytes(len(packed) % 2))
                at += len(some)
            else:
                one = int(row[at])
                out.append(bytes([same, one if bits == 8 else one << 4 | one]))
                at += same
        out.append(b"\0\0")
    return b"".join(out) + b"\0\1"


def _packed_row(row: np.ndarray, bits: int) -> bytes:
    if bits == 8:
        return row.astype(np.uint8).tobytes()
    even = np.append(row, 0) if len(row) % 2 else row
    return (even[::2] << 4 | even[1::2]).astype(np.uint8).tobytes()


def _run_length_cells() -> Iterator[Cell]:
    for bits, way, kind in product((4, 8), ("runs", "absolute", "mixed"), (_INFO, _V4, _V5)):
        colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
        values = np.repeat(numbers(bits)[..., 0], 3, axis=1)[:, :WIDTH]
        body = run_lengths(values, bits, way)
        source = _bmp(bmp_header(kind, HEIGHT, bits, 2 if bits == 4 else 1, len(body), 0), _table(colours, 4), body)
        name = f"header of {kind}, run lengths of {bits} bits, {way}"
        yield Cell("BMP", name, lambda s=source: s, values, colours[values].astype(float), NEAR, None)
    for bits in (4, 8):  # the rest of a row, and of the file, is left out: it has colour 0
        colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
        values = np.zeros((HEIGHT, WIDTH), int)
        values[-1, :4], values[-3, 6:10] = 3, 2
        body = bytes([4, 0x33 if bits == 4 else 3, 0, 0, 0, 2, 6, 1, 4, 0x22 if bits == 4 else 2, 0, 1])
        source = _bmp(bmp_header(_INFO, HEIGHT, bits, 2 if bits == 4 else 1, len(body), 0), _table(colours, 4), body)
        name = f"run lengths of {bits} bits, skipped"
        yield Cell("BMP", name, lambda s=source: s, values, colours[values].astype(float), NEAR, None)


# --- ICO ------------------------------------------------------------------------------------------------------------


def icon_file(images: list[tuple[int, int, int, bytes]], kind: int = 1) -> bytes:
    """Images of (width, height, bits, content)."""
    entries, at = b"", 6 + 16 * len(images)
    for width, height, bits, content in images:
        entries += struct.pack("<BBBBHHII", width % 256, height % 256, 0, 0, 1, bits, len(content), at)
        at += len(content)
    return struct.pack("<HHH", 0, kind, len(images)) + entries + b"".join(content for *_, content in images)


def _icon_bitmap(pixels: list[bytes], bits: int, table: bytes, mask: np.ndarray) -> bytes:
    body = b"".join(pixels[::-1]) + b"".join(_rows(mask.astype(int), 1)[::-1])
    return bmp_header(_INFO, 2 * HEIGHT, bits, 0, len(body), len(table) // 4) + table + body


def _small_icon() -> tuple[int, int, int, bytes]:
    body = bytes(16 * 16 * 4) + bytes(4 * 16)
    return 16, 16, 32, struct.pack("<IiiHHIIiiII", 40, 16, 32, 1, 32, 0, len(body), 0, 0, 0, 0) + body


def icon_cells() -> Iterator[Cell]:
    mask = np.random.default_rng(5).integers(0, 2, (HEIGHT, WIDTH)).astype(bool)
    for bits, masked, several in product((1, 4, 8, 24, 32), (False, True), (False, True)):
        clear = mask if masked else np.zeros_like(mask)
        if bits <= 8:
            colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
            values = numbers(bits)[..., 0]
            shown, rows, table = colours[values].astype(float), _rows(values, bits), _table(colours, 4)
        else:
            values = numbers(8, bits // 8)
            stored = values[..., [2, 1, 0, 3]] if bits == 32 else values[..., ::-1]
            rows = [row.astype(np.uint8).tobytes() for row in stored]
            rows, table = [row + bytes(-len(row) % 4) for row in rows], b""
            shown = as_rgb(values, 8, "straight" if bits == 32 else "")
        if bits != 32:  # alpha is what counts, where there is any
            shown[clear] = 255
        one = (WIDTH, HEIGHT, bits, _icon_bitmap(rows, bits, table, clear))
        images = [_small_icon(), one] if several else [one]
        name = f"bitmap of {bits} bits{', masked' if masked else ''}{', the larger of two' if several else ''}"
        tolerance = MIXED if bits == 32 else NEAR
        yield Cell("ICO", name, lambda i=images: icon_file(i), values, shown, tolerance, None)
        yield Cell("CUR", name, lambda i=images: icon_file(i, 2), values, shown, tolerance, None, "Windows cursor")
    for channels, several in product((3, 4), (False, True)):
        values = numbers(8, channels)
        content = png_file(values, 2 if channels == 3 else 6, 8, False, 0)
        images = [_small_icon(), (WIDTH, HEIGHT, 32, content)] if several else [(WIDTH, HEIGHT, 32, content)]
        shown = as_rgb(values, 8, "straight" if channels == 4 else "")
        name = f"PNG of {channels} channels{', the larger of two' if several else ''}"
        yield Cell("ICO", name, lambda i=images: icon_file(i), values, shown, MIXED, None)
        yield Cell("CUR", name, lambda i=images: icon_file(i, 2), values, shown, MIXED, None, "Windows cursor")


# --- refused --------------------------------------------------------------------------------------------------------

_WRITTEN: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "PCX": ("a PCX image", ({},)),
    "TGA": ("a TGA image", ({}, {"compression": "tga_rle"})),
    "SGI": ("an SGI image", ({},)),
    "DDS": ("a DirectDraw texture", ({}, {"pixel_format": "DXT1"}, {"pixel_format": "DXT5"})),
    "ICNS": ("a macOS icon", ({},)),
    "XBM": ("an X bitmap", ({},)),
    "MSP": ("an old Windows Paint image", ({},)),
    "BLP": ("a Blizzard texture", ({},)),
    "EPS": ("a PostScript document", ({},)),
    "PDF": ("a PDF document", ({},)),
}
_STARTS = {
    b"\0\0\2\0\1\0": "a Windows cursor",
    b"RIFF\0\0\0\0ACONanih": "an animated Windows cursor",
    b"\x8bJNG\r\n\x1a\n": "a JNG image",
    b"\x8aMNG\r\n\x1a\n": "an MNG animation",
    b"Image type: L image\r\n": "an IFUNC image",
    b"BPG\xfb": "a BPG image",
    b"FLIF44": "a FLIF image",
    b"farbfeld\0\0\0\2": "a farbfeld image",
    b"SDPX\0\0": "a DPX film scan",
    b"XPDS\0\0": "a DPX film scan",
    b"\xabKTX 11\xbb\r\n\x1a\n": "a KTX texture",
    b"\xabKTX 20\xbb\r\n\x1a\n": "a KTX texture",
    b"VTF\0": "a Valve texture",
    b"FORM\0\0\0\x20ILBMBMHD": "an Amiga image",
    b"\xd7\xcd\xc6\x9a\0\0": "a Windows metafile",
    b"/* XPM */": "an X pixmap",
    b"#?RGBE\n": "a Radiance HDR image",
    b"NRRD0004\n": "an NRRD volume",
    b"ZISRAWFILE\0": "a Zeiss microscope file",
    b"\xda\xce\xbe\x0a\0\0\0": "a Nikon microscope file",
    b"v/1\x01\2\0\0\0": "an OpenEXR image",
    b"\x80\x2a\x5f\xd7\0\0": "a Cineon film scan",
    b"II\xbc\x01\x20\0\0\0": "a JPEG XR image",
}


def refused_format_cells() -> Iterator[Cell]:
    """Formats that are not read: the sentence says which it is."""
    picture = Image.fromarray(gradient(HEIGHT, WIDTH))
    for (form, (words, ways)), mode in product(_WRITTEN.items(), ("1", "L", "P", "LA", "RGB", "RGBA")):
        for more in ways:
            buffer = io.BytesIO()
            try:
                (picture.quantize(16) if mode == "P" else picture.convert(mode)).save(buffer, form, **more)
            except (OSError, ValueError, KeyError):
                continue  # it has no such mode
            source = buffer.getvalue()
            name = f"{mode}{', ' if more else ''}{' '.join(more.values())}"
            yield Cell(form, name, lambda s=source: s, numbers(8), numbers(8), 0, None, words)
    for start, words in _STARTS.items():
        source = start + bytes(600)
        yield Cell("others", words, lambda s=source: s, numbers(8), numbers(8), 0, None, words)
    for bits, compression, words in ((1, 3, "fax"), (24, 4, "24-bit runs"), (0, 4, "a JPEG"), (0, 5, "a PNG")):
        source = _bmp(bmp_header(_INFO, HEIGHT, bits, compression, 400, 0), bytes(1024), bytes(4000))
        yield Cell("BMP", words, lambda s=source: s, numbers(8), numbers(8), 0, None, words)


def few_colours_cells() -> Iterator[Cell]:
    """Tables that look like plain grey of another depth, and the 2 bits of Windows CE."""
    ramp = np.repeat(np.arange(16)[:, None], 3, axis=1)
    for bits, used, upside_down in product((1, 2, 4, 8), (2, 4, 16), (False, True)):
        if used > 1 << bits:
            continue
        for colours, kind in ((ramp[:used] if used > 2 else ramp[:2] * 255, "a ramp"), (ramp[:used] * 17, "greys")):
            values = np.minimum(numbers(bits)[..., 0], used - 1)
            rows = _rows(values, bits)
            body = b"".join(rows if upside_down else rows[::-1])
            header = bmp_header(_INFO, -HEIGHT if upside_down else HEIGHT, bits, 0, len(body), used)
            source = _bmp(header, _table(colours, 4), body)
            name = f"{bits} bits, {used} colours, {kind}{', top down' if upside_down else ''}"
            yield Cell("BMP", name, lambda s=source: s, values, colours[values].astype(float), NEAR, None)
    for bits in (4, 8):  # pixels that begin at an odd place
        colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
        values = np.repeat(numbers(bits)[..., 0], 3, axis=1)[:, :WIDTH]
        body = run_lengths(values, bits, "mixed")
        header = bmp_header(_INFO, HEIGHT, bits, 2 if bits == 4 else 1, len(body), 0)
        source = bytearray(_bmp(header, _table(colours, 4) + b"\0", body))
        name = f"run lengths of {bits} bits from an odd place on"
        yield Cell("BMP", name, lambda s=bytes(source): s, values, colours[values].astype(float), NEAR, None)


def window_cells() -> Iterator[Cell]:
    """All of this module."""
    for one in (gif_cells, bmp_more_cells, few_colours_cells, icon_cells, refused_format_cells):
        yield from one()
