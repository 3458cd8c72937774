"""The one decoder of every stage: bytes of a file to upright RGB."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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

from featx.errors import DataError
from featx.images.probes import PROBES
from featx.images.resize import RESIZES, fit, needed_size
from featx.images.sources import Pinned, Source, path_of
from featx.io.filetypes import HEAD, describe_content, describe_damage, describe_os_error
from featx.io.urls import is_url, open_remote

# A damaged image is reported by its reason, a large one is admitted up to MAX_PIXELS: Pillow's warnings add nothing.
warnings.filterwarnings("ignore", module=r"PIL\.")


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
MAX_PIXELS = 178_956_970  # twice Pillow's warning level: where Pillow itself refuses
REPLACED = "it was replaced while featx ran: run the same command again"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on damaged files, found by flipping bytes of files of every format.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class BadImage(DataError):  # noqa: N818 - named for the image
    """A file of which no image can be made.

    Attributes
    ----------
    reason : what is the matter with it, without its path
    transient : whether it may be read another time, unchanged (as when a file server is down)
    """

    def __init__(self, reason: str, path: str | None = None, transient: bool = False) -> None:
        super().__init__(reason if path is None else f"{path}: {reason}")
        self.reason = reason
        self.transient = transient


def decode(source: Source, size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image: RGB, upright, the first frame of an animation, over white where it is transparent.

    Parameters
    ----------
    source : a path, a URL, or the bytes of a file
    size : (height, width) that is wanted afterwards; a JPEG is then decoded at the smallest of 1, 1/2, 1/4, 1/8 of its
        size that is not below it, which is several times faster
    max_pixels : larger images are refused by their header, before they take memory

    Raises
    ------
    BadImage
        When no image can be made of it.
    """
    path = path_of(source)
    with _open_file(source) as file:
        try:
            return _decode_file(file, size, max_pixels)
        except Image.DecompressionBombError as error:
            raise BadImage(_describe_bomb(error, max_pixels), path) from error
        except PIL.UnidentifiedImageError as error:
            file.seek(0)
            raise BadImage(describe_content(file.read(HEAD)), path) from error
        except BadImage as error:
            raise BadImage(error.reason, path) from error.__cause__
        except _DAMAGE as error:
            transient = isinstance(error, MemoryError) or bool(getattr(error, "errno", None))
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
    return np.asarray(fit(decode(source, needed_size(size, resize), max_pixels), size, resize))


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
    """Under which unreadable images are remembered: a newer Pillow may be able to read them."""
    return f"{decoder_identity()[:16]} Pillow {PIL.__version__}"


@contextmanager
def _open_file(source: Source) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    if isinstance(source, Pinned) or is_url(source):
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


def _read_url(source: str | Pinned) -> bytes:
    url = str(source)
    try:
        content = open_remote().read(url)
    except OSError as error:
        raise BadImage(describe_os_error(url, error), url, transient=True) from error
    if isinstance(source, Pinned) and hashlib.sha256(content).digest() != source.digest:
        raise BadImage(REPLACED, url, transient=True)
    return content


def _decode_file(file: IO[bytes], size: tuple[int, int] | None, max_pixels: int) -> Image.Image:
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise BadImage(_over_limit(image.width * image.height, max_pixels))
        if size is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            sideways = _orientation(image) >= 5
            image.draft(None, size if sideways else size[::-1])
        return upright_rgb(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB: turned by its EXIF orientation, over white where it is transparent.

    Raises
    ------
    BadImage
        When its values have no known black and white.
    """
    image.load()
    method = _UPRIGHT.get(_orientation(image))  # after loading: TIFF is turned by its decoder
    upright = image if method is None else image.transpose(method)
    return _to_rgb(upright, image.format)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:  # EXIF that cannot be parsed says nothing about the pixels
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and file_format == "PPM"):  # PPM: 16 bits, held in 32
        return _halve_depth(image).convert("RGB")
    if mode in ("I", "F"):
        kind = "whole numbers" if mode == "I" else "fractions"
        raise BadImage(f"pixels are 32-bit {kind}, whose black and white are not known: save it with 8 or 16 bits")
    if mode == "LAB":
        raise BadImage("its colours are CIELAB: save it as RGB")
    if image.has_transparency_data:
        return _over_white(image)
    # A copy, since the file's own image is closed with the file.
    return image.convert("RGB") if mode != "RGB" else image.copy()


def _halve_depth(image: Image.Image) -> Image.Image:
    # 65,535 is 255 times 257. Image.convert would clip at 255 instead.
    wide = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _describe_bomb(error: Exception, max_pixels: int) -> str:
    pixels = re.search(r"\((\d+) pixels\)", str(error))
    return _over_limit(int(pixels[1]), max_pixels) if pixels else f"too large: {error}"


def _over_limit(pixels: int, max_pixels: int) -> str:
    return f"{_millions(pixels)} megapixels: over the limit of {_millions(max_pixels)}"


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:.0f}" if pixels >= 10_000_000 else f"{pixels / 1e6:.2g}"
