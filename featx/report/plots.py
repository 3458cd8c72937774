"""The figures of a report, drawn with matplotlib. Each function returns a figure, not yet shown or saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featx.images.grid import shorten
from featx.metrics.digits import figure_text
from featx.metrics.reliability import Reliability
from featx.metrics.table import is_lower_better, metric_label, signed_score
from featx.report.curves import Curve, Curves
from featx.report.plot_style import (
    BLUE,
    GREY,
    NAME,
    ORANGE,
    PANEL,
    count_in_wholes,
    line_look,
    panel,
    write_legend,
    write_names,
)
from featx.report.scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

MOST_NAMED = 120  # classes whose names are written at an axis
_MOST_COUNTS = 1500  # cells of a confusion matrix that have their count written in
_MOST_LINES = 10  # in one panel
_INCH_PER_CLASS = 0.19
_LEGEND = 0.17  # inches of a legend's line
_PARTS = {"train": "#90b4d8", "val": "#d98a2b", "test": "#2b6cb0"}
_HATCHES = {"val": "//", "test": ".."}
_MARKS = {"train": "^", "val": "s", "test": "o"}


def draw_sizes(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Images per class, the parts side by side in one bar. Past `MOST_NAMED` classes: a curve, the largest first."""
    names = list(dict.fromkeys(name for part in counts.values() for name in part))
    columns = {part: np.array([sizes.get(name, 0) for name in names]) for part, sizes in counts.items()}
    if len(names) > MOST_NAMED:
        return _draw_many_sizes(columns)
    figure, axis = panel(PANEL[0], 1.1 + _INCH_PER_CLASS * len(names))
    left = np.zeros(len(names))
    for part, sizes in columns.items():
        label = f"{part} ({sizes.sum():,})"
        colour, hatch = _PARTS.get(part, GREY), _HATCHES.get(part)
        axis.barh(np.arange(len(names)), sizes, 0.75, left, color=colour, hatch=hatch, edgecolor="white", label=label)
        left += sizes
    write_names(axis.yaxis, names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel("images")
    axis.grid(visible=False, axis="y")
    count_in_wholes(axis.xaxis)
    write_legend(figure, "upper center", len(columns))
    return figure


def _draw_many_sizes(columns: Mapping[str, np.ndarray]) -> Figure:
    figure, axis = panel(*PANEL)
    for part, sizes in columns.items():
        label = f"{part} ({sizes.sum():,})"
        look = line_look([*_PARTS, part].index(part), _PARTS.get(part, GREY))
        axis.plot(np.arange(1, len(sizes) + 1), np.sort(sizes)[::-1], label=label, markevery=0.1, **look)
    axis.set_xlabel("classes, the largest first")
    axis.set_ylabel("images")
    axis.set_ylim(bottom=0)
    write_legend(figure, "upper center", len(columns))
    return figure


def draw_metrics(scores: Sequence[Scores]) -> Figure:
    """Metrics between 0 and 1 of every part, with their intervals."""
    names = [name for name in scores[0].metrics if not is_lower_better(name)]
    names = [name for name in names if any(one.metrics.get(name) is not None for one in scores)]
    figure, axis = panel(PANEL[0], 1.0 + 0.28 * len(names) * max(2, len(scores)))
    for number, one in enumerate(scores):
        colour, shift = _PARTS.get(one.part, GREY), (number - (len(scores) - 1) / 2) * 0.26
        for row, name in enumerate(names):
            value, interval = one.metrics.get(name), one.intervals.get(name)
            if value is None:
                continue
            if interval is not None:
                axis.plot(interval, [row + shift] * 2, color=colour, linewidth=3, alpha=0.55, solid_capstyle="butt")
            mark = _MARKS.get(one.part, "o")
            axis.plot(value, row + shift, mark, color=colour, label=one.part if row == 0 else None)
            place = axis.get_yaxis_transform()  # x in shares of the axis
            axis.text(
                1.02,
                row + shift,
                figure_text(value, one.images),
                transform=place,
                color=colour,
                va="center",
                fontsize=8,
            )
    axis.set_yticks(np.arange(len(names)), [metric_label(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.locator_params("x", nbins=5)
    axis.margins(x=0.06)
    left, right = min(axis.get_xlim()[0], 0.98), axis.get_xlim()[1]
    axis.set_xlim(left, min(right, 1 + 0.06 * (1 - left)))  # nothing is above 1
    axis.grid(visible=False, axis="y")
    write_legend(figure, "upper center", len(scores))
    return figure


def draw_confusion(confusion: np.ndarray, names: Sequence[str]) -> Figure:
    """Share of each true class by prediction, with counts; names and counts as long as they can be read."""
    k = len(names)
    cell = 0.5 if k <= 12 else 0.3 if k <= 30 else 0.2
    named = k <= MOST_NAMED
    side = cell * k if named else 7.0
    longest = max(len(shorten(name, NAME)) for name in names) if named else 0
    room = 0.5 + 0.07 * longest  # inches of names beside the matrix
    sides = 2 if k > 30 else 1  # where the names are written: also on the far sides of a large one
    figure, axis = panel(max(side + room * sides + 1.1, 4.0), max(side + room * sides, 3.2))
    images = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, images, out=np.zeros(confusion.shape), where=images > 0)
    drawn = axis.imshow(share, cmap="Blues", norm=_square_root())
    axis.grid(visible=False)
    axis.spines[:].set_visible(True)
    axis.set_xlabel("predicted")
    axis.set_ylabel("actual")
    bar = figure.colorbar(drawn, ax=axis, shrink=min(1.0, 3.0 / side), aspect=18, ticks=[0, 0.05, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", "5 %", "25 %", "50 %", "100 %"], fontsize=8)
    bar.outline.set_visible(False)
    if named:
        write_names(axis.yaxis, names)
        write_names(axis.xaxis, names, rotation=90 if longest > 3 or k > 30 else 0)
        axis.set_xticks(np.arange(-0.5, k), minor=True)
        axis.set_yticks(np.arange(-0.5, k), minor=True)
        axis.grid(visible=True, which="minor", color="#edf2f7", linewidth=0.5)
        axis.tick_params(which="both", length=0, labeltop=k > 30, labelright=k > 30)
        _write_counts(axis, confusion, share, 9 if k <= 12 else 7 if k <= 30 else 6)
    return figure


def _square_root() -> PowerNorm:
    """Colours by the square root of a share: an error of one in a hundred is still to be seen."""
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, 0, 1)


def _write_counts(axis: Axes, confusion: np.ndarray, share: np.ndarray, size: int) -> None:
    cells = np.argwhere(confusion > 0)
    if len(cells) > _MOST_COUNTS:
        return
    for row, column in cells:
        colour = "white" if share[row, column] > 0.35 else "#1a202c"
        small = size if confusion[row, column] < 1000 else size - 1
        axis.text(column, row, f"{confusion[row, column]}", ha="center", va="center", color=colour, fontsize=small)


def draw_roc(curves: Curves, images: int | None = None) -> Figure:
    """The averages and the classes with the smallest area, measured on so many images."""
    figure, axis = panel(PANEL[0], 4.0 + _LEGEND * _lines(curves))
    axis.plot([0, 1], [0, 1], "--", color="#a0aec0", linewidth=1)
    _draw_curves(axis, curves, "AUC", images)
    axis.set_xlabel("false positive rate")
    axis.set_ylabel("true positive rate")
    write_legend(figure, "lower left", 1)
    return figure


def draw_precision_recall(curves: Curves, images: int | None = None) -> Figure:
    """The averages and the classes with the smallest area, measured on so many images."""
    figure, axis = panel(PANEL[0], 4.0 + _LEGEND * _lines(curves))
    _draw_curves(axis, curves, "AP", images)
    axis.set_xlabel("recall")
    axis.set_ylabel("precision")
    write_legend(figure, "lower left", 1)
    return figure


def _lines(curves: Curves) -> int:
    return 2 + min(len(curves.classes), _MOST_LINES)


def _draw_curves(axis: Axes, curves: Curves, area: str, images: int | None) -> None:
    for curve, colour, dashes in ((curves.micro, "#1a202c", "-"), (curves.macro, "#1a202c", ":")):
        axis.plot(curve.x, curve.y, dashes, color=colour, linewidth=2.2, label=_area(curve, area, images), zorder=3)
    for number, curve in enumerate(curves.worst(_MOST_LINES)):
        # marks at every tenth of the line's length, shifted from line to line so that they do not cover each other
        marked, label = (0.01 * number, 0.1), _area(curve, area, images)
        axis.plot(curve.x, curve.y, linewidth=1.2, label=label, markevery=marked, **line_look(number))
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)


def _area(curve: Curve, name: str, images: int | None) -> str:
    return f"{name} {figure_text(curve.area, images)}  {shorten(curve.name, NAME)}"


def draw_reliability(found: Reliability, *, multilabel: bool = False) -> Figure:
    """Accuracy by confidence against the diagonal, and how many images have which confidence.

    Of a multi-label set: how often a class is there by its probability, over all pairs of image and class.
    """
    from matplotlib.figure import Figure

    figure = Figure((PANEL[0], 5.0), layout="constrained")
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    centres, width = (found.edges[1:] + found.edges[:-1]) / 2, np.diff(found.edges)
    axis.bar(
        centres, np.nan_to_num(found.accuracy), width, color=BLUE, edgecolor="white", label="in a bin of confidence"
    )
    filled = found.images > 0
    axis.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="as it should be")
    axis.plot(
        found.confidence[filled],
        found.accuracy[filled],
        "o",
        color=ORANGE,
        ms=4,
        clip_on=False,
        label="at the mean confidence",
    )
    axis.set_ylabel("share that is there" if multilabel else "share that is right")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.03)
    write_legend(figure, "upper center", 3)
    below.bar(centres, found.images, width, color="#a0aec0", edgecolor="white")
    below.set_xlabel("probability of a class" if multilabel else "confidence")
    below.set_ylabel("pairs" if multilabel else "images")
    return figure


def draw_learning(history: Mapping[str, Sequence[float]], kept: int | None) -> Figure:
    """Loss and accuracy by epoch; `kept` is the epoch whose weights were kept, from 1."""
    from matplotlib.figure import Figure

    panels = [(name, [key for key in (name, f"val_{name}") if history.get(key)]) for name in ("loss", "accuracy")]
    panels = [(name, keys) for name, keys in panels if keys]
    figure = Figure((PANEL[0], 0.5 + 2.4 * len(panels)), layout="constrained")
    for axis, (name, keys) in zip(figure.subplots(len(panels), 1, squeeze=False).ravel(), panels, strict=True):
        for key in keys:
            epochs = np.arange(1, len(history[key]) + 1)
            part, colour, look = ("val", ORANGE, "s--") if key.startswith("val_") else ("train", BLUE, "o-")
            axis.plot(epochs, history[key], look, ms=3, color=colour, label=part)
        if kept is not None:
            axis.axvline(kept, color=GREY, linestyle=":", label=f"kept: epoch {kept}")
        axis.set_ylabel(name)
        axis.set_xlabel("epoch")
        axis.set_xlim(0.5, max(len(history[key]) for key in keys) + 0.5)
        count_in_wholes(axis.xaxis)
        if name == "accuracy":
            axis.set_ylim(top=min(axis.get_ylim()[1], 1.005))
        axis.legend()
    return figure


def draw_strengths(
    lines: Mapping[str, Sequence[tuple[float, float]]], parameter: str, metric: str, images: int | None = None
) -> Figure:
    """What was searched, the best lines of it.

    lines : name, of head and features -> (strength, score) of each candidate; parameter, metric : the axes
    images : that scores are of
    """
    shown = _best_lines(lines, metric)
    figure, axis = panel(PANEL[0], 3.2 + _LEGEND * len(shown))
    for number, (name, points) in enumerate(shown.items()):
        strengths, scores = zip(*sorted(points), strict=True)
        best = _best_of(scores, metric)
        axis.plot(strengths, scores, label=f"{figure_text(scores[best], images)}  {name}", **line_look(number))
        axis.plot(strengths[best], scores[best], "*", ms=11, color=f"C{number}")
    axis.set_xscale("log")
    axis.minorticks_off()
    tried = sorted({strength for points in shown.values() for strength, _ in points})
    if all(strength == int(strength) for strength in tried):
        axis.set_xticks(tried, [f"{strength:.0f}" for strength in tried])
    axis.set_xlabel(parameter)
    axis.set_ylabel(metric_label(metric))
    write_legend(figure, "lower left", 1)
    return figure


def draw_depths(lines: Mapping[str, Sequence[tuple[str, float]]], metric: str) -> Figure:
    """What a linear head reaches by layer, the lowest first; lines : name -> (layer, score); metric : in words."""
    layers = list(dict.fromkeys(layer for points in lines.values() for layer, _ in points))
    figure, axis = panel(PANEL[0], PANEL[1])
    for number, (name, points) in enumerate(lines.items()):
        places = [layers.index(layer) for layer, _ in points]
        look = line_look(number, (BLUE, ORANGE)[number % 2])
        axis.plot(places, [score for _, score in points], label=name, **look)
    write_names(axis.xaxis, layers, rotation=20)
    axis.set_ylabel(metric)
    axis.set_xlim(-0.3, len(layers) - 0.7)
    write_legend(figure, "upper center", len(lines))
    return figure


def _best_lines(
    found: Mapping[str, Sequence[tuple[float, float]]], metric: str
) -> dict[str, Sequence[tuple[float, float]]]:
    def best(points: Sequence[tuple[float, float]]) -> float:
        return max(signed_score(metric, score) for _, score in points)

    return dict(sorted(found.items(), key=lambda item: -best(item[1]))[:_MOST_LINES])


def _best_of(scores: Sequence[float], metric: str) -> int:
    return int(np.argmax([signed_score(metric, score) for score in scores]))
