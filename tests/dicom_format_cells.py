"""The cells of DICOM: transfer syntaxes, depths, signs, colours, windows and tables; see `format_cells`.

Written by PS3.5, element by element; what is shown is computed by the formulas of PS3.3, C.7.6.3 and C.11.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
from format_cells import HEIGHT, MIXED, NEAR, WIDTH, Cell, numbers, pack_bits
from PIL import Image
from unkind import gradient

_ROOT = "1.2.840.10008.1.2"
IMPLICIT, EXPLICIT, DEFLATED, BIG, RLE = _ROOT, f"{_ROOT}.1", f"{_ROOT}.1.99", f"{_ROOT}.2", f"{_ROOT}.5"
_PLAIN = {"implicit": IMPLICIT, "explicit": EXPLICIT, "deflated": DEFLATED, "big-endian": BIG}
_LONG = ("OB", "OW", "SQ", "UN")

Element = tuple[int, int, str, Any]  # group, number, kind, value


def _element(one: Element, syntax: str) -> bytes:
    group, number, kind, value = one
    order = ">" if syntax == BIG else "<"
    if kind == "SQ":
        inner = b"".join(_element(each, syntax) for each in value)
        content = struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(inner)) + inner
    elif kind == "US":
        given = value if isinstance(value, tuple) else (value,)
        content = struct.pack(f"{order}{len(given)}H", *given)
    else:
        content = value if isinstance(value, bytes) else str(value).encode()
    content += (b"\0" if kind in ("UI", "OB") else b" ") * (len(content) % 2)
    head = struct.pack(f"{order}HH", group, number)
    if syntax == IMPLICIT:
        return head + struct.pack("<I", len(content)) + content
    if kind in _LONG:
        return head + kind.encode() + struct.pack(f"{order}HI", 0, len(content)) + content
    return head + kind.encode() + struct.pack(f"{order}H", len(content)) + content


def dicom_file(elements: list[Element], pixels: Any, syntax: str = EXPLICIT) -> bytes:
    """A file. pixels : an array, or the coded frames as a list of bytes"""
    if isinstance(pixels, list):
        parts = [b"", *pixels]
        items = b"".join(
            struct.pack("<HHI", 0xFFFE, 0xE000, len(one) + len(one) % 2) + one + b"\0" * (len(one) % 2) for one in parts
        )
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        data = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + items + end
    else:
        wide = pixels.dtype.itemsize > 1
        raw = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()
        data = _element((0x7FE0, 0x10, "OW" if wide else "OB", raw), syntax)
    body = b"".join(_element(one, syntax) for one in sorted(elements, key=lambda one: one[:2])) + data
    if syntax == DEFLATED:
        squeezed = zlib.compressobj(wbits=-15)
        body = squeezed.compress(body) + squeezed.flush()
    about = [(2, 2, "UI", "1.2.840.10008.5.1.4.1.1.7"), (2, 3, "UI", "1.2.3"), (2, 0x10, "UI", syntax)]
    meta = b"".join(_element(one, EXPLICIT) for one in about)
    return bytes(128) + b"DICM" + _element((2, 0, "UL", struct.pack("<I", len(meta))), EXPLICIT) + meta + body


def described(
    kind: str, stored: int, signed: bool = False, colours: int = 1, frames: int = 1, high: int | None = None
) -> list[Element]:
    allocated = 8 if stored <= 8 and (high or 0) < 8 else 16
    found: list[Element] = [
        (0x28, 2, "US", colours),
        (0x28, 4, "CS", kind),
        (0x28, 8, "IS", frames),
        (0x28, 0x10, "US", HEIGHT),
        (0x28, 0x11, "US", WIDTH),
        (0x28, 0x100, "US", allocated),
        (0x28, 0x101, "US", stored),
        (0x28, 0x102, "US", stored - 1 if high is None else high),
        (0x28, 0x103, "US", int(signed)),
    ]
    return found + ([(0x28, 6, "US", 0)] if colours > 1 else [])


def _shown(shares: np.ndarray, kind: str) -> np.ndarray:
    shares = np.clip(shares, 0, 1)
    return np.repeat(255 * (1 - shares if kind == "MONOCHROME1" else shares)[..., None], 3, axis=2)


def grey_cells() -> Iterator[Cell]:
    ways = product(("MONOCHROME1", "MONOCHROME2"), (8, 10, 12, 16), (False, True), _PLAIN.items(), (1, 3))
    for kind, bits, signed, (name, syntax), frames in ways:
        values = numbers(bits)[..., 0]
        stored = (values - (1 << (bits - 1)) if signed else values) & ((1 << bits) - 1)
        given = np.stack([stored, *[stored[::-1]] * (frames - 1)]).astype("u1" if bits == 8 else "u2")
        source = dicom_file(described(kind, bits, signed, frames=frames), given, syntax)
        about = f"{kind} {bits} bits{' signed' if signed else ''}, {name}, {frames} frames"
        shown = _shown(values / ((1 << bits) - 1), kind)
        yield Cell("DICOM", about, lambda s=source: s, values, shown, NEAR, None)
    for bits, high, signed in product((8, 10, 12), (12, 15), (False, True)):  # with other bits below
        if high < bits - 1:
            continue
        values = numbers(bits)[..., 0]
        stored = (values - (1 << (bits - 1)) if signed else values) & ((1 << bits) - 1)
        source = dicom_file(
            described("MONOCHROME2", bits, signed, high=high), (stored << (high + 1 - bits)).astype("u2")
        )
        about = f"{bits} bits, the highest is {high}{', signed' if signed else ''}"
        shown = _shown(values / ((1 << bits) - 1), "MONOCHROME2")
        yield Cell(
            "DICOM",
            about,
            lambda s=source: s,
            values,
            shown,
            NEAR,
            None,
            "" if high == bits - 1 else "an obsolete layout",
        )


def _rle(frame: np.ndarray) -> bytes:
    """Byte planes, highest first, each row packed by itself (PS3.5, annex G)."""
    height = frame.shape[0]
    deep = frame.reshape(height, WIDTH, -1)
    places = product(range(deep.shape[2]), range(deep.dtype.itemsize)[::-1])
    planes = [((deep[..., channel] >> (8 * byte)) & 255).astype(np.uint8) for channel, byte in places]
    packed = [b"".join(pack_bits(row.tobytes()) for row in plane) for plane in planes]
    packed = [one + b"\0" * (len(one) % 2) for one in packed]
    starts = [64 + sum(map(len, packed[:number])) for number in range(len(packed))]
    return struct.pack("<16I", len(packed), *starts, *[0] * (15 - len(starts))) + b"".join(packed)


_CODED = {
    "57": ("ljpeg", {}, (8, 12, 16)),
    "70": ("ljpeg", {}, (8, 12, 16)),
    "80": ("jpegls", {}, (8, 12, 16)),
    "90": ("jpeg2k", {"codecformat": "j2k", "reversible": True}, (8, 12, 16)),
    "91": ("jpeg2k", {"codecformat": "j2k", "reversible": True}, (8, 12, 16)),
    "110": ("jpegxl", {"lossless": True}, (8, 12, 16)),
}


def coded_cells() -> Iterator[Cell]:
    import imagecodecs

    for kind, signed, frames in product(("MONOCHROME1", "MONOCHROME2"), (False, True), (1, 2)):
        for bits in (8, 12, 16):
            values = numbers(bits)[..., 0]
            stored = ((values - (1 << (bits - 1)) if signed else values) & ((1 << bits) - 1)).astype(
                "u1" if bits == 8 else "u2"
            )
            shown, about = _shown(values / ((1 << bits) - 1), kind), f"{kind} {bits} bits{' signed' if signed else ''}"
            head = described(kind, bits, signed, frames=frames)
            source = dicom_file(head, [_rle(stored), _rle(stored[::-1])][:frames], RLE)
            yield Cell("DICOM", f"{about}, RLE, {frames}", lambda s=source: s, values, shown, NEAR, None)
            for number, (codec, options, depths) in _CODED.items():
                if bits not in depths:
                    continue
                more = {"bitspersample": bits} if codec != "jpegls" else {}
                one = bytes(getattr(imagecodecs, f"{codec}_encode")(stored, **options, **more))
                source = dicom_file(head, [one, one][:frames], f"{_ROOT}.4.{number}")
                name = f"{about}, {codec} (4.{number}), {frames}"
                yield Cell("DICOM", name, lambda s=source: s, values, shown, NEAR, None)
    yield from _lossy_cells()


def _lossy_cells() -> Iterator[Cell]:
    import imagecodecs

    picture = gradient(HEIGHT, WIDTH)
    for kind, quality in product(("MONOCHROME1", "MONOCHROME2"), (75, 95)):
        buffer = io.BytesIO()
        Image.fromarray(picture).convert("L").save(buffer, "JPEG", quality=quality)
        one = buffer.getvalue()
        held = imagecodecs.jpeg8_decode(one)
        source = dicom_file(described(kind, 8), [one], f"{_ROOT}.4.50")
        name = f"{kind} 8 bits, JPEG baseline, quality {quality}"
        yield Cell("DICOM", name, lambda s=source: s, held, _shown(held / 255, kind), 1.01, None)
        deep = (picture[..., 0].astype(np.uint16) << 4) + 3
        one = bytes(imagecodecs.jpeg8_encode(deep, bitspersample=12, level=quality))
        held = imagecodecs.jpeg8_decode(one)
        source = dicom_file(described(kind, 12), [one], f"{_ROOT}.4.51")
        name = f"{kind} 12 bits, JPEG extended, quality {quality}"
        yield Cell("DICOM", name, lambda s=source: s, held, _shown(held / 4095, kind), NEAR, None)
    for sampling, quality in product((0, 1, 2), (75, 95)):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=sampling)
        one = buffer.getvalue()
        held = imagecodecs.jpeg8_decode(one).astype(float)
        kind = "YBR_FULL_422" if sampling else "YBR_FULL"
        source = dicom_file(described(kind, 8, colours=3), [one], f"{_ROOT}.4.50")
        name = f"{kind}, JPEG baseline, subsampling {sampling}, quality {quality}"
        yield Cell("DICOM", name, lambda s=source: s, held, held, 1.01, None)
    values = numbers(8, 3)
    for number, kind in (("90", "YBR_RCT"), ("91", "YBR_RCT"), ("90", "RGB")):
        one = bytes(
            imagecodecs.jpeg2k_encode(
                values.astype(np.uint8), codecformat="j2k", reversible=True, mct=kind == "YBR_RCT"
            )
        )
        source = dicom_file(described(kind, 8, colours=3), [one], f"{_ROOT}.4.{number}")
        name = f"{kind}, JPEG 2000 (4.{number})"
        yield Cell("DICOM", name, lambda s=source: s, values, values.astype(float), NEAR, None)
    for number, one in (
        ("80", bytes(imagecodecs.jpegls_encode(values.astype(np.uint8)))),
        ("70", bytes(imagecodecs.jpeg8_encode(values.astype(np.uint8), lossless=True, colorspace="RGB"))),
    ):
        source = dicom_file(described("RGB", 8, colours=3), [one], f"{_ROOT}.4.{number}")
        yield Cell("DICOM", f"RGB (4.{number})", lambda s=source: s, values, values.astype(float), NEAR, None)


def colour_cells() -> Iterator[Cell]:
    for (name, syntax), planar, bits in product(_PLAIN.items(), (False, True), (8, 16)):
        values = numbers(bits, 3)
        given = (np.moveaxis(values, 2, 0) if planar else values).astype("u1" if bits == 8 else "u2")
        head = [one for one in described("RGB", bits, colours=3) if one[:2] != (0x28, 6)]
        source = dicom_file([*head, (0x28, 6, "US", int(planar))], given, syntax)
        about = f"RGB {bits} bits, {'planes' if planar else 'pixels'}, {name}"
        yield Cell("DICOM", about, lambda s=source: s, values, 255 * values / ((1 << bits) - 1), NEAR, None)
    values = np.random.default_rng(4).integers(90, 166, (HEIGHT, WIDTH, 3))
    y, blue, red = np.moveaxis(values.astype(float), 2, 0)
    full = np.stack([y + 1.402 * (red - 128), y - 0.344136 * (blue - 128) - 0.714136 * (red - 128)], axis=2)
    shown = np.clip(np.dstack([full, y + 1.772 * (blue - 128)]), 0, 255)
    for planar, coded in product((False, True), (False, True)):
        head = [one for one in described("YBR_FULL", 8, colours=3) if one[:2] != (0x28, 6)]
        head.append((0x28, 6, "US", int(planar)))
        given = (np.moveaxis(values, 2, 0) if planar else values).astype(np.uint8)
        pixels: Any = [_rle(values.astype(np.uint8))] if coded else given
        source = dicom_file(head, pixels, RLE if coded else EXPLICIT)
        name = f"YBR_FULL, {'planes' if planar else 'pixels'}{', RLE' if coded else ''}"
        yield Cell("DICOM", name, lambda s=source: s, values, shown, MIXED, None)
    yield from _palette_cells()


def _palette_cells() -> Iterator[Cell]:
    for entries, bits, first, coded, (name, syntax) in product(
        (16, 256), (8, 16), (0, 40), (False, True), _PLAIN.items()
    ):
        if coded and syntax != EXPLICIT:
            continue
        values = numbers(8)[..., 0]
        table = np.random.default_rng(entries).integers(0, 1 << bits, (3, entries))
        place = np.clip(values - first, 0, entries - 1)
        order = ">" if syntax == BIG else "<"
        colours: list[Element] = []
        for number in range(3):
            colours.append((0x28, 0x1101 + number, "US", (entries, first, bits)))
            packed = table[number].astype("u1" if bits == 8 else f"{order}u2").tobytes()
            if bits == 8 and syntax == BIG:
                packed = np.frombuffer(packed, "<u2").astype(">u2").tobytes()
            colours.append((0x28, 0x1201 + number, "OW", packed))
        head = [*described("PALETTE COLOR", 8), *colours]
        pixels: Any = [_rle(values.astype(np.uint8))] if coded else values.astype(np.uint8)
        source = dicom_file(head, pixels, RLE if coded else syntax)
        shown = 255 * np.moveaxis(table[:, place], 0, 2) / ((1 << bits) - 1)
        about = f"palette of {entries} x {bits} bits from {first}{', RLE' if coded else ''}, {name}"
        refusal = "an obsolete layout" if syntax == BIG else ""
        yield Cell("DICOM", about, lambda s=source: s, values, shown, NEAR, None, refusal)


def window_cells() -> Iterator[Cell]:
    ways = product(
        ("MONOCHROME1", "MONOCHROME2"),
        ("LINEAR", "LINEAR_EXACT", "SIGMOID", ""),
        ((1, 0), (1, -1024), (0.25, 7), (-1, 100)),
        ((40, 400), (300, 1), (-600, 1500)),
        (False, True),
    )
    for kind, function, (slope, intercept), (centre, width), signed in ways:
        values = numbers(12)[..., 0] - (2048 if signed else 0)
        more: list[Element] = [(0x28, 0x1050, "DS", centre), (0x28, 0x1051, "DS", width)]
        more += [(0x28, 0x1052, "DS", intercept), (0x28, 0x1053, "DS", slope)]
        more += [(0x28, 0x1056, "CS", function)] if function else []
        x = values * slope + intercept
        if function == "SIGMOID":
            with np.errstate(over="ignore"):
                shares = 1 / (1 + np.exp(-4 * (x - centre) / width))
        elif function == "LINEAR_EXACT":
            shares = (x - centre) / width + 0.5
        else:
            low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
            inner = (x - (centre - 0.5)) / max(width - 1, 1) + 0.5
            shares = np.where(x <= low, 0, np.where(x > high, 1, inner))
        source = dicom_file([*described(kind, 12, signed), *more], (values & 4095).astype("u2"))
        about = f"{kind}, {function or 'no function'}, {centre} / {width}, x {slope} + {intercept}"
        about += ", signed" if signed else ""
        yield Cell("DICOM", about, lambda s=source: s, values, _shown(shares, kind), NEAR, None)
    for kind, first, bits, count in product(("MONOCHROME1", "MONOCHROME2"), (0, 30), (8, 12, 16), (100, 256)):
        values = numbers(8)[..., 0]
        table = np.random.default_rng(count).integers(0, 1 << bits, count)
        entry: list[Element] = [
            (0x28, 0x3002, "US", (count, first, bits)),
            (0x28, 0x3006, "OW", table.astype("<u2").tobytes()),
        ]
        shares = table[np.clip(values - first, 0, count - 1)] / ((1 << bits) - 1)
        for number, name in ((0x3010, "VOI"), (0x3000, "modality")):
            source = dicom_file([*described(kind, 8), (0x28, number, "SQ", entry)], values.astype("u1"))
            about = f"{kind}, {name} table of {count} x {bits} bits from {first}"
            yield Cell("DICOM", about, lambda s=source: s, values, _shown(shares, kind), NEAR, None)


def dicom_cells() -> Iterator[Cell]:
    """All of this module; none where pydicom is missing."""
    if find_spec("pydicom") is None:
        return
    for one in (grey_cells, coded_cells, colour_cells, window_cells):
        yield from one()
