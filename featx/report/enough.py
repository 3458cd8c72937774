"""Accuracy against the number of images, as files: a CSV, a plot, one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.io.counting import counted
from featx.io.csvtext import csv_text
from featx.io.files import write_atomic
from featx.report.figure_folder import Plot
from featx.report.growth import CurvePoint, ForecastPoint, measured_name
from featx.report.page import render
from featx.report.plot_style import BLUE, ORANGE, panel, save, style
from featx.report.report import INDEX

_CLASSES = 30  # in the table of the page; the CSV has all


@dataclass(frozen=True)
class EnoughFiles:
    """Where it is written. page : None without one"""

    csv: Path
    plot: Path
    page: Path | None


_OF_CLASS = "The share of each class' images that are right"
_OF_LABEL = "The average precision of each label"


def write_enough(
    out: Path,
    curve: Sequence[CurvePoint],
    forecast: Sequence[ForecastPoint],
    notes: Sequence[str],
    command: str | None,
) -> EnoughFiles:
    """Write `enough.csv`, `enough.png` and the page.

    command : that wrote the page; None: no page is written

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    names, measure = list(curve[-1].per_class), measured_name(forecast)
    rows: list[Sequence[object]] = [("images", "kind", "accuracy", "low", "high", *names)]
    rows += [
        (one.images, "measured", one.accuracy, *one.interval, *(one.per_class.get(name) for name in names))
        for one in curve
    ]
    rows += [(one.images, "forecast", one.accuracy, *one.interval, *([None] * len(names))) for one in forecast]
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "enough.csv", csv_text(rows))
    plot, page = _draw(curve, forecast, out / "enough.png"), out / INDEX
    if command is None:
        page.unlink(missing_ok=True)
        return EnoughFiles(out / "enough.csv", plot, None)
    figures = [*((one.images, one.accuracy) for one in curve), *((one.images, one.accuracy) for one in forecast)]
    alt = "; ".join(f"{counted(images, 'image')}: {accuracy:.3f}" for images, accuracy in figures)
    against = f"{measure.capitalize()} against the number of training images"
    text = render(
        "enough.html",
        title="Are there enough images?",
        curve=curve,
        forecast=forecast,
        classes=sorted(names, key=lambda name: curve[-1].per_class[name])[:_CLASSES],
        notes=notes,
        command=command,
        measure=measure,
        of_class=_OF_CLASS if measure == measured_name(()) else _OF_LABEL,
        plots={"enough": Plot(plot, f"{against}. {alt}.", drawn=True)},
    )
    write_atomic(page, text)
    return EnoughFiles(out / "enough.csv", plot, page)


def _ticks(measured: Sequence[int], forecast: Sequence[int]) -> list[int]:
    """Every other measured size, and the forecast ones that are far enough from each other to be read."""
    ticks = list(measured[::2])
    for size in sorted(forecast):
        if size >= 1.4 * ticks[-1]:
            ticks.append(size)
    return ticks


def _draw(curve: Sequence[CurvePoint], forecast: Sequence[ForecastPoint], path: Path) -> Path:
    with style():
        figure, axes = panel(6.4, 3.8)
        for points, colour, name, marker in ((curve, BLUE, "measured", "o"), (forecast, ORANGE, "forecast", "s")):
            sizes = [one.images for one in points]
            axes.plot(sizes, [one.accuracy for one in points], marker=marker, color=colour, label=name)
            low, high = ([one.interval[end] for one in points] for end in (0, 1))
            axes.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(_ticks([one.images for one in curve], [one.images for one in forecast]))
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("training images")
        axes.set_ylabel(measured_name(forecast))
        axes.legend(loc="lower right")
        return save(figure, path)
