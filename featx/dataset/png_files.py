"""Write arrays as PNG files atomically.

A file that is there already with the same bytes is not touched, so that its remembered digest stays good. The files are
not compressed: their bytes, and with them every digest, are the same whatever zlib Pillow was built with.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from featx.io.files import TEMPORARY, explain_os_error, make_folder, require_local


def write_images(out: Path, images: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write images uint8 (height, width) as `out/<name>`, each a PNG file; return how many there are."""
    require_local(out)
    count = 0
    folders: set[Path] = set()
    for count, (name, pixels) in enumerate(images, 1):  # noqa: B007 - the last count is the result
        path = out / name
        try:
            if path.parent not in folders:
                make_folder(path.parent)
                folders.add(path.parent)
            _write_unless_same(path, _encode_png(pixels))
        except OSError as error:
            raise explain_os_error(error, path) from error
    return count


def _encode_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _write_unless_same(path: Path, content: bytes) -> None:
    # Renamed when whole, but not flushed to the disk one by one as results are: this data can be written again.
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
