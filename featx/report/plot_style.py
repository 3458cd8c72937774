"""The look of all figures: fonts and colours, a panel, names at an axis, a legend outside of it; saving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.images.fonts import fonts_for
from featx.images.grid import shorten
from featx.io.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI = 144
_COMPRESSION = 3  # of PNG files: a little larger than at the usual 6, in half the time
PANEL = (5.2, 3.4)  # inches; the page shows a figure at 96 pixels per inch
NAME = 26  # characters of a class's name
BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#718096"


@contextmanager
def style(names: Iterable[str] = ()) -> Iterator[None]:
    """The look of all figures, which show these names. A letter that no installed font has becomes a box, unwarned."""
    import matplotlib

    look = {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e2e8f0",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.6,
    }
    with matplotlib.rc_context(look), fonts_for(names):
        yield


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png", pil_kwargs={"compress_level": _COMPRESSION})
    return path


def panel(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one set of axes, in inches."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.add_subplot()


def write_names(axis: Axis, names: Sequence[str], rotation: int = 0) -> None:
    """Class names at the ticks, as they are: a dollar sign begins no formula."""
    size = 9 if len(names) <= 30 else 8
    axis.set_ticks(np.arange(len(names)))
    axis.set_ticklabels([shorten(name, NAME) for name in names], rotation=rotation, fontsize=size, parse_math=False)


def count_in_wholes(axis: Axis) -> None:
    """Whole numbers at the ticks."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def write_legend(figure: Figure, place: str, columns: int) -> None:
    """What the lines are, outside of the axes, where it covers nothing."""
    legend = figure.legend(loc=f"outside {place}", ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)
