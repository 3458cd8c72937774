"""The image grid of a search for similar images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featx.images.grid import GridImage, draw_grid
from featx.images.levels import FULL
from featx.quality.similar import SimilarImages


def draw_similar(found: Sequence[SimilarImages], out: Path, levels: str = FULL) -> Path:
    """A line of images for each that was asked for: itself, then what is like it.

    levels : which values of deep files are black and white
    """
    pictures = []
    for one in found:
        pictures.append(GridImage(one.path, (Path(one.path).name, "asked for"), levels=levels))
        pictures += [
            GridImage(
                near.path, (Path(near.path).name, near.label or "", f"{near.similarity:.3f}"), True, levels=levels
            )
            for near in one.similar
        ]
    return draw_grid(pictures, out, columns=1 + max((len(one.similar) for one in found), default=0))
