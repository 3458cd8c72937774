"""The cells of formats that an encoder writes, or that are a header and numbers; see `format_cells`."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
from format_cells import HEIGHT, MIXED, NEAR, UPPER, WIDTH, Cell, as_rgb, numbers
from PIL import Image
from unkind import gradient

_RAW = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}


def _by(name: str, values: np.ndarray) -> Callable[[bytes], np.ndarray]:
    def decode(source: bytes) -> np.ndarray:
        import imagecodecs

        found: np.ndarray = getattr(imagecodecs, name)(source)
        return found.reshape(values.shape)

    return decode


def _encoded(name: str, values: np.ndarray, bits: int, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        import imagecodecs

        given = values.astype(np.uint8 if bits <= 8 else np.uint16)
        return bytes(getattr(imagecodecs, f"{name}_encode")(given[..., 0] if given.shape[2] == 1 else given, **options))

    return make


def _alpha(channels: int) -> str:
    return "straight" if channels in (2, 4) else ""


def jpeg_2000_cells() -> Iterator[Cell]:
    for bits, channels, codec, reversible in product(
        (8, 9, 10, 11, 12, 14, 15, 16), (1, 3, 4), ("jp2", "j2k"), (True,)
    ):
        values = numbers(bits, channels)
        make = _encoded("jpeg2k", values, bits, bitspersample=bits, codecformat=codec, reversible=reversible)
        tolerance = MIXED if channels == 4 else NEAR
        expected = as_rgb(values, bits, _alpha(channels))
        name = f"{_RAW[channels]} {bits} bits, {codec}"
        yield Cell("JPEG 2000", name, make, values, expected, tolerance, _by("jpeg2k_decode", values))


def jpeg_xl_cells() -> Iterator[Cell]:
    for bits, channels, boxes in product((8, 9, 10, 12, 14, 16), (1, 2, 3, 4), (False, True)):
        values = numbers(bits, channels)
        make = _encoded("jpegxl", values, bits, lossless=True, bitspersample=bits, usecontainer=boxes)
        tolerance = MIXED if channels in (2, 4) else NEAR
        expected = as_rgb(values, bits, _alpha(channels))
        name = f"{_RAW[channels]} {bits} bits, {'boxes' if boxes else 'codestream'}"
        yield Cell("JPEG XL", name, make, values, expected, tolerance, _by("jpegxl_decode", values))


def lossless_cells() -> Iterator[Cell]:
    for (name, codec, options), channels in product((("WebP", "webp", {"lossless": True}), ("QOI", "qoi", {})), (3, 4)):
        values = numbers(8, channels)
        if channels == 4:
            values[..., 3] = np.maximum(values[..., 3], 1)  # colours of what is clear need not be kept
        make, second = _encoded(codec, values, 8, **options), _by(f"{codec}_decode", values)
        yield Cell(name, _RAW[channels], make, values, as_rgb(values, 8, _alpha(channels)), MIXED, second)


def ppm_cells() -> Iterator[Cell]:
    for channels, most, plain, comment in product(
        (1, 3), (1, 15, 255, 1023, 4095, 65_535), (False, True), (False, True)
    ):
        values = np.random.default_rng(most).integers(0, most + 1, (HEIGHT, WIDTH, channels))
        kind = {(1, True): 2, (3, True): 3, (1, False): 5, (3, False): 6}[channels, plain]
        head = f"P{kind}\n{'# a comment' + chr(10) if comment else ''}{WIDTH} {HEIGHT}\n{most}\n".encode()
        body = (
            " ".join(map(str, values.ravel())).encode()
            if plain
            else values.astype("u1" if most < 256 else ">u2").tobytes()
        )
        shown = 255 * np.repeat(values, 3 // channels, axis=2) / most
        name = f"P{kind}, up to {most}{', a comment' if comment else ''}"
        yield Cell("PPM", name, lambda h=head, b=body: h + b, values, shown, UPPER, None)
    for plain in (False, True):
        bits = np.random.default_rng(1).integers(0, 2, (HEIGHT, WIDTH, 1))
        body = " ".join(map(str, bits.ravel())).encode() if plain else np.packbits(bits[..., 0], axis=1).tobytes()
        source = f"P{1 if plain else 4}\n{WIDTH} {HEIGHT}\n".encode() + body
        yield Cell("PPM", f"P{1 if plain else 4}", lambda s=source: s, bits, as_rgb(bits, 1, "", True), NEAR, None)


def bmp_cells() -> Iterator[Cell]:
    for bits, upside_down in product((1, 4, 8, 24, 32), (False, True)):
        colours = np.random.default_rng(bits).integers(0, 256, (1 << min(bits, 8), 3))
        values = numbers(bits, 1) if bits <= 8 else numbers(8, 3)
        shown = colours[values[..., 0]] if bits <= 8 else values
        if bits <= 8:
            rows = [np.packbits((row >> np.arange(bits)[::-1] & 1).astype(np.uint8)).tobytes() for row in values]
        else:
            wide = np.concatenate([values[..., ::-1], np.zeros((HEIGHT, WIDTH, 1), int)], axis=2)
            rows = [row.astype(np.uint8).tobytes() for row in (wide if bits == 32 else wide[..., :3])]
        body = b"".join(row + bytes(-len(row) % 4) for row in (rows if upside_down else rows[::-1]))
        table = b"".join(bytes(one[::-1].tolist()) + b"\0" for one in colours) if bits <= 8 else b""
        tall = -HEIGHT if upside_down else HEIGHT
        head = struct.pack("<IiiHHIIiiII", 40, WIDTH, tall, 1, bits, 0, len(body), 2835, 2835, len(table) // 4, 0)
        start = 14 + len(head) + len(table)
        source = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + table + body
        name = f"{bits} bits, {'top down' if upside_down else 'bottom up'}"
        yield Cell("BMP", name, lambda s=source: s, values, shown.astype(float), NEAR, None)


def jpeg_cells() -> Iterator[Cell]:
    """What they hold is what another build of the decoder makes of them: without a loss there is no JPEG."""
    ways = product(("RGB", "L"), (0, 1, 2), (50, 75, 95), (False, True), (0, 1))
    for mode, sampling, quality, progressive, restart in ways:
        if mode == "L" and sampling:
            continue
        buffer = io.BytesIO()
        more: dict[str, Any] = {"subsampling": sampling} if mode == "RGB" else {}
        picture = Image.fromarray(gradient(HEIGHT, WIDTH)).convert(mode)
        picture.save(buffer, "JPEG", quality=quality, progressive=progressive, restart_marker_rows=restart, **more)
        source = buffer.getvalue()
        import imagecodecs

        held = imagecodecs.jpeg8_decode(source).reshape(HEIGHT, WIDTH, -1)
        shown = np.repeat(held, 3, axis=2) if held.shape[2] == 1 else held
        name = f"{mode} subsampling {sampling}, quality {quality}{', progressive' if progressive else ''}"
        yield Cell("JPEG", f"{name}, {restart} restart", lambda s=source: s, held, shown.astype(float), UPPER, None)
