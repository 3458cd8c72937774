"""The cells of TIFF that are not rows of plain numbers: YCbCr, fax, JPEG and others within; see `format_cells`."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from format_cells import MIXED, NEAR, UPPER, Cell, as_rgb, pack_bits
from odd_files import _packed, _with_directory
from PIL import Image
from unkind import gradient

HEIGHT, WIDTH = 24, 40  # multiples of the blocks of colour
_PACKED = {
    "none": (1, bytes),
    "PackBits": (32773, pack_bits),
    "Deflate": (8, zlib.compress),
}


def _rgb_of(y: np.ndarray, blue: np.ndarray, red: np.ndarray, wide: bool) -> np.ndarray:
    """TIFF 6.0, section 21: from black and white as they are stated, by the luma of CCIR 601-1."""
    if wide:
        y, blue, red = (y - 16) * 255 / 219, (blue - 128) * 127 / 112, (red - 128) * 127 / 112
    else:
        blue, red = blue - 128, red - 128
    r, b = y + 1.402 * red, y + 1.772 * blue
    return np.clip(np.stack([r, (y - 0.299 * r - 0.114 * b) / 0.587, b], axis=2), 0, 255)


def ycbcr_cells() -> Iterator[Cell]:
    ways = product((1, 2, 4), (1, 2, 4), _PACKED, "<>", (False, True), (False, True), (False, True))
    for across, down, compression, order, big, separate, wide in ways:
        if big and (compression != "Deflate" or separate):
            continue
        made = np.random.default_rng([across, down])
        y, colour = made.integers(60, 200, (HEIGHT, WIDTH)), (HEIGHT // down, WIDTH // across)
        blue, red = made.integers(100, 156, (2, *colour))
        blocks = y.reshape(colour[0], down, colour[1], across).transpose(0, 2, 1, 3).reshape(*colour, -1)
        together = np.concatenate([blocks, blue[..., None], red[..., None]], axis=2)
        planes = [y, blue, red] if separate else [together.reshape(colour[0], -1)]
        number, packed = _PACKED[compression]
        segments = [b"".join(packed(row.astype(np.uint8).tobytes()) for row in plane) for plane in planes]
        if compression == "Deflate":
            segments = [zlib.compress(plane.astype(np.uint8).tobytes()) for plane in planes]
        entries = _entries(3, 8, number, 6, segments, big)
        entries |= {284: (3, [1 + separate]), 530: (3, [across, down]), 531: (3, [1])}
        source = _with_rationals(
            entries, segments, order, big, (16, 235, 128, 240, 128, 240) if wide else (0, 255, 128, 255, 128, 255)
        )
        spread = [np.repeat(np.repeat(one, down, axis=0), across, axis=1).astype(float) for one in (blue, red)]
        shown = _rgb_of(y.astype(float), *spread, wide)
        odd = (across, down) in ((1, 4), (2, 4)) or (separate and across * down > 1)
        name = f"YCbCr, {across} x {down}, {compression}, {'big' if order == '>' else 'little'}-endian"
        name += f"{' BigTIFF' if big else ''}{', planar' if separate else ''}{', 16 to 235' if wide else ''}"
        yield Cell("TIFF", name, lambda s=source: s, y, shown, 3.1 if wide else 1.01, None, "YCbCr" if odd else "")


def ycbcr(wide: bool) -> bytes:
    """Without compression, and without shared colours; wide : from 16 to 235 and 240"""
    values = np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3)).astype(np.uint8).tobytes()
    entries = _entries(3, 8, 1, 6, [values]) | {530: (3, [1, 1])}
    ends = (16, 235, 128, 240, 128, 240) if wide else (0, 255, 128, 255, 128, 255)
    return _with_rationals(entries, [values], "<", False, ends)


def old_jpeg(photometric: int) -> bytes:
    """A whole JPEG file of colours within a TIFF file."""
    import imagecodecs

    space = "RGB" if photometric == 2 else "YCBCR"
    one = bytes(imagecodecs.jpeg8_encode(gradient(HEIGHT, WIDTH), colorspace="RGB", outcolorspace=space))
    entries = _entries(3, 8, 6, photometric, [one]) | {513: (4, [8]), 514: (4, [len(one)]), 530: (3, [2, 2])}
    return _with_directory(entries, one, "<", False)


def _entries(
    samples: int, bits: int, compression: int, photometric: int, segments: list[bytes], big: bool = False
) -> dict[int, tuple[int, list[int]]]:
    start = 16 if big else 8
    places = [start + sum(map(len, segments[:number])) for number in range(len(segments))]
    return {
        256: (4, [WIDTH]),
        257: (4, [HEIGHT]),
        258: (3, [bits] * samples),
        259: (3, [compression]),
        262: (3, [photometric]),
        273: (4, places),
        277: (3, [samples]),
        278: (4, [HEIGHT]),
        279: (4, list(map(len, segments))),
    }


def _with_rationals(
    entries: dict[int, tuple[int, list[int]]], segments: list[bytes], order: str, big: bool, ends: tuple[int, ...]
) -> bytes:
    """A file with black and white of each channel (tag 532), as fractions behind the pixels."""
    body = b"".join(segments)
    body += bytes(len(body) % 2)
    at = (16 if big else 8) + len(body)
    body += struct.pack(f"{order}12I", *(part for one in ends for part in (one, 1)))
    source = bytearray(_with_directory(entries | {532: (4, [at])}, body, order, big))
    entry = struct.pack(f"{order}HH", 532, 4)
    place = source.rindex(entry)
    count, pointer = ("Q", "Q") if big else ("I", "I")
    struct.pack_into(f"{order}HH{count}{pointer}", source, place, 532, 5, 6, at)
    return bytes(source)


def fax_cells() -> Iterator[Cell]:
    """Black and white, coded for fax machines: written by libtiff, read once more by imagecodecs' own code."""
    ways = product(("tiff_ccitt", "group3", "group4"), (False, True), (1, 2), (0, 1), (37, 40, 700))
    for code, dense, fill, photometric, width in ways:
        bits = np.random.default_rng(width).random((HEIGHT, width)) < (0.5 if dense else 0.05)
        bits[3], bits[4] = True, False
        buffer = io.BytesIO()
        Image.fromarray(bits).save(buffer, "TIFF", compression=code, tiffinfo={262: photometric, 266: fill})
        source = buffer.getvalue()
        held = _by_tifffile_of(bits.shape)
        name = f"{code}, {width} wide, {'dense' if dense else 'sparse'}, fill order {fill}, photometric {photometric}"
        shown = as_rgb(bits[..., None].astype(int), 1)
        yield Cell("TIFF", name, lambda s=source: s, bits[..., None].astype(int), shown, NEAR, held)


def _by_tifffile_of(shape: tuple[int, ...]) -> Any:
    def decode(source: bytes) -> np.ndarray:
        import tifffile

        with tifffile.TiffFile(io.BytesIO(source)) as opened:
            page = opened.pages[0]
            values = page.asarray().astype(int).reshape(*shape[:2], -1)
        return values if page.photometric else 1 - values

    return decode


def _tifffile(values: np.ndarray, **options: Any) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


_WITHIN: dict[str, dict[str, Any]] = {
    "LZMA": {"compression": "lzma"},
    "LZMA, predictor": {"compression": "lzma", "predictor": True},
    "PackBits, predictor": {"compression": "packbits", "predictor": True},
    "Zstandard, predictor": {"compression": "zstd", "predictor": True},
    "JPEG 2000": {"compression": "jpeg2000"},
    "PNG": {"compression": "png"},
    "JPEG XL": {"compression": "jpegxl", "compressionargs": {"lossless": True}},
    "LERC": {"compression": "lerc"},
}


def within_cells() -> Iterator[Cell]:
    """Other codecs within a TIFF file, without a loss."""
    ways = product(_WITHIN.items(), (8, 16), (1, 3), (None, (16, 16)), "<>")
    for (name, options), bits, channels, tile, order in ways:
        if order == ">" and options["compression"] in ("jpeg2000", "png", "jpegxl", "lerc"):
            continue  # these have a byte order of their own
        values = np.random.default_rng([bits, channels]).integers(0, 1 << bits, (HEIGHT, WIDTH, channels))
        given = (
            values.astype(f"{order}u{bits // 8}")[..., 0] if channels == 1 else values.astype(f"{order}u{bits // 8}")
        )
        kind = "minisblack" if channels == 1 else "rgb"
        about = f"{kind} {bits} bits, {name}{', tiles' if tile else ''}, {'big' if order == '>' else 'little'}-endian"
        yield Cell(
            "TIFF",
            about,
            lambda g=given, k=kind, t=tile, o=options, b=order: _tifffile(g, photometric=k, tile=t, byteorder=b, **o),
            values,
            as_rgb(values, bits),
            UPPER if bits == 16 else NEAR,
            _by_tifffile_of(values.shape),
        )
    for channels, tile in product((3, 4), (None, (16, 16))):
        values = np.random.default_rng(channels).integers(0, 256, (HEIGHT, WIDTH, channels))
        values[..., 3:] = np.maximum(values[..., 3:], 1)
        more: dict[str, Any] = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        more |= {"compression": "webp", "compressionargs": {"lossless": True}, "tile": tile}
        source = _tifffile(values.astype(np.uint8), photometric="rgb", **more)
        shown = as_rgb(values, 8, "straight" if channels == 4 else "")
        name = f"WebP of {channels} channels{', tiles' if tile else ''}"
        yield Cell("TIFF", name, lambda s=source: s, values, shown, MIXED, _by_tifffile_of(values.shape))


def _inks(held: np.ndarray) -> np.ndarray:
    shares = 1 - held / 255
    return np.asarray(255 * shares[..., :3] * shares[..., 3:])


def jpeg_within_cells() -> Iterator[Cell]:
    """JPEG within TIFF: what is held is what imagecodecs' libjpeg-turbo makes of it."""
    picture = gradient(HEIGHT * 2, WIDTH * 2)
    ways = product(("ycbcr", "rgb", "minisblack", "separated"), (75, 95), (None, (16, 16)), ((1, 1), (2, 1), (2, 2)))
    for kind, quality, tile, sampling in ways:
        if kind != "ycbcr" and sampling != (1, 1):
            continue
        values = {"minisblack": picture[..., 0], "separated": np.dstack([picture, 255 - picture[..., :1]])}
        more: dict[str, Any] = {"subsampling": sampling} if kind == "ycbcr" else {}
        given = values.get(kind, picture)
        options = {"compression": "jpeg", "compressionargs": {"level": quality}, "tile": tile, **more}
        source = _tifffile(given, photometric=kind, **options)
        held = _by_tifffile_of(given.shape)(source)
        shown = as_rgb(held, 8) if kind != "separated" else _inks(held)
        name = f"JPEG {kind}, quality {quality}{', tiles' if tile else ''}, {sampling[0]} x {sampling[1]}"
        yield Cell("TIFF", name, lambda s=source: s, held, shown.astype(float), MIXED, None)
    yield from _old_jpeg_cells()


def _old_jpeg_cells() -> Iterator[Cell]:
    """JPEG as TIFF 6.0, section 22, has it: a whole file within, or what tags point to."""
    import imagecodecs

    down, right = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([right * 6, down * 10, 255 - right * 3 - down * 5], axis=2).clip(0, 255).astype(np.uint8)
    for photometric, sampling, quality in product((6, 2, 1, 0), (0, 1, 2), (75, 95)):
        if photometric != 6 and sampling:
            continue
        if photometric == 2:
            one = bytes(imagecodecs.jpeg8_encode(picture, level=quality, colorspace="RGB", outcolorspace="RGB"))
        else:
            buffer = io.BytesIO()
            more: dict[str, Any] = {"subsampling": sampling} if photometric == 6 else {}
            given = Image.fromarray(picture).convert("RGB" if photometric == 6 else "L")
            given.save(buffer, "JPEG", quality=quality, **more)
            one = buffer.getvalue()
        held = imagecodecs.jpeg8_decode(one).reshape(HEIGHT, WIDTH, -1).astype(int)
        entries = _entries(held.shape[2], 8, 6, photometric, [one]) | {513: (4, [8]), 514: (4, [len(one)])}
        if photometric == 6:
            entries[530] = (3, [(1, 2, 2)[sampling], (1, 1, 2)[sampling]])
        source = _with_directory(entries, one, "<", False)
        # libtiff repeats the shared colours, where libjpeg blends them.
        tolerance = 12 if sampling else UPPER
        shown, name = (
            as_rgb(held, 8, "", photometric == 0),
            f"old JPEG, photometric {photometric}, subsampling {sampling}, quality {quality}",
        )
        held_too = _by_tifffile_of(held.shape)
        yield Cell("TIFF", name, lambda s=source: s, held, shown, tolerance, held_too if photometric else None)


_NUMBERS = {"signed": (2, "i", (1, 2, 4)), "fractions": (3, "f", (2, 4, 8)), "unsigned": (1, "u", (4, 8))}


def refused_cells() -> Iterator[Cell]:
    """What has no known black and white, or colours that are not made RGB of."""
    ways = product(_NUMBERS.items(), (1, 3), (None, "deflate", "lzw"), (False, True), "<>", (None, (16, 16)))
    for (name, (_, letter, sizes)), channels, compression, predictor, order, tile in ways:
        for size in sizes:
            if predictor and (compression is None or (letter != "f" and size > 2)):
                continue
            shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
            given = (100 * np.random.default_rng(size).random(shape)).astype(f"{order}{letter}{size}")
            options = {"compression": compression, "tile": tile, "byteorder": order}
            options |= {"predictor": True} if predictor else {}
            kind = "rgb" if channels == 3 else "minisblack"
            about = f"{name} of {8 * size} bits, {kind}, {compression}{', predictor' if predictor else ''}, {order}"
            words = {"signed": "signed", "fractions": "fractions", "unsigned": "whole numbers"}[name]
            yield Cell(
                "TIFF",
                f"{about}{', tiles' if tile else ''}",
                lambda g=given, k=kind, o=options: _tifffile(g, photometric=k, **o),
                given,
                given,
                0,
                None,
                f"{8 * size}-bit {words}" if name != "signed" else f"signed {8 * size}-bit",
            )
    colours = {8: "CIELAB", 9: "unusual colours", 10: "unusual colours", 32844: "unusual colours"}
    colours |= {32845: "unusual colours", 32803: "raw camera", 34892: "raw camera"}
    for (photometric, words), samples, order in product(colours.items(), (3, 4), "<>"):
        values = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, samples))
        body = values.astype(np.uint8).tobytes()
        source = _with_directory(_entries(samples, 8, 1, photometric, [body]), body, order, False)
        words = words if (photometric, samples) != (8, 4) else "unusual colours"
        name = f"photometric {photometric}, {samples} channels, {order}"
        yield Cell("TIFF", name, lambda s=source: s, values, values, 0, None, words)


def more_numbers_cells() -> Iterator[Cell]:
    """Palettes of 16 bits, bits from the lowest on, and how the picture is turned."""
    for bits, order in product((1, 2, 4, 8, 16), "<>"):
        made = np.random.default_rng(bits)
        table, values = made.integers(0, 65_536, (3, 1 << bits)), made.integers(0, 1 << bits, (HEIGHT, WIDTH, 1))
        table[0, 0] = 65_535
        body = b"".join(_packed(row[None], bits, order) for row in values)
        entries = _entries(1, bits, 1, 3, [body]) | {320: (3, table.ravel().tolist())}
        source = _with_directory(entries, body, order, False)
        shown = 255 * (table.T / 65_535)[values[..., 0]]
        yield Cell(
            "TIFF", f"palette {bits} bits, {order}", lambda s=source: s, values, shown, UPPER, _as_stored(values)
        )
    swapped = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    for bits, compression in product((1, 2, 4, 8, 16), ("none", "Deflate")):
        values = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH, 1))
        number, packed = _PACKED[compression]
        body = packed(b"".join(_packed(row[None], bits, "<") for row in values)).translate(swapped)
        source = _with_directory(_entries(1, bits, number, 1, [body]) | {266: (3, [2])}, body, "<", False)
        name = f"{bits} bits from the lowest on, {compression}"
        yield Cell("TIFF", name, lambda s=source: s, values, as_rgb(values, bits), UPPER, None)
    ways = product(range(1, 9), (8, 12, 16), (False, True), "<>")
    for orientation, bits, deflated, order in ways:
        values = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH, 3))
        body = b"".join(_packed(row[None], bits, order) for row in values)
        body = zlib.compress(body) if deflated else body
        entries = _entries(3, bits, 8 if deflated else 1, 2, [body]) | {274: (3, [orientation])}
        source = _with_directory(entries, body, order, False)
        name = f"RGB {bits} bits, turned as {orientation}{', Deflate' if deflated else ''}, {order}"
        shown = upright(as_rgb(values, bits), orientation)
        yield Cell("TIFF", name, lambda s=source: s, values, shown, UPPER, _as_stored(values))


def _as_stored(values: np.ndarray) -> Any:
    def decode(source: bytes) -> np.ndarray:
        import tifffile

        return np.asarray(tifffile.imread(io.BytesIO(source))).reshape(values.shape)

    return decode


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What is stored as seen: row 0 and column 0 are the sides that tag 274 names (TIFF 6.0, section 8)."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    right = orientation in (2, 3, 6, 7)
    below = orientation in (3, 4, 7, 8)
    return pixels[:: -1 if below else 1, :: -1 if right else 1]


def tiff_more_cells() -> Iterator[Cell]:
    """All of this module."""
    yield from ycbcr_cells()
    yield from fax_cells()
    yield from within_cells()
    yield from jpeg_within_cells()
    yield from refused_cells()
    yield from more_numbers_cells()
