"""featx compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.app import command_line
from featx.cli.arguments import pipeline_of, section_option, section_options
from featx.cli.forecasts import DRY_RUN_OPTION, show_forecast
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, Bars, emit, say, table
from featx.config import SECTIONS, listed_options
from featx.errors import FeatxError
from featx.io.counting import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from featx.comparing.flow import Compared

_GIVEN = ("resize", "crop_share", "interpolation", "preprocessing", "mean", "std", "scale", "channels", "prefix_tokens")


def _preprocessing_options(command: Callable[..., None]) -> Callable[..., None]:
    """What networks are given, of the section features: networks of files and folders may need it to be said."""
    for entry in reversed(listed_options(SECTIONS["features"])):
        if entry.name in _GIVEN:
            command = section_option("features", entry)(command)
    return command


@click.command(cls=SectionedCommand)
@click.argument("data", nargs=-1)
@section_options("compare", "report")
@_preprocessing_options
@DRY_RUN_OPTION
@JSON_OPTION
def compare(
    data: tuple[str, ...],
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **values: object,
) -> None:
    """Run every combination of data sets, backbones, layers, heads and stages, and write one table of them.

    Each is a bundle in RUNS/NAME/<data set>/. What exists already is not run again; what fails is a line of the
    table. The table is printed and written to RUNS/NAME/ as CSV, Markdown and a page with pictures.
    """
    from featx.comparing.flow import compare as run
    from featx.comparing.forecast import forecast_compare
    from featx.io.context import Context
    from featx.store.cache import Cache

    pipeline = pipeline_of(data[0] if data else None, pipeline_file, settings, values)
    if data:
        pipeline = replace(pipeline, compare=replace(pipeline.compare, data=data))
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        context = Context(command_line(), bars, say)
        if dry_run:
            show_forecast(forecast_compare(pipeline, cache, context), as_json)
            return
        done = run(pipeline, cache, context)
    sentence = f"{len(done.failed)} of {counted(len(done.rows), 'combination')} failed; the table says why."
    emit(as_json, done.as_json(), _text(done), FeatxError(sentence) if done.failed else None)


def _text(done: Compared) -> str:
    from featx.report.comparison import chosen_by, headings_and_cells

    score = chosen_by(done.rows)
    lines = [
        table(*headings_and_cells(done.rows)),
        f"score: {score}; * marks the best of each data set by it, = what is within noise of it" if score else "",
        *[f"best of {row.place.data}: {row.bundle}" for row in done.rows if row.best],
        *[f"{name}: {path}" for name, path in done.files.items() if path],
    ]
    return "\n".join(line for line in lines if line)
