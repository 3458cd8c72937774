"""The style of all figures: fonts and colours, panels, axis names, an outside legend; saving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from featx.images.fonts import fonts_for
from featx.images.grid import shorten
from featx.io.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from featx.config.results import PlotFormat

DPI = 144
_COMPRESSION = 3  # of PNG files: a little larger than at the usual 6, in half the time
PANEL = (5.2, 3.4)  # inches; the page shows a figure at 96 pixels per inch
_VECTOR = (".svg", ".pdf")
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
        "svg.hashsalt": "featx",
    }
    with matplotlib.rc_context(look), fonts_for(names):
        yield


def save(figure: Figure, path: Path, plots: PlotFormat = "png") -> Path:
    """Write a figure as a PNG file, whole or not at all, and beside it as SVG or PDF where `plots` says so.

    Such a file of an earlier figure goes. The same figure gives the same bytes: nothing in them is a date.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    remove_plot(path)
    figure.set_dpi(DPI)
    with atomic_path(path) as temporary:  # `savefig` would draw all twice, the first time for the layout alone
        FigureCanvasAgg(figure).print_png(temporary, pil_kwargs={"compress_level": _COMPRESSION})
    if plots != "png":
        undated = {"Date": None} if plots == "svg" else {"CreationDate": None}
        with atomic_path(path.with_suffix(f".{plots}")) as temporary:
            figure.savefig(temporary, dpi=DPI, format=plots, metadata=undated)
    return path


def remove_plot(path: Path) -> None:
    """Remove a figure in every format. path : of its PNG file"""
    for suffix in (".png", *_VECTOR):
        path.with_suffix(suffix).unlink(missing_ok=True)


class LineLook(TypedDict):
    """How matplotlib draws a line."""

    color: str
    linestyle: str
    marker: str
    ms: float


def line_look(number: int, colour: str = "", dashes: str = "") -> LineLook:
    """Colour, dashes and mark of a line by its number, but for what is given; ten in a row share no mark."""
    usual = ("-", "--", "-.", ":")[number % 4]
    return LineLook(
        color=colour or f"C{number % 10}", linestyle=dashes or usual, marker="os^DvPX<>*"[number % 10], ms=4.0
    )


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
