"""A folder of everything that goes wrong with image files, built from nothing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def make_unkind_folder(root: Path) -> dict[str, str | None]:
    """Write the files into `root`; return what each is good for: None if it can be read, else words of the reason."""
    root.mkdir(parents=True, exist_ok=True)
    expected: dict[str, str | None] = {}
    for name, (make, reason) in _FILES.items():
        (root / name).write_bytes(make())
        expected[name] = reason
    (root / "link to nowhere.jpg").symlink_to("gone.jpg")
    expected["link to nowhere.jpg"] = "broken symlink"
    return expected


def gradient(height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 (height, width, 3): red grows to the right, green downwards, a blue square in the top left quarter."""
    down, across = np.mgrid[0:height, 0:width]
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = across * 255 // (width - 1), down * 255 // (height - 1)
    image[: height // 2, : width // 2, 2] = 255
    return image


def encode(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated_jpeg(image: np.ndarray, orientation: int, **options: object) -> bytes:
    """A JPEG stored as it is, whose EXIF says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, "JPEG", exif=exif, quality=95, subsampling=0, **options)


def bomb(side: int = 20_000, height: int = 0) -> bytes:
    """A PNG of side x side (or x height) black pixels, one bit each: some 50 kB that would be hundreds of megabytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height or side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, height or side, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _grey16() -> bytes:
    wide = np.linspace(0, 65_535, 32 * 32).astype(np.uint16).reshape(32, 32)
    return encode(wide, "PNG")


def _rgba() -> bytes:
    alpha = np.full((48, 64, 1), 255, np.uint8)
    alpha[:, 32:] = 0
    return encode(np.concatenate([gradient(), alpha], axis=2), "PNG")


def _animation() -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    return encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


_FILES: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "truncated.jpg": (lambda: encode(gradient(), "JPEG", quality=95)[:-300], "truncated"),
    "empty.jpg": (lambda: b"", "empty file"),
    "text.jpg": (lambda: b"This is not an image.\n" * 20, "text"),
    "video.jpg": (lambda: b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(range(256)) * 8, "MP4 video"),
    "bomb.png": (bomb, "400 megapixels"),
    "cmyk.jpg": (lambda: encode(Image.fromarray(gradient()).convert("CMYK"), "JPEG", quality=95), None),
    "grey16.png": (_grey16, None),
    "rgba.png": (_rgba, None),
    "palette.gif": (lambda: encode(Image.fromarray(gradient()).quantize(32), "GIF"), None),
    "animated.webp": (_animation, None),
    "rotated.jpg": (lambda: rotated_jpeg(gradient(), 6), None),
    "mit Leerzeichen und Ümläuten.jpg": (lambda: encode(gradient()[::-1], "JPEG", quality=95), None),
}
