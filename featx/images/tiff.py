"""TIFF files that Pillow refuses or misreads: depth, polarity, layout, byte order or sign of the samples."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image

from featx.images.fault import BadImage
from featx.images.levels import FULL, scale
from featx.images.samples import need, over_white

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 256, 257, 258, 259, 262, 277, 284
_SUBFILE, _MAP, _SUBIFDS, _EXTRA, _FORMAT, _DNG = 254, 320, 330, 338, 339, 50706
_TILE_WIDTH, _TILE_HEIGHT, _ORIENTATION, _PREDICTOR = 322, 323, 274, 317
_COEFFICIENTS, _SAMPLING, _REFERENCE = 529, 530, 532
_WANTED = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SUBFILE, _MAP, _SUBIFDS, _EXTRA}
_WANTED |= {_FORMAT, _DNG, _TILE_WIDTH, _TILE_HEIGHT, _ORIENTATION, _PREDICTOR, _COEFFICIENTS, _SAMPLING, _REFERENCE}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_PLAIN, _OLD_JPEG, _PACK_BITS, _WEBP = 1, 6, 32773, 50001  # compressions
_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}
_RAW = {32803, 34892}  # a colour filter array, linear raw
_UNSIGNED, _SIGNED, _FRACTIONS, _UNDEFINED = 1, 2, 3, 4
_PREMULTIPLIED, _ALPHA = 1, 2
_DIFFERENCES = 2  # of neighbouring pixels
_SAMPLINGS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4))
# Luma of red, green and blue, and black and white of each channel, as numerators and denominators; or nothing said.
_LUMA, _RANGE = (299, 1000, 587, 1000, 114, 1000), (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
_USUAL_COLOURS = ((), _LUMA, _RANGE, _LUMA + _RANGE)
_RATIONAL = 5
_NUMBERS = {
    1: "B",
    3: "H",
    4: "I",
    _RATIONAL: "I",
    6: "b",
    8: "h",
    9: "i",
    13: "I",
    16: "Q",
    18: "Q",
}  # of the types of a tag
_MOST_VALUES = 3 << 16  # the largest colour map
_MOST_BITS = 128  # of a complex number
_MOST_TAGS = 4096
BIG_BIG_ENDIAN = b"MM\0+"  # how a BigTIFF file of this byte order begins
_TIFF, _BIG = {b"II*\0": "<", b"MM\0*": ">"}, {b"II+\0": "<", BIG_BIG_ENDIAN: ">"}

Tags = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class Tiff:
    """What the first page of a TIFF file says of itself.

    bits : of each sample; sample_format : unsigned, signed, fractions or undefined, as the specification numbers them
    extra : what the samples beyond the colours are; colour_map : three times 2 to the power of bits, empty without one
    sampling : how many pixels, across and down, share the colour of YCbCr; conversion : what is stated of its colours
    preview : whether it is marked as a smaller copy of another page; raw : whether it is a raw camera file
    """

    width: int
    height: int
    bits: tuple[int, ...]
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    sampling: tuple[int, ...]
    conversion: tuple[int, ...]
    separate: bool
    extra: tuple[int, ...]
    colour_map: tuple[int, ...]
    orientation: int
    tile_pixels: int
    preview: bool
    raw: bool

    @property
    def compressed(self) -> bool:
        """Whether its pixels are compressed at all."""
        return self.compression != _PLAIN

    @property
    def is_known(self) -> bool:
        """Whether its colours are such as this module makes RGB of."""
        return self.photometric in _CHANNELS and len(set(self.bits)) == 1

    @property
    def wrong_before_3(self) -> bool:
        """Whether revision 2 took another picture for it: differences within runs, and stated colours of YCbCr."""
        by_bytes = self.is_known and self.bits[0] in (8, 16)
        packed = self.compression == _PACK_BITS and self.predictor == _DIFFERENCES and by_bytes
        old = self.compression == _OLD_JPEG and self.photometric == _RGB
        return packed or old or (self.by_libtiff and self.sampling == (1, 1))

    @property
    def by_libtiff(self) -> bool:
        """Whether it is YCbCr that Pillow takes for as many numbers to every pixel, or for colours not stated."""
        usual = self.sampling == (1, 1) and self.conversion in _USUAL_COLOURS and not self.separate
        return self.photometric == _YCBCR and not self.compressed and not usual

    @property
    def wrong_in_0_1_0(self) -> bool:
        """Whether 0.1.0 took another picture for it; the header alone shows it."""
        depth, shallow_map = max(self.bits), self.photometric == _PALETTE and max(self.colour_map, default=256) < 256
        return (
            self.raw
            or self.preview
            or self.sample_format == _SIGNED
            or 8 < depth < 16
            or (depth == 16 and self.photometric == _WHITE_IS_ZERO)
            or (depth == 16 and self.separate and len(self.bits) > 1 and not self.compressed)
            or shallow_map
        )

    @property
    def wrong_before_2(self) -> bool:
        """Whether revision 1 took another picture for it: planes of one channel, planes of grey and alpha."""
        depth, count = max(self.bits), len(self.bits)
        if not self.separate:
            return False
        if count == 1 and not self.compressed:
            inverted = depth <= 8 and self.photometric == _WHITE_IS_ZERO
            return inverted or depth in (2, 4) or (depth == 1 and self.photometric == _PALETTE)
        grey_with_alpha = (count, depth, self.photometric, self.extra) == (2, 8, _BLACK_IS_ZERO, (_ALPHA,))
        return grey_with_alpha and self.compressed

    @property
    def mixed_up(self) -> bool:
        """Whether its planes or its compression are such as Pillow mixes up or refuses."""
        old = self.compression == _OLD_JPEG and self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
        if self.compression == _WEBP or old or self.by_libtiff or self.wrong_before_3:
            return True
        if not self.separate:
            return False
        premultiplied = _PREMULTIPLIED in self.extra and not self.compressed
        return premultiplied or self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE)

    def fault(self) -> str | None:
        """Why no image can be made of it, whatever decodes it; None when one can."""
        depth = max(self.bits)
        if depth > _MOST_BITS:
            return "a damaged TIFF file: its header makes no sense"
        if self.raw:
            return "a raw camera file: convert it to JPEG"
        if self.preview:
            return "its first page is a preview of another one: save it as PNG, or the page alone"
        if self.sample_format == _SIGNED:
            return f"pixels are signed {depth}-bit whole numbers, whose black and white are not known: save it unsigned"
        if self.sample_format not in (_UNSIGNED, _UNDEFINED):
            kind = "fractions" if self.sample_format == _FRACTIONS else "complex numbers"
            return f"pixels are {depth}-bit {kind}, whose black and white are not known: save it with 8 or 16 bits"
        if depth > 16:
            return (
                f"pixels are {depth}-bit whole numbers, whose black and white are not known: save it with 8 or 16 bits"
            )
        if len(self.bits) < _CHANNELS.get(self.photometric, 1):
            return f"a TIFF file of {len(self.bits)} channels, too few for its colours: save it as RGB"
        if self.photometric == _YCBCR and (
            self.sampling not in _SAMPLINGS or (self.separate and self.sampling != (1, 1))
        ):
            return "a TIFF file whose colours (YCbCr) are stored in an unusual way: save it as RGB"
        return None


def read_header(file: IO[bytes]) -> Tiff | None:
    """What its first page says; None where it is no TIFF file, or one whose header is damaged."""
    try:
        file.seek(0)
        head = file.read(16)
        if head[:4] in _TIFF:
            order, big = _TIFF[head[:4]], False
            (first,) = struct.unpack_from(f"{order}I", head, 4)
        elif head[:4] in _BIG:
            order, big = _BIG[head[:4]], True
            (first,) = struct.unpack_from(f"{order}Q", head, 8)
        else:
            return None
        return _as_tiff(_read_tags(file, first, order, big), head)
    except (struct.error, ValueError, OverflowError, OSError):
        return None


def _read_tags(file: IO[bytes], first: int, order: str, big: bool) -> Tags:
    """The tags of the page at a place, those alone that are wanted here."""
    count_form, entry, inside = ("Q", 20, 8) if big else ("H", 12, 4)
    file.seek(first)
    (count,) = struct.unpack(order + count_form, file.read(struct.calcsize(count_form)))
    table = file.read(entry * min(count, _MOST_TAGS))
    tags: Tags = {}
    for at in range(0, len(table) - entry + 1, entry):
        tag, kind = struct.unpack_from(f"{order}HH", table, at)
        (length,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", table, at + 4)
        if tag not in _WANTED or kind not in _NUMBERS or length > _MOST_VALUES:
            continue
        form = f"{order}{length if kind != _RATIONAL else 2 * length}{_NUMBERS[kind]}"
        content = table[at + entry - inside : at + entry]
        if struct.calcsize(form) > inside:
            file.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", content)[0])
            content = file.read(struct.calcsize(form))
        tags[tag] = struct.unpack_from(form, content)
    return tags


def _as_tiff(tags: Tags, head: bytes) -> Tiff | None:
    def one(tag: int, default: int) -> int:
        return tags[tag][0] if tags.get(tag) else default

    samples, photometric = one(_SAMPLES, 1), one(_PHOTOMETRIC, 0)
    if not tags.get(_WIDTH) or not tags.get(_HEIGHT) or samples < 1:
        return None
    bits = tags.get(_BITS) or (1,)
    preview = bool(one(_SUBFILE, 0) & 1) and _SUBIFDS in tags
    raw = photometric in _RAW or head[8:10] == b"CR" or (_DNG in tags and bool(one(_SUBFILE, 0) & 1))
    return Tiff(
        width=one(_WIDTH, 0),
        height=one(_HEIGHT, 0),
        bits=bits if len(bits) == samples else bits[:1] * min(samples, 64),
        sample_format=one(_FORMAT, _UNSIGNED),
        photometric=photometric,
        compression=one(_COMPRESSION, _PLAIN),
        predictor=one(_PREDICTOR, 1),
        sampling=tags.get(_SAMPLING, (2, 2)) if photometric == _YCBCR else (1, 1),
        conversion=tags.get(_COEFFICIENTS, ()) + tags.get(_REFERENCE, ()),
        separate=one(_PLANAR, 1) == 2,
        extra=tags.get(_EXTRA, ()),
        colour_map=tags.get(_MAP, ()),
        orientation=one(_ORIENTATION, 1),
        tile_pixels=one(_TILE_WIDTH, 0) * one(_TILE_HEIGHT, 0),
        preview=preview and not raw,
        raw=raw,
    )


def decode_page(file: IO[bytes], header: Tiff, max_pixels: int, levels: str = FULL) -> Image.Image:
    """The RGB pixels of the first page, as they lie in the file.

    levels : which values of deep files are black and white; see `featx.images.levels`

    Raises
    ------
    BadImage
        Its samples have no known black and white, or its colours are not known.
    """
    reason, depth = header.fault(), header.bits[0]
    if reason is None and header.photometric != _YCBCR and not header.is_known:
        reason = f"a TIFF file of unusual colours (photometric {header.photometric}): save it as RGB"
    if reason is not None:
        raise BadImage(reason)
    if max(header.tile_pixels, header.width * header.height) > max_pixels:
        raise BadImage("its tiles are larger than an image may be")
    if header.photometric == _YCBCR:
        return _by_libtiff(file)
    tifffile = need("tifffile")
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as opened:
            values = _as_planes(opened.pages[0], len(header.bits))
    except tifffile.TiffFileError as error:  # a class of its own until 2026
        raise ValueError(str(error)) from error
    return _to_rgb(values, header, depth, levels)


def _by_libtiff(file: IO[bytes]) -> Image.Image:
    """RGB as libtiff makes it of YCbCr, whose tags say how."""
    file.seek(0)
    values: np.ndarray = need("imagecodecs").tiff_decode(file.read(), asrgb=True)
    return Image.fromarray(np.ascontiguousarray(values[..., :3]))


def _as_planes(page: Any, samples: int) -> np.ndarray:
    """(height, width, samples) of a page."""
    need("imagecodecs")
    values: np.ndarray = page.asarray(maxworkers=1)
    if page.planarconfig == 2 and samples > 1:
        values = np.moveaxis(values.reshape(samples, *values.shape[-2:]), 0, 2)
    height, width = page.imagelength, page.imagewidth
    if values.size != height * width * samples:
        raise BadImage("a TIFF file of more dimensions than an image has: save its first page alone")
    return values.reshape(height, width, samples)


def _to_rgb(values: np.ndarray, header: Tiff, depth: int, levels: str) -> Image.Image:
    count = _CHANNELS[header.photometric]
    if header.photometric == _PALETTE:
        colours = np.array(header.colour_map, np.uint16).reshape(3, -1).T
        shift = 0 if max(header.colour_map, default=0) < 256 else 8
        inks = (colours >> shift).astype(np.uint8)[values[..., 0].astype(np.intp)]
    else:
        inks = scale(values[..., :count], depth, levels)
    if header.photometric == _WHITE_IS_ZERO:
        inks = 255 - inks
    if header.photometric == _CMYK:
        inks = np.asarray(Image.fromarray(np.ascontiguousarray(inks), "CMYK").convert("RGB"))
    kind = header.extra[0] if header.extra else _ALPHA if header.photometric == _RGB and values.shape[2] == 4 else 0
    if kind in (_PREMULTIPLIED, _ALPHA) and values.shape[2] > count:
        of_alpha = levels if levels.endswith("bit") else FULL
        inks = np.concatenate([inks, scale(values[..., count : count + 1], depth, of_alpha)], axis=2)
    return over_white(inks, kind == _PREMULTIPLIED)
