"""Formats that Pillow does not read, and their readers; a missing package is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Protocol

from PIL import Image

from featx.images.bmp import BitmapFile, is_unusual
from featx.images.deepjpeg import DeepJpegFile, is_deep_jpeg
from featx.images.dicom import DicomFile, is_dicom
from featx.images.fault import DAMAGE, BadImage
from featx.images.heif import HeifFile, is_heic, is_heif
from featx.images.jpegxl import JpegXlFile, is_jpeg_xl
from featx.images.levels import FULL
from featx.images.pam import PamFile, is_pam
from featx.io.filetypes import damage_line

_HEAD = 512
_LONGEST = 200  # characters of another library's message


class OtherFile(Protocol):
    """An open file. size : (width, height), known before anything is decoded"""

    size: tuple[int, int]

    def decode(self, levels: str) -> Image.Image:
        """Its RGB pixels, upright, over white; levels : as in `featx.images.decoder.decode`."""


Opened = Callable[[IO[bytes]], OtherFile]
_FORMATS: tuple[tuple[str, Callable[[bytes], bool], Opened], ...] = (
    ("JPEG XL", is_jpeg_xl, JpegXlFile),
    ("HEIC", is_heic, HeifFile),
    ("HEIF", is_heif, HeifFile),
    ("DICOM", is_dicom, DicomFile),
    ("PAM", is_pam, PamFile),
)
# Of formats that Pillow reads, the files that it does not.
_UNUSUAL: tuple[tuple[str, bytes, Callable[[IO[bytes]], bool], Opened], ...] = (
    ("BMP", b"BM", is_unusual, BitmapFile),
    ("JPEG", b"\xff\xd8", is_deep_jpeg, DeepJpegFile),
)


def decode_other(file: IO[bytes], check: Callable[[tuple[int, int]], None], levels: str = FULL) -> Image.Image | None:
    """The RGB pixels of a file of another format; None where it is of none that can be read here.

    check : raises where an image of a size (width, height) is not to be decoded
    levels : which values of deep files are black and white; see `featx.images.levels`
    """
    name, opened = _format_of(file)
    if opened is None:
        return None
    try:
        image = opened(file)
        check(image.size)
        return image.decode(levels)
    except BadImage:
        raise
    except DAMAGE as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise
        message = damage_line(error, _LONGEST)
        raise BadImage(f"a damaged {name} file: {message or type(error).__name__}") from error


def size_of_other(file: IO[bytes]) -> tuple[int, int] | None:
    """The (width, height) that such a file states, None where it states none."""
    _, opened = _format_of(file)
    try:
        return None if opened is None else opened(file).size
    except (BadImage, *DAMAGE):
        return None


def _format_of(file: IO[bytes]) -> tuple[str, Opened | None]:
    file.seek(0)
    head = file.read(_HEAD)
    for name, start, is_one_of_them, opened in _UNUSUAL:
        if head.startswith(start):
            return (name, opened) if is_one_of_them(file) else ("", None)
    return next(((name, opened) for name, is_one, opened in _FORMATS if is_one(head)), ("", None))
