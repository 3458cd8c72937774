"""The one decoder of every stage: from file bytes to upright RGB."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from traceback import clear_frames
from typing import IO

import numpy as np
import PIL

# Importing a format registers it. Done here once: registering at the first image would race between threads.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    QoiImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from featx.images import bmp, gif, jpeg, jpeg2000, png, tiff
from featx.images.classes import REVISION, class_revision
from featx.images.fault import DAMAGE, BadImage
from featx.images.levels import FULL, decode_by_levels
from featx.images.limits import MAX_PIXELS, check_size, describe_bomb
from featx.images.others import decode_other, size_of_other
from featx.images.probes import PROBES
from featx.images.quiet import silence_libtiff
from featx.images.resize import RESIZES, ResizeRule, fit, needed_size
from featx.images.samples import FORMATS_READ, SECOND_DECODERS
from featx.images.sources import Hashed, Pinned, Source, path_of
from featx.images.upright import orientation_of, turn, upright_rgb
from featx.io.filetypes import HEAD, describe_content, describe_damage, describe_os_error
from featx.io.urls import is_url, open_remote

# Formats that Pillow knows by a signature and decodes itself (JPEG includes multi-picture MPO). EPS starts Ghostscript,
# WMF the Windows renderer; TGA and PCX have next to no signature and would take other files for images.
FORMATS: tuple[str, ...] = tuple(
    str(plugin.format)
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        PpmImagePlugin.PpmImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        AvifImagePlugin.AvifImageFile,
        IcoImagePlugin.IcoImageFile,
        QoiImagePlugin.QoiImageFile,
    )
)
REPLACED = "it was replaced while featx ran: run the same command again"


@dataclass(frozen=True)
class _Reading:
    """What is wanted of a file: the parameters of `decode`."""

    size: tuple[int, int] | None
    max_pixels: int
    levels: str


def decode(
    source: Source, size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS, levels: str = FULL
) -> Image.Image:
    """Decode an image: RGB, upright, the first frame of an animation, over white where it is transparent.

    Parameters
    ----------
    source : a path, a URL, or the bytes of a file
    size : (height, width) that is wanted afterwards; a JPEG is then decoded at the smallest of 1, 1/2, 1/4, 1/8 of its
        size that is not below it, which is several times faster; without it, its scan is checked as well
    max_pixels : larger images are refused by their header, before they take memory
    levels : which values of deep files are black and white; see `featx.images.levels`

    Raises
    ------
    BadImage
        When no image can be made of it.
    """
    path = path_of(source)
    with _open_file(source) as file:
        try:
            image = _decode_file(file, _Reading(size, max_pixels, levels))
            if 0 in image.size:
                raise BadImage("damaged: it has no pixels")
            if size is None:
                _check_scan(file)
            return image
        except Image.DecompressionBombError as error:
            raise BadImage(describe_bomb(error, max_pixels), path) from error
        except PIL.UnidentifiedImageError as error:
            raise BadImage(_describe(file), path) from error
        except BadImage as error:
            raise type(error)(error.reason, path) from error.__cause__
        except DAMAGE as error:
            transient = isinstance(error, MemoryError) or getattr(error, "errno", None) not in (None, 0, errno.EINVAL)
            raise BadImage(describe_damage(error), path, transient) from error


def load_image(source: Source, size: tuple[int, int], resize: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode and resize an image.

    Parameters
    ----------
    source : a path, a URL, or the bytes of a file
    size : (height, width)
    resize : "stretch" changes the proportions; "crop" keeps the middle; "pad" adds grey borders; see `ResizeRule`
    max_pixels : larger images are refused

    Returns
    -------
    uint8 (height, width, 3), RGB

    Raises
    ------
    BadImage
        When no image can be made of it.
    """
    image = decode(source, needed_size(size, resize), max_pixels, ResizeRule.parse(resize).levels)
    try:
        return np.asarray(fit(image, size, resize))
    except (MemoryError, ValueError) as error:  # of this image, and never the end of a run
        raise BadImage(f"cannot be resized: {str(error) or 'not enough memory'}", path_of(source), True) from error


@dataclass(frozen=True)
class Stated:
    """What the header of an image says. format : as Pillow calls it, "" where another decoder reads it."""

    width: int
    height: int
    format: str = ""

    @property
    def pixels(self) -> int:
        """How many that makes."""
        return self.width * self.height


def read_stated(content: bytes) -> Stated | None:
    """What the header of a file says, None where it says nothing that can be read; no pixel is decoded."""
    file = io.BytesIO(content)
    try:
        with _open_image(file) as image:
            return Stated(*image.size, image.format or "")
    except Image.DecompressionBombError:
        return None
    except DAMAGE:
        page = tiff.read_header(file)
    size = size_of_other(file) if page is None else (page.width, page.height)
    return None if size is None else Stated(*size)


def check_image(source: Source) -> str | None:
    """Decode an image in full; return why it cannot be read, None when it can."""
    try:
        decode(source)
    except BadImage as error:
        return error.reason
    return None


@cache
def decoder_identity() -> str:
    """Digest, in hexadecimal, of the pixels that decoder and resizer make of a few tiny embedded files.

    It changes when an upgrade of Pillow or of a codec changes pixels, and only then.
    """
    digest = hashlib.sha256()
    for probe in PROBES.values():
        for resize in RESIZES:
            try:
                digest.update(load_image(probe, (9, 13), resize).tobytes())
            except BadImage:  # a Pillow built without this codec
                digest.update(b"unreadable")
    return digest.hexdigest()


@cache
def decoder_version() -> str:
    """Under which unreadable images are remembered: a mended or another decoder may be able to read them."""
    others = " ".join(name for name in SECOND_DECODERS if find_spec(name))
    known = f"revision {REVISION} formats {FORMATS_READ}"
    return f"{decoder_identity()[:16]} Pillow {PIL.__version__} {known} {others}".rstrip()


@contextmanager
def _open_file(source: Source) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    if isinstance(source, Pinned | Hashed) or is_url(source):
        yield io.BytesIO(_read_url(source))
        return
    try:
        status = os.stat(source)
        if stat.S_ISDIR(status.st_mode):
            raise BadImage("a folder, not a file", str(source))
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise BadImage("a device or pipe, not a file", str(source))
        file = open(source, "rb")  # noqa: SIM115 - closed below; its errors are not those of decoding
    except OSError as error:
        raise BadImage(describe_os_error(source, error), str(source), transient=True) from error
    with file:
        yield file


def _read_url(source: str | Pinned | Hashed) -> bytes:
    url = str(source)
    try:
        content = open_remote().read(url)
    except OSError as error:
        raise BadImage(describe_os_error(url, error), url, transient=True) from error
    if isinstance(source, Pinned) and hashlib.sha256(content).digest() != source.digest:
        raise BadImage(REPLACED, url, transient=True)
    if isinstance(source, Hashed):
        source.note(content)
    return content


def _decode_file(file: IO[bytes], reading: _Reading) -> Image.Image:
    try:
        return _decode_as_it_is(file, reading)
    except (BadImage, Image.DecompressionBombError, MemoryError):
        raise
    except DAMAGE as error:
        if getattr(error, "errno", None):
            raise
        content = png.without_metadata(file) or jpeg.without_metadata(file)
        if content is None:
            raise
        clear_frames(error.__traceback__)  # the pixels of the first try
        try:
            return _decode_as_it_is(io.BytesIO(content), reading)
        except DAMAGE:
            raise error from None


def _decode_as_it_is(file: IO[bytes], reading: _Reading) -> Image.Image:
    try:
        image = _open_image(file)
    except PIL.UnidentifiedImageError:
        page = tiff.read_header(file)
        if page is not None:
            return _decode_page(file, page, reading)
        other = decode_other(file, lambda size: check_size(size, reading.max_pixels), reading.levels)
        if other is None:
            raise
        return other
    with image:
        check_size(image.size, reading.max_pixels)
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            _ask_for_less(file, image, reading.size)
        return _decode_mended(file, image, reading) or upright_rgb(image)


def _ask_for_less(file: IO[bytes], image: JpegImagePlugin.JpegImageFile, size: tuple[int, int] | None) -> None:
    """Have a JPEG decoded at the smallest scale that is not below `size`; lossless ones have but one."""
    place = file.tell()
    frame = jpeg.read_frame(file)
    file.seek(place)
    if frame is not None and not frame.readable:
        raise BadImage(frame.fault)
    if size is not None and not (frame is not None and frame.lossless):
        image.draft(None, size if orientation_of(image) >= 5 else size[::-1])


def _open_image(file: IO[bytes]) -> Image.Image:
    start = file.read(4)
    # Pillow takes the first for an ordinary one, and its pages for being elsewhere.
    if start == tiff.BIG_BIG_ENDIAN or (start.startswith(b"BM") and bmp.is_unusual(file)):
        raise PIL.UnidentifiedImageError
    if start[:2] in (b"II", b"MM"):
        silence_libtiff()
    file.seek(0)
    return Image.open(file, formats=FORMATS)


def _decode_mended(file: IO[bytes], image: Image.Image, reading: _Reading) -> Image.Image | None:
    """The RGB pixels of a file of a class that Pillow gets wrong; None for all others, whose file is left as it was."""
    place, spread = file.tell(), reading.levels != FULL
    scaled = decode_by_levels(file, image, reading.levels) if spread else None
    if scaled is not None:
        return turn(scaled, orientation_of(image))
    file.seek(place)
    if image.format == "PNG" and "transparency" in image.info and png.has_deep_colour_key(file):
        pixels, whole = png.over_white_by_colour_key(file)
        return turn(pixels, orientation_of(whole))
    if image.format == "TIFF":
        page = tiff.read_header(file)
        deep = spread and page is not None and max(page.bits) > 8
        if page is not None and (deep or page.mixed_up or page.wrong_in_0_1_0 or page.fault() or image.mode == "La"):
            return _decode_page(file, page, reading)
    if image.format == "JPEG2000":
        header = jpeg2000.read_header(file)
        if header is not None and header.deep:
            return jpeg2000.decode_deep(file, header, reading.levels)
    if image.format == "GIF":
        box = gif.uncovered(file)
        file.seek(place)
        return None if box is None else gif.on_white(upright_rgb(image), box)
    if image.format in ("BMP", "ICO"):
        may_be_empty = class_revision(file) > 0
        file.seek(place)
        image.load()
        if may_be_empty and image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
            return image.convert("RGB")  # nobody fills the alpha of an image that is to be seen with zeros
    file.seek(place)
    return None


def _decode_page(file: IO[bytes], page: tiff.Tiff, reading: _Reading) -> Image.Image:
    check_size((page.width, page.height), reading.max_pixels)
    return turn(tiff.decode_page(file, page, reading.max_pixels, reading.levels), page.orientation)


def _check_scan(file: IO[bytes]) -> None:
    file.seek(0)
    if file.read(3) == b"\xff\xd8\xff":
        jpeg.check_scan(file)


def _describe(file: IO[bytes]) -> str:
    file.seek(0)
    return describe_content(file.read(HEAD))
