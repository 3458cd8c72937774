"""Figures and image grids as a folder of PNG files, each with its alternative text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featx.images.grid import GridImage, draw_grid
from featx.io.counting import counted
from featx.report.plot_style import remove_plot, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from featx.config.results import PlotFormat


@dataclass(frozen=True)
class Plot:
    """A PNG file.

    alt : what it shows, in a sentence; wide : it is scrolled on a small screen, not shrunk
    drawn : lines and bars on white, which a dark page may turn dark; not photographs
    """

    path: Path
    alt: str
    wide: bool = False
    drawn: bool = False


class FigureFolder:
    """Draws into a directory and remembers what it drew: `plots`, by name.

    plots : "svg" or "pdf" writes figures as such files, too; photographs stay PNG files alone
    """

    def __init__(self, directory: Path, plots: PlotFormat = "png") -> None:
        self.directory = directory
        self.beside = plots
        self.plots: dict[str, Plot] = {}

    def draw(self, name: str, figure: Figure, alt: str, *, wide: bool = False) -> str:
        """Write a figure; returns its path. alt : what it shows, in words"""
        return self._keep(name, Plot(save(figure, self._path(name), self.beside), alt, wide, drawn=True))

    def grid(self, name: str, pictures: Sequence[GridImage | None], columns: int = 6) -> str:
        """Write an image grid; returns its path. None leaves a cell empty."""
        captions = "; ".join(", ".join(one.caption) for one in pictures if one)
        alt = f"{counted(sum(one is not None for one in pictures), 'image')}. {captions}."
        return self._keep(name, Plot(draw_grid(pictures, self._path(name), columns), alt, wide=True))

    def remove_others(self, names: Iterable[str]) -> None:
        """Remove those of these names that an earlier run drew and this one did not."""
        for name in set(names) - self.plots.keys():
            remove_plot(self._path(name))

    def _keep(self, name: str, plot: Plot) -> str:
        self.plots[name] = plot
        return str(plot.path)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.png"
