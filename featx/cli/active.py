"""featx next and featx enough."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.app import command_line
from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.bundles import take
from featx.cli.complete import complete_model
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, say, table
from featx.io.counting import counted

if TYPE_CHECKING:
    from featx.active.enough import Enough
    from featx.active.next import NextImages

_LISTED = 20  # images, in the terminal


@click.command(cls=SectionedCommand)
@click.argument("pool", required=False)
@click.option(
    "--model",
    metavar="BUNDLE",
    shell_complete=complete_model,
    help="A bundle, a .featx file, a run's folder or name, or a folder of runs (the best is taken).",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the lists (default: RUNS/NAME/next).")
@section_options("data", "features", "next", "report")
@JSON_OPTION
def next(  # noqa: A001 - the command
    pool: str | None,
    model: str | None,
    out: Path | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Rank the images of POOL by what labelling them would bring.

    Without --model by what is typical of the pool and differs; with one also by what the model is unsure of.
    """
    from featx.active.next import choose_next
    from featx.io.context import Context
    from featx.store.cache import Cache

    pipeline = need_data(pipeline_of(pool, pipeline_file, settings, values))
    bundle = None if model is None else take(model, pipeline, "Asking", quiet=as_json)
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        found = choose_next(pipeline, bundle, cache, out, Context(command_line(), bars, say))
    emit(as_json, found.as_json(), _next_text(found))


def _next_text(found: NextImages) -> str:
    rows = [
        (rank, one.path, one.suggestion or "-", one.confidence, one.reason)
        for rank, one in enumerate(found.images[:_LISTED], 1)
    ]
    more = len(found.images) - len(rows)
    parts = [
        bad_images([asdict(one) for one in found.unread]),
        f"{counted(found.pool, 'image')} without a label, compared by {found.output}",
        table(["", "image", "suggestion", "confidence", "why"], rows),
        f"and {more:,} more in the list" if more > 0 else "",
        *found.notes,
        f"list: {found.csv}",
        f"unlike all training images: {found.unknown_csv}" if found.unknown_csv else "",
        f"page: {found.report}" if found.report else "",
    ]
    return "\n".join(part for part in parts if part)


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the files (default: RUNS/NAME/enough).")
@section_options("data", "features", "enough", "report")
@JSON_OPTION
def enough(
    data: str | None,
    out: Path | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Measure how accuracy grows with the number of images of DATA, and forecast what more of them would bring."""
    from featx.active.enough import find_enough
    from featx.io.context import Context
    from featx.store.cache import Cache

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        found = find_enough(pipeline, cache, out, Context(command_line(), bars, say))
    emit(as_json, found.as_json(), enough_text(found))


def enough_text(found: Enough) -> str:
    """What is printed."""
    from featx.metrics.digits import exact_text, outward
    from featx.report.growth import measured_name

    rows = [(one.images, exact_text(one.accuracy, 3), " to ".join(outward(one.interval, 3))) for one in found.curve]
    return "\n".join(
        [
            table(["images", measured_name(found.forecast), "95 % over repeats"], rows),
            f"Now there are {counted(found.now, 'training image')}.",
            *(one.sentence() for one in found.forecast),
            *found.notes,
            f"list: {found.csv}\nplot: {found.plot}",
            *([f"page: {found.report}"] if found.report else []),
        ]
    )
