"""Grids of images with captions, as PNG files: mistakes, neighbours, suspicious labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.files import atomic_path
from featx.images import BadImage, load_image

THUMBNAIL = 160  # pixels
_CELL = (1.6, 2.1)  # inches
_FRAMES = {True: "#2e7d32", False: "#c62828", None: "#888888"}
_LONGEST = 24  # characters of a caption's line


@dataclass(frozen=True)
class Picture:
    """One cell of a grid.

    path : of the image; caption : lines under it; good : a green frame, a red one, or (None) a grey one
    """

    path: str
    caption: tuple[str, ...]
    good: bool | None = None


def draw_grid(pictures: Sequence[Picture], out: Path, columns: int = 6, title: str = "") -> Path:
    """Draw the pictures row by row into a PNG file; an image that cannot be read becomes a grey square."""
    from matplotlib.figure import Figure

    columns = max(1, min(columns, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    figure = Figure((_CELL[0] * columns, _CELL[1] * rows + (0.4 if title else 0)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, picture in zip(axes, pictures, strict=False):
        axis.imshow(_thumbnail(picture.path))
        axis.set_xlabel("\n".join(map(shorten, picture.caption)), fontsize=7, parse_math=False)
        for side in axis.spines.values():
            side.set_color(_FRAMES[picture.good])
            side.set_linewidth(2)
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in axes[len(pictures) :]:
        axis.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return out


def shorten(text: str, longest: int = _LONGEST) -> str:
    """A text whose middle is left out where it is long."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def _thumbnail(path: str) -> np.ndarray:
    try:
        return load_image(path, (THUMBNAIL, THUMBNAIL), "pad")
    except BadImage:
        return np.full((THUMBNAIL, THUMBNAIL, 3), 200, np.uint8)
