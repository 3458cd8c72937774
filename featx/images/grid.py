"""Image grids with captions as PNG files: contact sheets, mistakes, neighbours, suspicious labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from featx.images.decoder import load_image
from featx.images.fault import BadImage
from featx.images.fonts import fonts_for
from featx.images.levels import FULL
from featx.images.resize import ResizeRule, fit
from featx.io.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THUMBNAIL = 160  # pixels
_DPI = 120
_SIDE = THUMBNAIL / _DPI  # inches, as is what follows: an image's pixels are the file's
_CELL = 1.6  # width of an image with its caption
_LINE = 0.13  # of a caption
_GAP = 0.12
_TITLE = 0.35
_FRAMES = {True: "#2e7d32", False: "#c62828", None: "#888888"}
_BORDER = 1 / 72  # inches of a frame that lie outside of its image
_PLACES = "Photographs"  # what the text in a PNG file is called that says where its photographs are
_LONGEST = 24  # characters of a caption's line


@dataclass(frozen=True)
class GridImage:
    """One cell of a grid.

    path : of the image; caption : lines under it; good : a green frame, a red one, or (None) a grey one
    pixels : uint8 (h, w, 3), shown in place of the file's
    levels : which values of a deep file are black and white
    """

    path: str
    caption: tuple[str, ...]
    good: bool | None = None
    pixels: np.ndarray | None = None
    levels: str = FULL


def draw_grid(images: Sequence[GridImage | None], out: Path, columns: int = 6, title: str = "") -> Path:
    """Draw the images row by row into a PNG file; an image that cannot be read becomes a grey square.

    A cell of None stays empty.
    """
    names = [line for image in images if image is not None for line in image.caption]
    with fonts_for([title, *names]):  # which text takes when it is made
        return _draw(images, out, columns, title)


def _draw(images: Sequence[GridImage | None], out: Path, columns: int, title: str) -> Path:
    from matplotlib.figure import Figure

    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    lines = max((len(image.caption) for image in images if image), default=0)
    top, height = _GAP + (_TITLE if title else 0), _SIDE + _LINE * (lines + 0.5) + _GAP
    size = (_CELL * columns, top + height * rows)
    figure = Figure(size, dpi=_DPI)
    axis = figure.add_axes((0, 0, 1, 1))  # one for all: an axes of its own for each image takes ten times as long
    axis.set_axis_off()
    places = []
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        if image is not None:
            x, y = _CELL * column + (_CELL - _SIDE) / 2, top + height * row
            _draw_image(axis, image, x, y)
            places.append(_square(x, y))
    axis.set_xlim(0, size[0])
    axis.set_ylim(size[1], 0)
    if title:
        axis.text(size[0] / 2, top / 2, title, fontsize=10, ha="center", va="center", parse_math=False)
    with atomic_path(out) as temporary:
        metadata = {_PLACES: "".join(places)}
        figure.savefig(temporary, dpi=_DPI, format="png", metadata=metadata, pil_kwargs={"compress_level": 3})
    return out


def _square(x: float, y: float) -> str:
    """Where an image and its frame are: a square as the path of an SVG file, in pixels that the frame covers wholly."""
    left, upper, side = (int(value * _DPI) for value in (x - _BORDER, y - _BORDER, _SIDE + 2 * _BORDER))
    return f"M{left + 1} {upper + 1}h{side}v{side}h-{side}z"


def read_places(image: Image.Image) -> str:
    """Where the photographs of a grid are, which `draw_grid` wrote into its file; empty of other pictures."""
    found = image.info.get(_PLACES, "")
    return found if isinstance(found, str) else ""


def _draw_image(axis: Axes, image: GridImage, x: float, y: float) -> None:
    """Draw one cell, its image with the upper left corner at (x, y)."""
    from matplotlib.patches import Rectangle

    axis.imshow(_thumbnail(image), extent=(x, x + _SIDE, y + _SIDE, y), aspect="auto")
    axis.add_patch(Rectangle((x, y), _SIDE, _SIDE, fill=False, edgecolor=_FRAMES[image.good], linewidth=2))
    caption = "\n".join(map(shorten, image.caption))
    axis.text(x + _SIDE / 2, y + _SIDE + _LINE / 2, caption, fontsize=7, ha="center", va="top", parse_math=False)


def shorten(text: str, longest: int = _LONGEST) -> str:
    """A text whose middle is left out where it is long."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def _thumbnail(image: GridImage) -> np.ndarray:
    size = (THUMBNAIL, THUMBNAIL)
    if image.pixels is not None:
        return np.asarray(fit(Image.fromarray(image.pixels), size, "pad"))
    try:
        return load_image(image.path, size, str(ResizeRule("pad", levels=image.levels)))
    except BadImage:
        return np.full((THUMBNAIL, THUMBNAIL, 3), 200, np.uint8)
