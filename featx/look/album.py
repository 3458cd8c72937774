"""The pictures of a first look: drawn into one directory, and remembered for the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featx.images.grid import Picture, draw_grid
from featx.report.album import Plot
from featx.report.plots import save

NAMES = ("sheet", "sizes", "seen", "imagenet", "depths")


class Album:
    """Draws into a directory and remembers what it drew."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plots: dict[str, Plot] = {}

    def figure(self, name: str, figure: Any, alt: str) -> None:
        """Write a figure of matplotlib; alt : what it shows, in words."""
        self.plots[name] = Plot(save(figure, self._path(name)), alt)

    def grid(self, name: str, pictures: Sequence[Picture | None], columns: int) -> None:
        """Write a grid of pictures; None leaves a cell empty."""
        captions = "; ".join(", ".join(one.caption) for one in pictures if one)
        alt = f"{sum(one is not None for one in pictures)} images. {captions}."
        self.plots[name] = Plot(draw_grid(pictures, self._path(name), columns), alt, wide=True)

    def path_of(self, name: str) -> str | None:
        """Where a picture is, if it was drawn."""
        return str(self.plots[name].path) if name in self.plots else None

    def forget_others(self) -> None:
        """Remove the pictures of an earlier run that this one did not draw."""
        for name in set(NAMES) - self.plots.keys():
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.png"
