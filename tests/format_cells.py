"""The table of formats: a small file of every mode, depth, byte order, layout, compression and interlacing.

Files are put together here, byte by byte or by an encoder without a loss, of numbers that are known; what they are in
RGB is computed from these numbers by NumPy alone. Another decoder has to find the same numbers in the file, so that the
file is what its name says.

    python tests/format_cells.py                    # all of them: how many of each format are right, refused, wrong
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from odd_files import _ADAM7, _packed, _with_directory, chunk

HEIGHT, WIDTH, TILE, ROWS = 21, 35, 16, 8
NEAR = 0.501  # what rounding to whole numbers takes
UPPER = 1.0  # the upper 8 of 16 bits, not rounded
DEEP = 2.6  # the same of the upper 8 of 16 bits
MIXED = 1.51  # colour, alpha and what is laid over white are rounded one after the other

BAD = ("wrong", "unsure")

Decode = Callable[[bytes], np.ndarray]
_REPEATED = re.compile(rb"(.)\1{2,127}", re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """One file. values : it holds; expected : RGB, 0 to 255, in fractions; second : another decoder, of `values`

    refusal : words of the sentence by which it is refused, "" where it is to be read
    """

    format: str
    name: str
    make: Callable[[], bytes]
    values: np.ndarray
    expected: np.ndarray
    tolerance: float
    second: Decode | None
    refusal: str = ""


def numbers(bits: int, channels: int = 1) -> np.ndarray:
    found = np.random.default_rng([bits, channels]).integers(0, 1 << bits, (HEIGHT, WIDTH, channels))
    found[0, 0], found[0, 1] = 0, (1 << bits) - 1
    return found


def as_rgb(values: np.ndarray, bits: int, alpha: str = "", inverted: bool = False) -> np.ndarray:
    """Grey or RGB with or without alpha ("straight", "premultiplied") as RGB over white."""
    shares = values / ((1 << bits) - 1)
    colours = shares[..., :-1] if alpha else shares
    colours = 1 - colours if inverted else colours
    colours = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours
    if alpha:
        clear = 1 - shares[..., -1:]
        colours = colours + clear if alpha == "premultiplied" else colours * (1 - clear) + clear
    return 255 * np.clip(colours, 0, 1)


# --- PNG -----------------------------------------------------------------------------------------------------------

_PNG_MODES = {
    "grey": (0, 1, (1, 2, 4, 8, 16)),
    "RGB": (2, 3, (8, 16)),
    "palette": (3, 1, (1, 2, 4, 8)),
    "grey with alpha": (4, 2, (8, 16)),
    "RGBA": (6, 4, (8, 16)),
}


def _filtered(rows: list[bytes], step: int, kind: int) -> bytes:
    """Rows of a pass, each filtered by one of the five filters, or by all in turn (5)."""
    out, before = [], bytes(len(rows[0])) if rows else b""
    for number, row in enumerate(rows):
        one = number % 5 if kind == 5 else kind
        now, up = (np.frombuffer(part, np.uint8).astype(int) for part in (row, before))
        left = np.concatenate([np.zeros(min(step, len(now)), int), now[:-step]])[: len(now)]
        corner = np.concatenate([np.zeros(min(step, len(up)), int), up[:-step]])[: len(up)]
        guess = left + up - corner
        a, b, c = abs(guess - left), abs(guess - up), abs(guess - corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
        out.append(
            bytes([one]) + ((now - (0, left, up, (left + up) // 2, paeth)[one]) % 256).astype(np.uint8).tobytes()
        )
        before = row
    return b"".join(out)


@lru_cache(maxsize=8)  # files that differ in their other chunks follow each other
def _png_data(content: bytes, shape: tuple[int, ...], bits: int, interlaced: bool, kind: int) -> bytes:
    """The compressed rows of whole numbers, given as their bytes."""
    values = np.frombuffer(content, int).reshape(shape)
    passes = [values[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [values]
    step = max(1, bits * shape[2] // 8)
    rows = ([_packed(line[None], bits) for line in one] for one in passes if one.size)
    return zlib.compress(b"".join(_filtered(some, step, kind) for some in rows))


def png_file(
    values: np.ndarray, colour: int, bits: int, interlaced: bool, kind: int, more: bytes = b"", pieces: int = 1
) -> bytes:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, interlaced)
    packed = _png_data(values.astype(int).tobytes(), values.shape, bits, interlaced, kind)
    cuts = [len(packed) * number // pieces for number in range(pieces + 1)]
    data = b"".join(chunk(b"IDAT", packed[a:b]) for a, b in pairwise(cuts))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + data + chunk(b"IEND", b"")


def _by_pypng(source: bytes) -> np.ndarray:
    import png

    width, height, rows, about = png.Reader(bytes=source).read()
    return np.array([list(row) for row in rows]).reshape(height, width, about["planes"])


def png_cells() -> Iterator[Cell]:
    for name, (colour, channels, depths) in _PNG_MODES.items():
        for bits, interlaced, kind, clear, pieces in product(depths, (False, True), range(6), (False, True), (1, 3)):
            if clear and colour in (4, 6):
                continue
            values, more = numbers(bits, channels), b""
            if colour == 3:
                colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
                alpha = np.random.default_rng(9).integers(0, 256, 1 << bits) if clear else np.full(1 << bits, 255)
                more = chunk(b"PLTE", colours.astype(np.uint8).tobytes())
                more += chunk(b"tRNS", alpha.astype(np.uint8).tobytes()) if clear else b""
                full = np.concatenate([colours, alpha[:, None]], axis=1)[values[..., 0]]
                expected = as_rgb(full, 8, "straight")
            elif clear:
                key = values[3, 4]
                more = chunk(b"tRNS", struct.pack(f">{channels}H", *key))
                expected = as_rgb(values, bits)
                expected[(values == key).all(axis=2)] = 255
            else:
                expected = as_rgb(values, bits, "straight" if colour in (4, 6) else "")
            blended = colour in (4, 6) or (colour == 3 and clear)
            tolerance = DEEP if blended and bits == 16 else MIXED if blended else UPPER if bits == 16 else NEAR
            yield Cell(
                "PNG",
                f"{name} {bits} bits, {'interlaced, ' if interlaced else ''}filter {kind}"
                f"{', transparent colour' if clear else ''}, {pieces} IDAT",
                lambda v=values, c=colour, b=bits, i=interlaced, k=kind, m=more, p=pieces: png_file(
                    v, c, b, i, k, m, p
                ),
                values,
                expected,
                tolerance,
                _by_pypng,
            )


# --- TIFF ----------------------------------------------------------------------------------------------------------

_COMPRESSIONS = {"none": 1, "PackBits": 32773, "LZW": 5, "Deflate": 8, "old Deflate": 32946, "Zstandard": 50000}
_LAYOUTS = ("one strip", "strips", "tiles")
_TIFF_MODES = {
    # photometric, colours, depths
    "white is zero": (0, 1, (1, 2, 4, 8, 10, 12, 14, 16)),
    "black is zero": (1, 1, (1, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16)),
    "RGB": (2, 3, (8, 10, 12, 14, 16)),
    "palette": (3, 1, (1, 2, 4, 8)),
    "CMYK": (5, 4, (8, 16)),
}
_ALPHAS = {"": (), "unspecified": (0,), "premultiplied": (1,), "straight": (2,)}


@dataclass(frozen=True)
class _Written:
    """How numbers are laid down in a TIFF file."""

    bits: int
    photometric: int
    order: str
    big: bool
    layout: str
    separate: bool
    compression: str
    predictor: bool
    extra: tuple[int, ...] = ()
    colour_map: tuple[int, ...] = ()

    def write(self, values: np.ndarray) -> bytes:
        samples = values.shape[2]
        segments = self._data().segments(values.astype(int).tobytes(), values.shape)
        start = 16 if self.big else 8
        places = [start + sum(map(len, segments[:number])) for number in range(len(segments))]
        entries: dict[int, tuple[int, list[int]]] = {
            256: (4, [WIDTH]),
            257: (4, [HEIGHT]),
            258: (3, [self.bits] * samples),
            259: (3, [_COMPRESSIONS[self.compression]]),
            262: (3, [self.photometric]),
            277: (3, [samples]),
            284: (3, [2 if self.separate else 1]),
        }
        sizes = list(map(len, segments))
        if self.layout == "tiles":
            entries |= {322: (3, [TILE]), 323: (3, [TILE]), 324: (4, places), 325: (4, sizes)}
        else:
            entries |= {273: (4, places), 278: (4, [HEIGHT if self.layout == "one strip" else ROWS]), 279: (4, sizes)}
        if self.predictor:
            entries[317] = (3, [2])
        if self.extra:
            entries[338] = (3, list(self.extra))
        if self.colour_map:
            entries[320] = (3, list(self.colour_map))
        return _with_directory(entries, b"".join(segments), self.order, self.big)

    def _data(self) -> _Written:
        """Without what the pixels' bytes do not depend on."""
        compression = self.compression.removeprefix("old ")
        order = self.order if self.bits == 16 else "<"
        return _Written(self.bits, 0, order, False, self.layout, self.separate, compression, self.predictor)

    @lru_cache(maxsize=256)  # noqa: B019 - most files differ from another one in their directory alone
    def segments(self, content: bytes, shape: tuple[int, ...]) -> list[bytes]:
        """The strips or tiles of whole numbers, given as their bytes."""
        values = np.frombuffer(content, int).reshape(shape)
        planes = [values[..., n : n + 1] for n in range(shape[2])] if self.separate else [values]
        return [self._pack(one) for plane in planes for one in self._cut(plane)]

    def _cut(self, plane: np.ndarray) -> list[np.ndarray]:
        if self.layout == "one strip":
            return [plane]
        if self.layout == "strips":
            return [plane[y : y + ROWS] for y in range(0, HEIGHT, ROWS)]
        whole = np.pad(plane, ((0, -HEIGHT % TILE), (0, -WIDTH % TILE), (0, 0)))
        return [
            whole[y : y + TILE, x : x + TILE]
            for y in range(0, len(whole), TILE)
            for x in range(0, whole.shape[1], TILE)
        ]

    def _pack(self, segment: np.ndarray) -> bytes:
        if self.predictor:
            segment = np.concatenate([segment[:, :1], np.diff(segment, axis=1) % (1 << self.bits)], axis=1)
        raw = _packed(segment, self.bits, self.order)
        if self.compression == "PackBits":
            size = len(raw) // len(segment)
            return b"".join(pack_bits(raw[start : start + size]) for start in range(0, len(raw), size))
        if self.compression == "Deflate":
            return zlib.compress(raw)
        if self.compression == "none":
            return raw
        import imagecodecs

        return bytes(imagecodecs.lzw_encode(raw) if self.compression == "LZW" else imagecodecs.zstd_encode(raw))


def pack_bits(row: bytes) -> bytes:
    """Literal runs, and repeated bytes where there are three (TIFF 6.0, section 9)."""
    out, at = b"", 0
    for run in _REPEATED.finditer(row):
        size = run.end() - run.start()
        out += _literal(row[at : run.start()]) + bytes([257 - size, row[run.start()]])
        at = run.end()
    return out + _literal(row[at:])


def _literal(some: bytes) -> bytes:
    parts = (some[start : start + 128] for start in range(0, len(some), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def _by_tifffile(source: bytes) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(source)) as opened:
        page = opened.pages[0]
        values = page.asarray()
        samples = page.samplesperpixel
    if values.ndim == 3 and samples > 1 and values.shape[0] == samples and values.shape[2] != samples:
        values = np.moveaxis(values, 0, 2)
    return values.reshape(HEIGHT, WIDTH, samples)


def _cmyk(values: np.ndarray, bits: int) -> np.ndarray:
    """As Pillow converts it, which is what featx promises of CMYK: each ink takes away, black last."""
    shares = 1 - values / ((1 << bits) - 1)
    return 255 * shares[..., :3] * shares[..., 3:]


def tiff_cells() -> Iterator[Cell]:
    for mode, (photometric, colours, depths) in _TIFF_MODES.items():
        for bits, alpha in product(depths, _ALPHAS):
            if alpha and (photometric in (3, 5) or bits not in (8, 16)):
                continue
            extra = _ALPHAS[alpha]
            blend = alpha if alpha in ("premultiplied", "straight") else ""
            values = numbers(bits, colours + len(extra))
            if alpha == "premultiplied":
                values[..., :-1] = np.minimum(values[..., :-1], values[..., -1:])
                if photometric == 0:
                    continue  # what is premultiplied there is not said anywhere
            colour_map: tuple[int, ...] = ()
            if photometric == 3:
                table = np.random.default_rng(bits).integers(0, 65_536, (3, 1 << bits))
                table[0, 0] = 65_535
                colour_map = tuple(table.ravel().tolist())
                expected = 255 * (table.T / 65_535)[values[..., 0]]
            elif photometric == 5:
                expected = _cmyk(values, bits)
            elif alpha == "unspecified":
                expected = as_rgb(values[..., :-1], bits, "", photometric == 0)
            else:
                expected = as_rgb(values, bits, blend, photometric == 0)
            mixed = bool(blend) or photometric == 5
            tolerance = (
                DEEP if mixed and bits == 16 else MIXED if mixed else UPPER if photometric == 3 or bits == 16 else NEAR
            )
            yield from _tiff_of(
                mode,
                values,
                expected,
                tolerance,
                _Written(bits, photometric, "<", False, "one strip", False, "none", False, extra, colour_map),
                alpha,
            )


def _tiff_of(
    mode: str, values: np.ndarray, expected: np.ndarray, tolerance: float, one: _Written, alpha: str
) -> Iterator[Cell]:
    from dataclasses import replace

    ways = product("<>", (False, True), _LAYOUTS, (False, True), _COMPRESSIONS, (False, True))
    for order, big, layout, separate, compression, predictor in ways:
        if predictor and (compression in ("none", "PackBits") or one.bits not in (8, 16) or one.photometric == 3):
            continue
        if big and (layout == "one strip" or compression not in ("none", "Deflate")):
            continue
        way = replace(
            one, order=order, big=big, layout=layout, separate=separate, compression=compression, predictor=predictor
        )
        name = (
            f"{mode} {one.bits} bits{f', {alpha} alpha' if alpha else ''}, {'big' if order == '>' else 'little'}-endian"
        )
        name += f"{' BigTIFF' if big else ''}, {layout}, {'planar' if separate else 'chunky'}, {compression}"
        name += ", predictor" if predictor else ""
        yield Cell("TIFF", name, lambda w=way: w.write(values), values, expected, tolerance, _by_tifffile)


def cells() -> Iterator[Cell]:
    """The whole table."""
    import more_format_cells as more
    from coded_format_cells import coded_cells
    from dicom_format_cells import dicom_cells
    from tiff_more_cells import tiff_more_cells
    from window_format_cells import window_cells

    others = (more.jpeg_2000_cells, more.jpeg_xl_cells, more.lossless_cells, more.ppm_cells, more.bmp_cells)
    for one in (
        png_cells,
        tiff_cells,
        *others,
        more.jpeg_cells,
        tiff_more_cells,
        coded_cells,
        window_cells,
        dicom_cells,
    ):
        yield from one()


@dataclass(frozen=True)
class Outcome:
    """What came of a cell. kind : right, refused (as it should be), wrong, or unsure; note : why"""

    cell: Cell
    kind: str
    note: str = ""


def judge(cell: Cell) -> Outcome:
    """Decode a cell by featx, and by the other decoder."""
    from featx.images.decoder import decode
    from featx.images.fault import BadImage

    source = cell.make()
    if cell.second is not None:
        try:
            held = cell.second(source)
        except Exception as error:
            return Outcome(cell, "unsure", f"the other decoder: {error}")
        if held.shape != cell.values.shape or not np.array_equal(held, cell.values):
            return Outcome(cell, "unsure", "the other decoder finds other numbers")
    try:
        found = np.asarray(decode(source)).astype(float)
    except BadImage as error:
        meant = cell.refusal and cell.refusal in error.reason
        return Outcome(cell, "refused" if meant else "wrong", f"refused: {error.reason}")
    if cell.refusal:
        return Outcome(cell, "wrong", f"read, and not refused as {cell.refusal}")
    if found.shape != cell.expected.shape:
        return Outcome(cell, "wrong", f"{found.shape}")
    off = float(np.abs(found - cell.expected).max())
    return Outcome(cell, "right" if off <= cell.tolerance else "wrong", f"off by {off:.2f}")


def main() -> int:
    """Judge all and print how many there are of each format."""
    counted: Counter[tuple[str, str]] = Counter()
    for outcome in map(judge, cells()):
        counted[outcome.cell.format, outcome.kind] += 1
        if outcome.kind in BAD:
            sys.stdout.write(f"{outcome.kind}: {outcome.cell.format} {outcome.cell.name}: {outcome.note}\n")
    for format_ in dict.fromkeys(name for name, _ in counted):
        kinds = [f"{count:,} {kind}" for (name, kind), count in counted.items() if name == format_]
        sys.stdout.write(f"{format_}: {', '.join(kinds)}\n")
    sys.stdout.write(f"{sum(counted.values()):,} cells\n")
    return int(any(kind in BAD for _, kind in counted))


if __name__ == "__main__":
    sys.exit(main())
