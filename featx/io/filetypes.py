"""What a file is that cannot be used as an image, in words: from its first bytes, or from the error that it caused."""

from __future__ import annotations

import errno
from pathlib import Path

HEAD = 4096  # bytes that `describe_content` wants to see
_UNREAD = "cannot be read: "  # what a disk or a server failed to give, unlike what is not there or no image

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "a damaged JPEG file"),
    (0, b"\x89PNG", "a damaged PNG file"),
    (0, b"GIF8", "a damaged GIF file"),
    (0, b"II*\x00", "a damaged or raw camera TIFF file"),
    (0, b"MM\x00*", "a damaged or raw camera TIFF file"),
    (8, b"WEBP", "a damaged WebP file"),
    (0, b"BM", "a damaged BMP file"),
    (8, b"AVI ", "an AVI video, not an image"),
    (8, b"WAVE", "a WAV sound, not an image"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video, not an image"),
    (0, b"\x00\x00\x01\xba", "an MPEG video, not an image"),
    (0, b"\x00\x00\x01\xb3", "an MPEG video, not an image"),
    (0, b"FLV\x01", "a Flash video, not an image"),
    (0, b"OggS", "an Ogg file, not an image"),
    (0, b"ID3", "an MP3 sound, not an image"),
    (0, b"fLaC", "a FLAC sound, not an image"),
    (0, b"%PDF", "a PDF document, not an image"),
    (0, b"%!PS", "a PostScript document, not an image"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document, not an image"),
    (0, b"8BPS", "a Photoshop document: export it as PNG"),
    (0, b"PK\x03\x04", "a ZIP archive, not an image"),
    (0, b"\x1f\x8b", "a gzip archive, not an image"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive, not an image"),
    (0, b"Rar!", "a RAR archive, not an image"),
    (0, b"\x89HDF", "an HDF5 file, not an image"),
    (0, b"\x93NUMPY", "a NumPy array, not an image"),
    (0, b"SQLite format 3", "an SQLite database, not an image"),
    (128, b"DICM", "a DICOM file: convert it to PNG"),
    (0, b"\x7fELF", "a program, not an image"),
    (0, b"MZ", "a program, not an image"),
)

# Major brands of ISO base media files (the bytes after "ftyp"): https://mp4ra.org/registered-types/brands
_BRANDS: dict[bytes, str] = {
    b"qt  ": "a QuickTime video, not an image",
    b"M4A ": "an MPEG-4 sound, not an image",
    b"avif": "a damaged AVIF file",
    b"avis": "a damaged AVIF file",
    b"heic": "a HEIC image: convert it to JPEG",
    b"heix": "a HEIC image: convert it to JPEG",
    b"mif1": "a HEIF image: convert it to JPEG",
    b"msf1": "a HEIF image: convert it to JPEG",
    b"crx ": "a raw camera file: convert it to JPEG",
}

_MARKUP: tuple[tuple[bytes, str], ...] = (
    (b"<svg", "an SVG drawing, not an image of pixels"),
    (b"<html", "a web page (HTML), not an image"),
    (b"<!doctype html", "a web page (HTML), not an image"),
)


def describe_content(head: bytes) -> str:
    """What a file is of which Pillow makes no image.

    head : the first `HEAD` bytes of the file
    """
    if not head:
        return "empty file"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "an MP4 video, not an image")
    for offset, signature, description in _SIGNATURES:
        if head.startswith(signature, offset):
            return description
    if not head.strip(b"\x00"):
        return "nothing but zero bytes"
    return _describe_text(head) or "not an image that Pillow can read"


def _describe_text(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for tag, description in _MARKUP:
        if start.startswith(tag) or (start.startswith(b"<?xml") and tag in start):
            return description
    # Nobody's text has control characters other than tabs, line ends, form feeds and escapes.
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return None
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a character cut off at the end of the head is no error
            return None
    return "text, not an image"


def describe_os_error(path: str | Path, error: OSError) -> str:
    """Why a file cannot be opened."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        linked = "://" not in str(path) and Path(path).is_symlink()
        return f"broken symlink to {Path(path).readlink()}" if linked else "no such file"
    if error.errno == errno.ELOOP:
        return "a symlink that leads to itself"
    if isinstance(error, PermissionError):
        return "not permitted to read it"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    return f"{_UNREAD}{error.strerror or error}"


def is_transient_reason(reason: str) -> bool:
    """Whether an image may be read another time that could not be read for this reason, worded by this module."""
    return reason.startswith(_UNREAD)


def describe_damage(error: Exception) -> str:
    """Why an image cannot be decoded whose file type is known."""
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.errno:
        return f"{_UNREAD}{error.strerror or error}"
    message = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    truncated = "truncated" in message.lower() or isinstance(error, EOFError)
    return f"{'truncated' if truncated else 'damaged'}: {message}"
