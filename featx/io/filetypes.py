"""What an unusable image file is, in words: from its first bytes, or from the error it caused."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

from featx.io.shown import error_line

HEAD = 4096  # bytes that `describe_content` wants to see
_UNREAD = "cannot be read: "  # what a disk or a server failed to give, unlike what is not there or no image
# Errors that speak of the code of a decoder which met numbers that cannot be, and not of the file.
_OF_CODE = (
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    UnicodeError,
    RecursionError,
    struct.error,
)
_OF_CODE_TOO = re.compile(
    r"invalid literal for |could not convert |cannot (?:be )?reshape|not enough values|too many values"
)

_RAW = "a raw camera file: convert it to JPEG"
_ANNEX = "a pointer of git-annex, not the image itself: type git annex get"
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "a damaged JPEG file"),
    (0, b"\x89PNG", "a damaged PNG file"),
    (0, b"GIF8", "a damaged GIF file"),
    (8, b"CR\x02", _RAW),
    (0, b"II*\x00", "a damaged or raw camera TIFF file"),
    (0, b"MM\x00*", "a damaged or raw camera TIFF file"),
    (0, b"II+\x00", "a damaged TIFF file"),
    (0, b"MM\x00+", "a damaged TIFF file"),
    (0, b"II\xbc\x01", "a JPEG XR image: convert it to PNG"),
    (0, b"IIRO", _RAW),
    (0, b"IIRS", _RAW),
    (0, b"MMOR", _RAW),
    (0, b"IIU\x00", _RAW),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"FOVb", _RAW),
    (0, b"\x00MRM", _RAW),
    (8, b"WEBP", "a damaged WebP file"),
    (4, b"jP  \r\n\x87\n", "a damaged JPEG 2000 file"),
    (0, b"\xff\x4f\xff\x51", "a damaged JPEG 2000 file"),
    (0, b"qoif", "a damaged QOI file"),
    (4, b"JXL \r\n\x87\n", "a JPEG XL image: convert it to PNG"),
    (0, b"\xff\x0a", "a JPEG XL image: convert it to PNG"),
    (0, b"v/1\x01", "an OpenEXR image: convert it to PNG"),
    (0, b"#?R", "a Radiance HDR image: convert it to PNG"),
    (0, b"SIMPLE  =", "a FITS file: convert it to PNG"),
    (0, b"DDS ", "a DirectDraw texture: convert it to PNG"),
    (0, b"gimp xcf", "a GIMP document: export it as PNG"),
    (0, b"icns", "a macOS icon: convert it to PNG"),
    (0, b"AT&TFORM", "a DjVu document, not an image"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster image: convert it to PNG"),
    (0, b"\x01\xda\x00", "an SGI image: convert it to PNG"),
    (0, b"\x01\xda\x01", "an SGI image: convert it to PNG"),
    (0, b"DanM", "an old Windows Paint image: convert it to PNG"),
    (0, b"LinS", "an old Windows Paint image: convert it to PNG"),
    (0, b"BLP1", "a Blizzard texture: convert it to PNG"),
    (0, b"BLP2", "a Blizzard texture: convert it to PNG"),
    (0, b"Image type:", "an IFUNC image: convert it to PNG"),
    (0, b"\x00\x00\x02\x00\x01\x00", "a Windows cursor: convert it to PNG"),
    (0, b"\x00\x00\x02\x00\x02\x00", "a Windows cursor: convert it to PNG"),
    (8, b"ACON", "an animated Windows cursor: convert it to PNG"),
    (0, b"\x8bJNG", "a JNG image: convert it to PNG"),
    (0, b"\x8aMNG", "an MNG animation: convert it to PNG"),
    (0, b"BPG\xfb", "a BPG image: convert it to PNG"),
    (0, b"FLIF", "a FLIF image: convert it to PNG"),
    (0, b"farbfeld", "a farbfeld image: convert it to PNG"),
    (0, b"SDPX", "a DPX film scan: convert it to PNG"),
    (0, b"XPDS", "a DPX film scan: convert it to PNG"),
    (0, b"\x80\x2a\x5f\xd7", "a Cineon film scan: convert it to PNG"),
    (0, b"\xd7\x5f\x2a\x80", "a Cineon film scan: convert it to PNG"),
    (0, b"\xabKTX ", "a KTX texture: convert it to PNG"),
    (0, b"VTF\x00", "a Valve texture: convert it to PNG"),
    (8, b"ILBM", "an Amiga image: convert it to PNG"),
    (8, b"PBM ", "an Amiga image: convert it to PNG"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile: convert it to PNG"),
    (40, b" EMF", "a Windows metafile: convert it to PNG"),
    (0, b"PF\n", "pixels are fractions, whose black and white are not known: save it with 8 or 16 bits"),
    (0, b"/* XPM */", "an X pixmap: convert it to PNG"),
    (0, b"NRRD000", "an NRRD volume: export its slices as PNG"),
    (0, b"ZISRAWFILE", "a Zeiss microscope file: export it as TIFF"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon microscope file: export it as TIFF"),
    (208, b"MAP ", "an MRC volume: export its slices as PNG"),
    (0, b"\x5c\x01\x00\x00", "an Analyze volume: export its slices as PNG"),
    (344, b"n+1\x00", "a NIfTI volume: export its slices as PNG"),
    (0, b"MATLAB 5.0", "a MATLAB file, not an image"),
    (0, b"\x00\x05\x16\x07", "macOS metadata (AppleDouble), not the image itself"),
    (0, b"/annex/objects/", _ANNEX),
    (0, b"../.git/annex/objects/", _ANNEX),
    (0, b".git/annex/objects/", _ANNEX),
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the image itself: type git lfs pull"),
    (0, b"/annex/objects/", "a git-annex pointer, not the image itself: type git annex get"),
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
    (0, b"BZh", "a bzip2 archive, not an image"),
    (0, b"\xfd7zXZ", "an xz archive, not an image"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive, not an image"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive, not an image"),
    (0, b"Rar!", "a RAR archive, not an image"),
    (0, b"\x89HDF", "an HDF5 file, not an image"),
    (0, b"\x93NUMPY", "a NumPy array, not an image"),
    (0, b"SQLite format 3", "an SQLite database, not an image"),
    (128, b"DICM", "a DICOM file: convert it to PNG, or type pip install 'featx[dicom]'"),
    (0, b"\x7fELF", "a program, not an image"),
    (0, b"MZ", "a program, not an image"),
)

# Brands of ISO base media files (the bytes after "ftyp"): https://mp4ra.org/registered-types/brands
_OR_HEIC = "convert it to JPEG, or type pip install 'featx[heic]'"
HEIC, HEIF = f"a HEIC image: {_OR_HEIC}", f"a HEIF image: {_OR_HEIC}"
_BRANDS: dict[bytes, str] = {
    b"qt  ": "a QuickTime video, not an image",
    **dict.fromkeys((b"avif", b"avis", b"avio"), "a damaged AVIF file"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), HEIC),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf", b"avci", b"avcs", b"vvic", b"vvis", b"evbi"), HEIF),
    **dict.fromkeys((b"j2ki", b"j2is", b"jpeg", b"jpgs", b"jxs ", b"MiHB", b"MiHE", b"MiHA"), HEIF),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), "an MPEG-4 sound, not an image"),
    b"crx ": _RAW,
}
_OF_ANY_CODING = {b"mif1", b"mif2", b"msf1", b"miaf"}  # of AVIF as of HEIC, which other brands tell apart

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
        return _describe_media(head)
    while head.startswith(b"../../"):  # of a link that was copied as text
        head = head[3:]
    for offset, signature, description in _SIGNATURES:
        if head.startswith(signature, offset):
            return description
    if not head.strip(b"\x00"):
        return "nothing but zero bytes"
    return _describe_text(head) or _describe_without_signature(head) or "not an image that Pillow can read"


def _describe_media(head: bytes) -> str:
    """What an ISO base media file is: by its major brand, or by those that it is compatible with."""
    size = min(int.from_bytes(head[:4], "big"), len(head), 512)
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if not brands[0].strip(b"\x00"):
        return "a damaged AVIF, HEIC or MP4 file"
    video = brands[0][:3] in (b"mp4", b"iso", b"avc", b"M4V", b"3gp", b"3g2", b"f4v")
    for brand in brands[:1] if video else sorted(brands, key=_OF_ANY_CODING.__contains__):
        if brand in _BRANDS:
            return _BRANDS[brand]
    return "an MP4 video, not an image"


def _describe_without_signature(head: bytes) -> str | None:
    """TGA and PCX, which begin with small numbers that hardly anything else begins with."""
    if len(head) < 18:
        return None
    if head[0] == 10 and head[1] in (0, 2, 3, 4, 5) and head[2] == 1 and head[3] in (1, 2, 4, 8):
        return "a PCX image: convert it to PNG"
    mapped, kind, depth = head[1], head[2], head[16]
    known = (kind & ~8) in ((1,) if mapped else (2, 3)) and depth in (1, 8, 15, 16, 24, 32)
    sized = head[12:14] != b"\0\0" and head[14:16] != b"\0\0"
    if mapped in (0, 1) and known and sized and (mapped or head[3:7] == b"\0\0\0\0"):
        return "a TGA image: convert it to PNG"
    return None


def _describe_text(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for tag, description in _MARKUP:
        if start.startswith(tag) or (start.startswith(b"<?xml") and tag in start):
            return description
    if start.startswith(b"#define ") and b"_bits[]" in start:
        return "an X bitmap: convert it to PNG"
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


def damage_line(error: Exception, most: int = 400) -> str:
    """What an error of a decoder says of a file. What Python says of the decoder's code is of no use to anybody."""
    message = error_line(error, most)
    if isinstance(error, _OF_CODE) or _OF_CODE_TOO.match(message):
        return "its header makes no sense"
    return "its pixels cannot be decoded" if message.startswith("decoder error") else message


def describe_damage(error: Exception) -> str:
    """Why an image cannot be decoded whose file type is known."""
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.errno == errno.EINVAL:  # of a place in the file that cannot be
        return "damaged: its header makes no sense"
    if isinstance(error, OSError) and error.errno:
        return f"{_UNREAD}{error.strerror or error}"
    message = damage_line(error) or type(error).__name__
    truncated = "truncated" in message.lower() or isinstance(error, EOFError)
    return f"{'truncated' if truncated else 'damaged'}: {message}"
