"""Thumbnails of many images, a hundred to a file, as `data:` URLs for self-contained pages."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from featx.images.decoder import load_image
from featx.images.fault import BadImage

SIDE, ROW = 48, 10  # pixels of a picture; pictures in a row and in a column of a sheet
_QUALITY = 72


def draw_sheets(paths: Sequence[str]) -> list[str]:
    """Sheets of 100 pictures, in order; one that cannot be read stays grey."""
    return [_sheet(paths[start : start + ROW * ROW]) for start in range(0, len(paths), ROW * ROW)]


def _sheet(paths: Sequence[str]) -> str:
    sheet = Image.new("RGB", (SIDE * ROW, SIDE * -(-len(paths) // ROW)), (200, 200, 200))
    for number, path in enumerate(paths):
        try:
            pixels = load_image(path, (SIDE, SIDE), "pad")
        except BadImage:
            continue
        sheet.paste(Image.fromarray(pixels), (number % ROW * SIDE, number // ROW * SIDE))
    written = io.BytesIO()
    sheet.save(written, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
