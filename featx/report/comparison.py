"""Many models in one table: as text, CSV, Markdown and a page with plots of accuracy against cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from featx.config.results import PlotFormat
from featx.io.csvtext import csv_text
from featx.io.files import write_atomic
from featx.metrics.digits import ends_text, figure_text
from featx.metrics.table import metric_label
from featx.report import tradeoffs
from featx.report.compared import Row
from featx.report.figure_folder import Plot
from featx.report.page import render
from featx.report.plot_style import remove_plot, save, style
from featx.store.key import file_name

INDEX, TABLE = "index.html", "table"
_PICTURES = ("cost-*.png", "depth-*.png")  # of which an earlier page may have had others
_LEAST_LAYERS = 3  # of a picture by depth


@dataclass(frozen=True)
class _Column:
    """A column of the table for people. text : of a row; number : by which it is sorted, None for words"""

    heading: str
    text: Callable[[Row], str]
    number: Callable[[Row], float | None] | None = None


def _fixed(value: float | None, images: int | None, sign: str = "") -> str:
    return "-" if value is None else figure_text(value, images, sign)


def _accuracy(row: Row) -> str:
    return _fixed(row.test_accuracy, row.test_images)


def _interval(row: Row) -> str:
    if row.low is None or row.high is None:
        return "-"
    return ends_text((row.low, row.high), row.test_images, between=" - ")


def _behind(row: Row) -> str:
    """The interval of what it lacks to the best."""
    if row.best or row.behind_low is None or row.behind_high is None:
        return "-"
    return ends_text((row.behind_low, row.behind_high), row.score_images, "+")


def _round(value: float | None) -> str:
    """Seconds, megabytes, images per second: three digits are enough."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _megabytes(row: Row) -> float | None:
    return None if row.bytes is None else row.bytes / 1e6


_ACCURACY, _INTERVAL, _NOTE = "test accuracy", "95 % interval", "note"
_COLUMNS = (
    _Column("best", lambda row: "*" if row.best else "=" if row.tie else ""),
    _Column("data", lambda row: row.place.data),
    _Column("backbone", lambda row: row.place.backbone),
    _Column("weights", lambda row: row.weights or "-"),
    _Column("size", lambda row: row.place.input_size or "-"),
    _Column("layer", lambda row: row.place.layer),
    _Column("head", lambda row: row.place.clf),
    _Column("stage", lambda row: row.place.stage),
    _Column("score", lambda row: _fixed(row.score, row.score_images), lambda row: row.score),
    _Column("behind", _behind, lambda row: row.behind_low),
    _Column(_ACCURACY, _accuracy, lambda row: row.test_accuracy),
    _Column(_INTERVAL, _interval, lambda row: row.low),
    _Column("gain", lambda row: _fixed(row.gain, row.test_images, "+"), lambda row: row.gain),
    _Column("extract s", lambda row: _round(row.extract_seconds), lambda row: row.extract_seconds),
    _Column("fit s", lambda row: _round(row.fit_seconds), lambda row: row.fit_seconds),
    _Column("features", lambda row: "-" if row.features is None else f"{row.features:,}", lambda row: row.features),
    _Column("MB", lambda row: _round(_megabytes(row)), _megabytes),
    _Column("images/s", lambda row: _round(row.images_per_second), lambda row: row.images_per_second),
    _Column(_NOTE, lambda row: row.note),
)


def headings_and_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The table for people: headings, and a list of texts for every row; columns that say nothing are left out."""
    shown = _shown(rows)
    return [column.heading for column in shown], [[column.text(row) for column in shown] for row in rows]


def _shown(rows: Sequence[Row]) -> list[_Column]:
    always = {"data", "backbone", "layer", "head", "stage", _ACCURACY}
    return [
        column
        for column in _COLUMNS
        if column.heading in always or any(column.text(row) not in {"", "-"} for row in rows)
    ]


def chosen_by(rows: Iterable[Row]) -> str:
    """What the scores are, in words: `accuracy on val`."""
    kinds = {(row.metric, row.where) for row in rows if row.metric}
    return ", ".join(f"{metric_label(str(metric))} {_place(where)}" for metric, where in sorted(kinds, key=str))


def _place(where: str | None) -> str:
    return "on val" if where == "val" else "in folds of train"


def write_comparison(
    folder: Path,
    title: str,
    rows: Sequence[Row],
    command: str = "",
    pipeline: str = "",
    plots: PlotFormat | None = "png",
) -> dict[str, str | None]:
    """Write `table.csv` and `table.md` into a folder, and the page with its pictures.

    command, pipeline : for the page, where it comes from; plots : the files of its plots, None for no page

    Returns
    -------
    dict
        csv, markdown and report: the paths; report is None without a page

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    table, markdown, index = folder / f"{TABLE}.csv", folder / f"{TABLE}.md", folder / INDEX
    write_atomic(table, _as_csv([row.beside(folder) for row in rows]))
    write_atomic(markdown, _as_markdown([row.without_folders() for row in rows]))
    if plots is not None:
        drawn = _draw(folder, rows, plots)
        write_atomic(index, _as_page(drawn, title, rows, command, pipeline))
    else:
        index.unlink(missing_ok=True)  # of an earlier comparison
        _remove_pictures(folder, but=())
    return {"csv": str(table), "markdown": str(markdown), "report": None if plots is None else str(index)}


def _as_csv(rows: Sequence[Row]) -> str:
    lines = [row.as_json() for row in rows]
    return csv_text([list(lines[0]) if lines else [], *[list(line.values()) for line in lines]])


def _as_markdown(rows: Sequence[Row]) -> str:
    headings, cells = headings_and_cells(rows)
    numbers = {column.heading for column in _COLUMNS if column.number is not None}
    rule = ["---:" if heading in numbers else "---" for heading in headings]
    lines = [headings, rule, *[[text.replace("|", "\\|") for text in line] for line in cells]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _as_page(
    pictures: Sequence[tuple[str, str, Plot]], title: str, rows: Sequence[Row], command: str, pipeline: str
) -> str:
    rows = [row.without_folders() for row in rows]
    constant = [column for column in _shown(rows) if _is_constant(column, rows)]
    faulty = any(row.fault for row in rows)  # that a row is within noise of the best is marked in the first column
    columns = [
        column
        for column in _shown(rows)
        if column not in constant and column.heading != _INTERVAL and (column.heading != _NOTE or faulty)
    ]
    return render(
        "comparison.html",
        title=title,
        chosen_by=chosen_by(rows),
        best=[row for row in rows if row.best],
        ties=sum(bool(row.tie) and not row.best for row in rows),
        failed=sum(row.reason is not None for row in rows),
        count=len(rows),
        constant=[(column.heading, column.text(rows[0])) for column in constant],
        columns=[(column.heading, column.number is not None) for column in columns],
        lines=[(row.best, [_cell(column, row) for column in columns]) for row in rows],
        sections=[(data, [name for name, of, _ in pictures if of == data]) for data in _data(rows)],
        captions={name: picture.alt for name, _, picture in pictures},
        command=command,
        pipeline=pipeline,
        plots={name: picture for name, _, picture in pictures},
    )


def _cell(column: _Column, row: Row) -> tuple[str, float | None, str]:
    """The text of a cell of the page, by which number it is sorted, and what stands below it in small."""
    text = row.fault if column.heading == _NOTE else column.text(row)
    below = _interval(row) if column.heading == _ACCURACY and row.low is not None else ""
    return text, column.number and column.number(row), below


def _data(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.place.data for row in rows))


def _is_constant(column: _Column, rows: Sequence[Row]) -> bool:
    """Whether a column of what was compared is the same in all of several rows, and is better said once."""
    compared = {"data", "backbone", "weights", "size", "layer", "head", "stage", "extract s"}
    return len(rows) > 1 and column.heading in compared and len({column.text(row) for row in rows}) == 1


def _draw(folder: Path, rows: Sequence[Row], plots: PlotFormat) -> list[tuple[str, str, Plot]]:
    """Draw what there is to draw of each data set: (name, data set, picture). Pictures of an earlier page go."""
    found = []
    names = {text for row in rows for text in asdict(row.place).values()}
    with style(names):
        for data in _data(rows):
            own = [row for row in rows if row.place.data == data]
            priced = [row for row in own if row.images_per_second and row.score is not None]
            if len(priced) > 1:
                name = f"cost-{file_name(data)}"
                path = save(tradeoffs.draw_cost(priced), folder / f"{name}.png", plots)
                found.append((name, data, Plot(path, _cost_caption(priced), wide=True, drawn=True)))
            for (backbone, size), some in _by_network(own).items():
                name = f"depth-{file_name(data)}-{file_name(backbone)}-{size}"
                path = save(tradeoffs.draw_depth(some), folder / f"{name}.png", plots)
                found.append((name, data, Plot(path, _depth_caption(backbone, some), wide=True, drawn=True)))
    _remove_pictures(folder, but=[plot.path for _, _, plot in found])
    return found


def _remove_pictures(folder: Path, but: Sequence[Path]) -> None:
    for pattern in _PICTURES:
        for path in set(folder.glob(pattern)) - set(but):
            remove_plot(path)


def _by_network(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The heads of each backbone and input size that has enough layers of known depth."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.place.stage == "head" and row.share is not None and row.test_accuracy is not None:
            found.setdefault((row.place.backbone, row.place.input_size), []).append(row)
    return {network: some for network, some in found.items() if len(tradeoffs.layers_of(some)) >= _LEAST_LAYERS}


def _cost_caption(rows: Sequence[Row]) -> str:
    return (
        f"Score ({chosen_by(rows)}) against the time of a prediction. The line is the Pareto front: nothing else is "
        "both as fast and as good as what is on it."
    )


def _depth_caption(backbone: str, rows: Sequence[Row]) -> str:
    best = max(rows, key=lambda row: row.val_accuracy or row.score or 0.0)
    return (
        f"Accuracy by depth of {backbone}, from its input on the left to its last layer: solid on test, the band its "
        f"95 % interval, dashed on val. The best on val is {best.place.layer} ({best.place.clf}), with a test accuracy "
        f"of {_accuracy(best)}. In percent: the share of the network's multiply-adds up to there."
    )
