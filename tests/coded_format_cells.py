"""The cells of JPEG, JPEG 2000, JPEG XL, AVIF, WebP, HEIC and PAM beyond the plain ones; see `format_cells`."""

from __future__ import annotations

import io
import struct
from base64 import b85decode
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
from format_cells import HEIGHT, MIXED, NEAR, UPPER, WIDTH, Cell, as_rgb, numbers
from more_format_cells import _by, _encoded
from PIL import Image
from tiff_more_cells import upright

_RAW = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}


def _smooth() -> np.ndarray:
    down, right = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([right * 7, down * 12, 255 - right * 3 - down * 5], axis=2).clip(0, 255).astype(np.uint8)


def _as_jpeg(**options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(_smooth()).convert(options.pop("mode", "RGB"))
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


# `_smooth` of 24 x 40, written by libjpeg-turbo with arithmetic coding, which no encoder at hand does; base 85.
_ARITHMETIC = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00;&K2L=TQ2L}fU2?z=d6b%du3k(?&6Au&}8Xq1V8XO!TBrYc)A}k{u94I#_EHE)NG&CP4IXyTsJT5adGX"
    "L8ELjeg12@DGi7!3^=G9erxGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBW?k01*fP7yu{(0U`hb5di}c0sqV"
    "Z3IGrg1pyEd1^?Or3<CiG0ucid06zf#0JmDpv(rfBa2)bReY&@-n8C^X9sHpI!^oqp@+cK5WQ94y5!Vz*?yzIX*}=*Mr%@JRZT4Fgvt4GOTO)e&U"
    "~VJ!oKb?!>8cqK68R@!Xly=57Rgr}4kn%PWnKT-"
)
_PROGRESSIVE = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00;&K2L=TQ2L}fU2?z=d6b%du3k(?&6Au&}8Xq1V8XO!TBrYc)A}k{u94I#_EHE)NG&CP4IXyTsJT5adGX"
    "L8ELjeg12@DGi7!3^=G9erxGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBW?l01*fP7yu{(0U`hb5di}c0sqV"
    "Z1^^HN5dYc$3<CiG0uTcb000610B;43>$o+H<nH#wPxKR!T*;)>1<Zh}Qk$F$f*I=2|I7dc5C#9*00;pA009L868q{$f=SggApgt&1Q7-Q+5iXv0"
    "|5a)0TXu648f^talmvtk3j#-00a>Q|Jncu0RjO5KLIwZ+*ss5a;JRDk)`ne%m4%s1^?Or2mt{A20sF@|I7dc5C#9*00;pA00BQCdH>n~3<CiG0ss"
    "R5000ojw!xf$|I7dc5e5I+00;pC0RcY{)f}5RQvDdf|I7dc5e5I+00;pB0RcY{A2BZB)8PNi00a;P|Jncu0RaF3KM+h~yazGpK>yh"
)


def _without_adobe(source: bytes) -> bytes:
    at = source.index(b"\xff\xee\x00\x0eAdobe")
    return source[:at] + source[at + 16 :]


def _inks(inverted: np.ndarray) -> np.ndarray:
    """Adobe's programs store how much light is left of each ink, which other programs have copied."""
    shares = inverted / 255
    return np.asarray(255 * shares[..., :3] * shares[..., 3:])


def jpeg_more_cells() -> Iterator[Cell]:
    """What they hold is what imagecodecs makes of them, or what was put in where there is no loss."""
    yield from _turned_cells()
    yield from _deep_jpeg_cells()
    yield from _ink_cells()
    import imagecodecs

    for name, text in (("arithmetic", _ARITHMETIC), ("arithmetic, progressive", _PROGRESSIVE)):
        source = b85decode(text)
        held = imagecodecs.jpeg8_decode(source).astype(int)
        yield Cell("JPEG", name, lambda s=source: s, held, as_rgb(held, 8), UPPER, None)
    plain = _as_jpeg()
    for marker, words in ((0xC5, "unusual way"), (0xC6, "unusual way"), (0xC7, "unusual way"), (0xCB, "unusual way")):
        other = bytes([0xFF, marker]).join(plain.split(b"\xff\xc0", 1))
        yield Cell("JPEG", f"process {marker:x}", lambda s=other: s, numbers(8), numbers(8), 0, None, words)

    for mode, progressive, sampling in product(("RGB", "L"), (False, True), (0, 1, 2)):
        for rows, blocks, optimized in ((1, 0, False), (0, 1, False), (0, 3, True)):
            if mode == "L" and sampling:
                continue
            source = _as_jpeg(
                mode=mode,
                progressive=progressive,
                subsampling=sampling,
                restart_marker_rows=rows,
                restart_marker_blocks=blocks,
                optimize=optimized,
                icc_profile=b"\0" * 70_000,
            )
            held = imagecodecs.jpeg8_decode(source).reshape(HEIGHT, WIDTH, -1).astype(int)
            name = f"{mode}, {sampling}, restarts of {rows} rows, {blocks} blocks, a profile in two parts"
            name += f"{', progressive' if progressive else ''}{', optimized' if optimized else ''}"
            yield Cell("JPEG", name, lambda s=source: s, held, as_rgb(held, 8), UPPER, None)


def _turned_cells() -> Iterator[Cell]:
    import imagecodecs

    exif = Image.Exif()
    for orientation, form, mode in product(range(1, 9), ("JPEG", "PNG", "WebP", "AVIF"), ("RGB", "L")):
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        image = Image.fromarray(_smooth()).convert(mode)
        more: dict[str, Any] = {"WebP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(
            form, {}
        )
        image.save(buffer, form, exif=exif.tobytes(), **more)
        source = buffer.getvalue()
        held = np.asarray(image).reshape(HEIGHT, WIDTH, -1).astype(int)
        if form == "JPEG":
            held = imagecodecs.jpeg8_decode(source).reshape(HEIGHT, WIDTH, -1).astype(int)
        shown = upright(as_rgb(held, 8), orientation)
        tolerance = 3.1 if form == "AVIF" else UPPER
        yield Cell(form, f"{mode}, turned as {orientation}", lambda s=source: s, held, shown, tolerance, None)


def _deep_jpeg_cells() -> Iterator[Cell]:
    import imagecodecs

    for bits, channels, predictor in product((8, 9, 10, 11, 12, 13, 14, 15, 16), (1, 3), (1, 4, 7)):
        values = numbers(bits, channels)
        make = _encoded("jpeg8", values, bits, bitspersample=bits, lossless=True, predictor=predictor)
        name = f"{_RAW[channels]} {bits} bits, lossless, predictor {predictor}"
        yield Cell("JPEG", name, make, values, as_rgb(values, bits), NEAR, _by("jpeg8_decode", values))
    for channels, quality, sampling in product((1, 3), (75, 95), ("444", "422", "420")):
        if channels == 1 and sampling != "444":
            continue
        picture = (_smooth()[..., :channels].astype(np.uint16) << 4) + 5
        more: dict[str, Any] = {"subsampling": sampling} if channels == 3 else {}
        source = _encoded("jpeg8", picture, 12, bitspersample=12, level=quality, **more)()
        held = imagecodecs.jpeg8_decode(source).reshape(HEIGHT, WIDTH, -1).astype(int)
        name = f"{_RAW[channels]} 12 bits, {sampling}, quality {quality}"
        yield Cell("JPEG", name, lambda s=source: s, held, as_rgb(held, 12), NEAR, None)
    for orientation in range(1, 9):
        values = numbers(12, 3)
        whole = _encoded("jpeg8", values, 12, bitspersample=12, lossless=True)()
        exif = Image.Exif()
        exif[0x0112] = orientation
        body = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
        source = whole[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + whole[2:]
        shown = upright(as_rgb(values, 12), orientation)
        yield Cell("JPEG", f"12 bits, turned as {orientation}", lambda s=source: s, values, shown, NEAR, None)
    for bits, channels in product((8, 12, 16), (1, 3)):
        make = _encoded("jpegls", numbers(bits, channels), bits)
        yield Cell("JPEG", f"LS, {bits} bits, {channels}", make, numbers(8), numbers(8), 0, None, "JPEG-LS")


def _ink_cells() -> Iterator[Cell]:
    import imagecodecs

    picture = np.dstack([_smooth(), 255 - _smooth()[..., :1] // 2])
    for space, quality, adobe in product(("CMYK", "YCCK"), (75, 95), (True, False)):
        source = bytes(imagecodecs.jpeg8_encode(picture, level=quality, colorspace="CMYK", outcolorspace=space))
        if not adobe and space == "YCCK":
            continue  # without the mark nothing says that it is YCCK
        held = imagecodecs.jpeg8_decode(source).astype(int)
        source = source if adobe else _without_adobe(source)
        name = f"{space}, quality {quality}{'' if adobe else ', not marked as Adobe has it'}"
        yield Cell("JPEG", name, lambda s=source: s, held, _inks(held), MIXED, None)


# --- JPEG 2000 ------------------------------------------------------------------------------------------------------


def jpeg_2000_more_cells() -> Iterator[Cell]:
    for bits, channels, codec in product((1, 2, 4, 5, 7, 13), (1, 3, 4), ("jp2", "j2k")):
        values = numbers(bits, channels)
        make = _encoded("jpeg2k", values, bits, bitspersample=bits, codecformat=codec, reversible=True)
        tolerance = MIXED if channels == 4 else NEAR
        shown = as_rgb(values, bits, "straight" if channels == 4 else "")
        name = f"{_RAW[channels]} {bits} bits, {codec}"
        yield Cell("JPEG 2000", name, make, values, shown, tolerance, _by("jpeg2k_decode", values))
    for bits, channels, resolutions in product((8, 12, 16), (1, 3), (1, 4)):
        values = numbers(bits, channels)
        more = {"bitspersample": bits, "reversible": True, "resolutions": resolutions}
        make = _encoded("jpeg2k", values, bits, codecformat="jp2", mct=False, **more)
        name = f"{_RAW[channels]} {bits} bits, {resolutions} resolutions"
        yield Cell("JPEG 2000", name, make, values, as_rgb(values, bits), NEAR, _by("jpeg2k_decode", values))
    for channels, tile, exact in product((1, 3, 4), ((16, 16), (8, 32)), (True, False)):
        values, buffer = numbers(8, channels), io.BytesIO()
        given = values.astype(np.uint8)
        image = Image.fromarray(given[..., 0] if channels == 1 else given)
        image.save(buffer, "JPEG2000", tile_size=tile, irreversible=not exact)
        source = buffer.getvalue()
        import imagecodecs

        held = values if exact else imagecodecs.jpeg2k_decode(source).reshape(values.shape).astype(int)
        shown, name = (
            as_rgb(held, 8, _alpha(channels)),
            f"{_RAW[channels]}, tiles of {tile}{'' if exact else ', lossy'}",
        )
        yield Cell("JPEG 2000", name, lambda s=source: s, held, shown, MIXED, _by("jpeg2k_decode", values))
    for bits, channels, codec in product((8, 12, 16), (1, 3), ("jp2", "j2k")):
        values = numbers(bits, channels) - (1 << (bits - 1))
        make = _signed(values, bits, codec)
        words, name = "signed numbers", f"signed, {_RAW[channels]} {bits} bits, {codec}"
        yield Cell("JPEG 2000", name, make, values, values, 0, None, words)
    for entries, channels in product((2, 16, 256), (3, 4)):
        yield _palette_cell(entries, channels)


def _signed(values: np.ndarray, bits: int, codec: str) -> Callable[[], bytes]:
    def make() -> bytes:
        import imagecodecs

        given = values.astype(np.int8 if bits <= 8 else np.int16)
        given = given[..., 0] if given.shape[2] == 1 else given
        return bytes(imagecodecs.jpeg2k_encode(given, bitspersample=bits, codecformat=codec, reversible=True))

    return make


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _palette_cell(entries: int, channels: int) -> Cell:
    """Numbers of a palette (ISO/IEC 15444-1, annex I.5.3), which stands in boxes before the codestream."""
    import imagecodecs

    made = np.random.default_rng([entries, channels])
    table, values = made.integers(0, 256, (entries, channels)), made.integers(0, entries, (HEIGHT, WIDTH, 1))
    stream = bytes(imagecodecs.jpeg2k_encode(values[..., 0].astype(np.uint8), codecformat="j2k", reversible=True))
    palette = struct.pack(">HB", entries, channels) + bytes([7] * channels) + table.astype(np.uint8).tobytes()
    mapped = b"".join(struct.pack(">HBB", 0, 1, one) for one in range(channels))
    alpha = struct.pack(">H12H", 4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 1, 0) if channels == 4 else b""
    header = _box(b"ihdr", struct.pack(">IIHBBBB", HEIGHT, WIDTH, 1, 7, 7, 0, 0)) + _box(b"colr", b"\1\0\0\0\0\0\x10")
    header += _box(b"pclr", palette) + _box(b"cmap", mapped) + (_box(b"cdef", alpha) if alpha else b"")
    source = b"\0\0\0\x0cjP  \r\n\x87\n" + _box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + _box(b"jp2h", header)
    source += _box(b"jp2c", stream)
    shown = as_rgb(table[values[..., 0]], 8, "straight" if channels == 4 else "")
    return Cell("JPEG 2000", f"palette of {entries}, {channels} channels", lambda: source, values, shown, MIXED, None)


# --- JPEG XL, AVIF, WebP, HEIC --------------------------------------------------------------------------------------


def jpeg_xl_more_cells() -> Iterator[Cell]:
    import imagecodecs

    for bits, channels, quality in product((8, 10, 12, 16), (1, 2, 3, 4), (70, 90)):
        picture = _picture(bits, channels)
        source = _encoded("jpegxl", picture, bits, level=quality, bitspersample=bits)()
        held = imagecodecs.jpegxl_decode(source).reshape(HEIGHT, WIDTH, -1).astype(int)
        shown, name = as_rgb(held, bits, _alpha(channels)), f"{_RAW[channels]} {bits} bits, lossy, quality {quality}"
        yield Cell("JPEG XL", name, lambda s=source: s, held, shown, MIXED, None)
    for sampling, progressive, boxes in product((0, 1, 2), (False, True), (False, True)):
        within = _as_jpeg(subsampling=sampling, progressive=progressive, quality=90)
        source = bytes(imagecodecs.jpegxl_encode_jpeg(within, usecontainer=boxes, numthreads=1))
        held = imagecodecs.jpegxl_decode(source).astype(int)
        name = f"a JPEG within, {sampling}{', progressive' if progressive else ''}{', boxes' if boxes else ''}"
        yield Cell("JPEG XL", name, lambda s=source: s, held, as_rgb(held, 8), UPPER, None)
    for size, channels in product((2, 4), (1, 3)):
        given = np.random.default_rng(1).random((HEIGHT, WIDTH, channels)).astype(f"f{size}")
        source = bytes(imagecodecs.jpegxl_encode(given[..., 0] if channels == 1 else given, lossless=True))
        name = f"fractions of {8 * size} bits, {channels}"
        yield Cell("JPEG XL", name, lambda s=source: s, given, given, 0, None, "fractions")


def _picture(bits: int, channels: int) -> np.ndarray:
    smooth = _smooth().astype(np.uint16)
    alpha = np.maximum(smooth[..., 1:2], 128)
    chosen = {1: smooth[..., :1], 2: np.dstack([smooth[..., :1], alpha]), 3: smooth, 4: np.dstack([smooth, alpha])}
    return np.asarray(chosen[channels] << (bits - 8))


def _alpha(channels: int) -> str:
    return "straight" if channels in (2, 4) else ""


def avif_cells() -> Iterator[Cell]:
    """Pillow makes 8 bits of the stored colours at once, imagecodecs first as many as there are."""
    import imagecodecs

    for bits, channels, form in product((8, 10, 12), (1, 3, 4), ("444", "422", "420", "400")):
        if (form == "400") != (channels == 1):
            continue
        for quality in (60, 90, 100):
            values = numbers(bits, channels) if quality == 100 else _picture(bits, channels)
            if quality == 100 and channels != 1:
                form_is_used, held = "lossless", values
                if form != "444":
                    continue
            else:
                form_is_used = form
            source = _encoded("avif", values, bits, level=quality, bitspersample=bits, pixelformat=form, speed=10)()
            held = imagecodecs.avif_decode(source).reshape(HEIGHT, WIDTH, -1).astype(int)
            held = held[..., : 1 if channels == 1 else None]
            tolerance = UPPER if quality == 100 else 3.6 if form != "420" and form != "422" else 8
            shown = as_rgb(held, bits, _alpha(channels))
            name = f"{_RAW[channels]} {bits} bits, {form_is_used}, quality {quality}"
            yield Cell("AVIF", name, lambda s=source: s, held, shown, tolerance + (channels == 4), None)
    frames = [Image.fromarray(_smooth()), Image.fromarray(_smooth()[::-1])]
    for form, more in (("AVIF", {"quality": 100, "subsampling": "4:4:4"}), ("WebP", {"lossless": True})):
        buffer = io.BytesIO()
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:], **more)
        source, held = buffer.getvalue(), _smooth().astype(int)
        yield Cell(form, "animated", lambda s=source: s, held, held.astype(float), 3.1, None)


def webp_cells() -> Iterator[Cell]:
    import imagecodecs

    for channels, quality, lossless in product((3, 4), (30, 75, 95, 100), (False, True)):
        picture = _picture(8, channels)
        source = _encoded("webp", picture, 8, level=quality, lossless=lossless)()
        held = imagecodecs.webp_decode(source).astype(int)
        name = f"{_RAW[channels]}, quality {quality}, {'lossless' if lossless else 'lossy'}"
        yield Cell("WebP", name, lambda s=source: s, held, as_rgb(held, 8, _alpha(channels)), MIXED, None)


def heic_cells() -> Iterator[Cell]:
    """Without a loss, in the colours that were put in: what is held is known by that."""
    if find_spec("pillow_heif") is None:
        return
    import pillow_heif

    for bits, channels in product((8, 10, 12), (3, 4)):
        values = numbers(bits, channels)
        mode = ("RGB" if channels == 3 else "RGBA") + (";16" if bits > 8 else "")
        given = (values << (16 - bits)).astype(np.uint16) if bits > 8 else values.astype(np.uint8)
        pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
        file = pillow_heif.from_bytes(mode, (WIDTH, HEIGHT), given.tobytes())
        buffer = io.BytesIO()
        file.save(buffer, quality=-1, chroma=444, matrix_coefficients=0)
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False
        source, shown = buffer.getvalue(), as_rgb(values, bits, _alpha(channels))
        name = f"{_RAW[channels]} {bits} bits"
        yield Cell("HEIC", name, lambda s=source: s, values, shown, MIXED, None)


# --- Netpbm ---------------------------------------------------------------------------------------------------------

_TUPLES = {1: "GRAYSCALE", 2: "GRAYSCALE_ALPHA", 3: "RGB", 4: "RGB_ALPHA"}


def netpbm_cells() -> Iterator[Cell]:
    for channels, most, said in product((1, 2, 3, 4), (1, 2, 100, 255, 256, 1023, 4095, 65_535), (True, False)):
        values = np.random.default_rng(most).integers(0, most + 1, (HEIGHT, WIDTH, channels))
        tuples = f"TUPLTYPE {_TUPLES[channels]}\n" if said else "# nothing is said of what they are\n"
        head = f"P7\nWIDTH {WIDTH}\nHEIGHT {HEIGHT}\nDEPTH {channels}\nMAXVAL {most}\n{tuples}ENDHDR\n"
        body = values.astype("u1" if most < 256 else ">u2").tobytes()
        shares = values / most
        colours = shares[..., : channels - (channels in (2, 4))]
        clear = 1 - shares[..., -1:] if channels in (2, 4) else 0
        shown = 255 * (np.repeat(colours, 3 // colours.shape[2], axis=2) * (1 - clear) + clear)
        name = f"P7, {channels} channels{' named' if said else ''}, up to {most}"
        tolerance = MIXED if channels in (2, 4) else NEAR
        yield Cell("PPM", name, lambda h=head, b=body: h.encode() + b, values, shown, tolerance, None)
    for channels, most, plain in product((1, 3), (2, 5, 100, 256, 300, 32_767, 65_534), (False, True)):
        values = np.random.default_rng(most).integers(0, most + 1, (HEIGHT, WIDTH, channels))
        kind = {(1, True): 2, (3, True): 3, (1, False): 5, (3, False): 6}[channels, plain]
        whole = " ".join(map(str, values.ravel())).encode()
        body = whole if plain else values.astype("u1" if most < 256 else ">u2").tobytes()
        source = f"P{kind} {WIDTH} {HEIGHT} {most}\n".encode() + body
        shown = 255 * np.repeat(values, 3 // channels, axis=2) / most
        yield Cell("PPM", f"P{kind}, up to {most}", lambda s=source: s, values, shown, UPPER, None)
    for kind, form in product(("PF", "Pf"), ("<", ">")):
        body = np.ones((HEIGHT, WIDTH, 3 if kind == "PF" else 1), f"{form}f4").tobytes()
        source = f"{kind}\n{WIDTH} {HEIGHT}\n{'-' if form == '<' else ''}1.0\n".encode() + body
        yield Cell("PPM", f"{kind}, {form}", lambda s=source: s, numbers(8), numbers(8), 0, None, "fractions")


def coded_cells() -> Iterator[Cell]:
    """All of this module."""
    for one in (jpeg_more_cells, jpeg_2000_more_cells, jpeg_xl_more_cells, avif_cells, webp_cells, heic_cells):
        yield from one()
    yield from netpbm_cells()
