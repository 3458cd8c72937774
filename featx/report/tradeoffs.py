"""Plots of many models: quality against cost, and against the depth of the layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from featx.images.grid import shorten
from featx.metrics.digits import figure_text
from featx.metrics.table import metric_label, signed_score
from featx.report.plot_style import line_look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from featx.report.compared import Row

_WIDTH, _HEIGHT = 7.2, 3.8  # inches
_INCH_PER_LAYER, _WIDEST = 0.34, 12.0
_LINE = 0.19  # inches of a legend's line
_MOST_NAMED = 10  # points of the front that are named
_MOST_TICKS = 36  # layers that are named
_NAME = 30  # characters
_GREY = "#718096"
_FILLS: dict[str, Literal["full", "bottom", "none"]] = {"head": "full", "from-cache": "bottom", "finetuned": "none"}


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Positions of the points that no other is at least as good as at no higher a cost, the cheapest first.

    values : the higher the better; of equal points the first counts
    """
    found: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i])):
        if not found or values[i] > values[found[-1]]:
            found.append(i)
    return found


def draw_cost(rows: Sequence[Row]) -> Figure:
    """Scores by the time of a prediction, with the Pareto front; all rows have a score and a speed."""
    from matplotlib.figure import Figure

    costs = [1000 / float(row.images_per_second or 1) for row in rows]
    scores = [float(row.score or 0) for row in rows]
    metric = str(rows[0].metric)
    front = pareto_front(costs, [signed_score(metric, score) for score in scores])
    backbones = list(dict.fromkeys(row.place.backbone for row in rows))
    named = front[-_MOST_NAMED:]
    entries = len(named) + len(backbones) + len({row.place.stage for row in rows})
    figure = Figure((_WIDTH, _HEIGHT + _LINE * entries), layout="constrained")
    axis = figure.add_subplot()
    front_costs, front_scores = [costs[i] for i in front], [scores[i] for i in front]
    axis.plot(front_costs, front_scores, drawstyle="steps-post", color=_GREY, linewidth=1, zorder=1)
    for number, backbone in enumerate(backbones):
        for stage in _FILLS:
            some = [i for i, row in enumerate(rows) if (row.place.backbone, row.place.stage) == (backbone, stage)]
            axis.plot([costs[i] for i in some], [scores[i] for i in some], alpha=0.85, **_mark(number, stage))
    for number, i in enumerate(named, 1):
        place = (5, 4) if number % 2 else (5, -11)
        axis.annotate(str(number), (costs[i], scores[i]), place, textcoords="offset points", fontsize=8)
    _scale(axis, costs)
    axis.margins(x=0.08, y=0.1)
    axis.set_xlabel("milliseconds per image at prediction")
    axis.set_ylabel(metric_label(metric) + (" on val" if rows[0].where == "val" else " in folds of train"))
    _legend(figure, [*_keys(backbones, rows), *[_front_key(n, rows[i]) for n, i in enumerate(named, 1)]])
    return figure


def _scale(axis: Axes, costs: Sequence[float]) -> None:
    """Powers of ten where costs differ by so much."""
    if max(costs) > 10 * min(costs):
        axis.set_xscale("log")
    else:
        axis.set_xlim(0, 1.08 * max(costs))  # a margin would leave none once a limit is set


class _Mark(TypedDict):
    """How a point looks."""

    linestyle: str
    color: str
    marker: str
    fillstyle: Literal["full", "bottom", "none"]
    ms: float


def _mark(number: int, stage: str, colour: str = "") -> _Mark:
    """A backbone by its number has a colour and a shape, a stage has a filling."""
    look = line_look(number, colour)
    return _Mark(linestyle="none", color=look["color"], marker=look["marker"], fillstyle=_FILLS[stage], ms=5.5)


def _keys(backbones: Sequence[str], rows: Sequence[Row]) -> list[tuple[Line2D, str]]:
    """What colours, shapes and fillings mean, where there are several."""
    from matplotlib.lines import Line2D

    keys: list[tuple[Line2D, str]] = []
    if len(backbones) > 1:
        keys += [(Line2D([], [], **_mark(i, "head")), shorten(name, _NAME)) for i, name in enumerate(backbones)]
    stages = {row.place.stage for row in rows}
    if len(stages) > 1:
        keys += [(Line2D([], [], **_mark(0, stage, _GREY)), stage) for stage in _FILLS if stage in stages]
    return keys


def _front_key(number: int, row: Row) -> tuple[Line2D, str]:
    from matplotlib.lines import Line2D

    place, rate = row.place, float(row.images_per_second or 1)
    score = figure_text(row.score or 0.0, row.score_images)
    text = f"{score}, {1000 / rate:.2g} ms: {shorten(place.backbone, _NAME)} {shorten(place.layer, _NAME)}"
    mark = Line2D([], [], linestyle="none", marker=f"${number}$", color="black", markersize=5 if number < 10 else 8)
    return mark, f"{text}, {place.clf}, {place.stage}"


def layers_of(rows: Sequence[Row]) -> list[str]:
    """The different layers, the lowest first; of equal shares of the multiply-adds in the order of the rows."""
    shares = {_layer_and_pooling(row)[0]: float(row.share or 0) for row in rows}
    return sorted(shares, key=lambda name: shares[name])


def _layer_and_pooling(row: Row) -> tuple[str, str]:
    layer, _, pooling = row.place.layer.rpartition("@")
    return layer, pooling


def draw_depth(rows: Sequence[Row]) -> Figure:
    """Accuracy on test and on val by layer, from the lowest up: a line for each pooling and kind of head."""
    from matplotlib.figure import Figure

    layers = layers_of(rows)
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        lines.setdefault((_layer_and_pooling(row)[1], row.place.clf), []).append(row)
    shares = {_layer_and_pooling(row)[0]: float(row.share or 0) for row in rows}
    width = min(max(_WIDTH, 1.2 + _INCH_PER_LAYER * len(layers)), _WIDEST)
    figure = Figure((width, _HEIGHT + 1.2 + _LINE * len(lines)), layout="constrained")
    axis = figure.add_subplot()
    keys = []
    for number, ((pooling, clf), some) in enumerate(lines.items()):
        (line,) = _draw_line(
            axis, sorted(some, key=lambda row: layers.index(_layer_and_pooling(row)[0])), layers, number
        )
        best = max(some, key=lambda row: row.val_accuracy or 0.0)
        text = f"{pooling}, {clf}: best on val at {shorten(_layer_and_pooling(best)[0], _NAME)}"
        keys.append((line, f"{text}, test {figure_text(best.test_accuracy or 0.0, best.test_images)}"))
    step = -(-len(layers) // _MOST_TICKS)
    ticks = range(0, len(layers), step)
    axis.set_xticks(ticks)
    names = [f"{shorten(layers[i], _NAME)}  {shares[layers[i]]:.0%}" for i in ticks]
    axis.set_xticklabels(names, rotation=90, fontsize=8, parse_math=False)
    axis.set_xlim(-0.5, len(layers) - 0.5)
    axis.set_ylim(top=min(axis.get_ylim()[1], 1.01))
    axis.set_ylabel("accuracy")
    _legend(figure, keys)
    return figure


def _draw_line(axis: Axes, rows: Sequence[Row], layers: Sequence[str], number: int) -> list[Line2D]:
    places = [layers.index(_layer_and_pooling(row)[0]) for row in rows]
    colour = line_look(number)["color"]
    low = [np.nan if row.low is None else row.low for row in rows]
    high = [np.nan if row.high is None else row.high for row in rows]
    axis.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    val = [np.nan if row.val_accuracy is None else row.val_accuracy for row in rows]
    axis.plot(places, val, "--", color=colour, linewidth=1)
    if not np.isnan(val).all():
        best = int(np.nanargmax(val))
        axis.plot(places[best], val[best], "*", ms=11, color=colour)
    test = [float(row.test_accuracy or 0) for row in rows]
    return axis.plot(places, test, **line_look(number, dashes="-"))


def _legend(figure: Figure, keys: Sequence[tuple[Line2D, str]]) -> None:
    """What lines and points are, outside of the axes, where it covers nothing."""
    if not keys:
        return
    marks, texts = zip(*keys, strict=True)
    legend = figure.legend(marks, texts, loc="outside lower left", ncols=1)
    for text in legend.get_texts():
        text.set_parse_math(False)
