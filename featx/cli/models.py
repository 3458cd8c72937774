"""featx models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import pipeline_of, section_options, was_typed
from featx.cli.bundles import choose
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, emit, table
from featx.io.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featx.io.jsontypes import Json
    from featx.runs.catalogue import Catalogue, ListedModel, PartScore


@click.command(cls=SectionedCommand)
@section_options("report", without=["report.html", "report.keep_paths", "report.plots"])
@JSON_OPTION
def models(pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool, **values: object) -> None:
    """List every model of every run: what it was made of, how good it is, when it was made, how large it is.

    With --name, only those of RUNS/NAME. val and test are the figure that the best of a run is chosen by, with its 95 %
    interval. Commands on a model that name none take the last line's.
    """
    from featx.errors import BundleError
    from featx.runs.catalogue import list_models

    pipeline = pipeline_of(None, pipeline_file, settings, values)
    runs = Path(pipeline.report.runs)
    folder = runs / str(pipeline.report.name) if was_typed("report__name") else runs
    found = list_models(folder)
    try:
        chosen = choose(None, pipeline)
    except BundleError:
        chosen = None
    default = None if chosen is None else str(chosen.path)
    content: dict[str, Json] = {"runs": str(folder), "default": default, **found.as_json()}
    text = _text(found, folder)
    if chosen is not None:
        text += f"\n\nWithout --model, commands take {chosen.path}, {chosen.why}."
    emit(as_json, content, text)


def _text(found: Catalogue, folder: Path) -> str:
    parts = [
        _listed(found.models) if found.models else f"No models in {folder} yet. Make one: featx fit-head DATA",
        "\n".join(f"broken: {one.path}: {one.reason}" for one in found.broken),
    ]
    return "\n\n".join(filter(None, parts))


def _listed(models: Sequence[ListedModel]) -> str:
    headings = ["model", "data", "head", "network", "layer", "metric", "val", "test", "made", "MB", ""]
    return f"{counted(len(models), 'model')}\n" + table(headings, map(_row, models))


def _row(model: ListedModel) -> tuple[object, ...]:
    marks = [name for name, holds in (("best", model.best), ("newest", model.newest)) if holds]
    return (
        model.path,
        model.data,
        model.head,
        model.backbone,
        model.layer,
        model.metric,
        _figure(model.val),
        _figure(model.test),
        model.created.replace("T", " ").rstrip("Z")[:16],
        f"{model.bytes / 1e6:,.1f}",
        ", ".join(marks),
    )


def _figure(figure: PartScore) -> str:
    if figure.value is None:
        return "-"
    from featx.metrics.digits import ends_text, figure_text

    shown = figure_text(figure.value, figure.images or None)
    if figure.interval is None:
        return shown
    return f"{shown} ({ends_text(figure.interval, figure.images or None)})"
