"""featx map."""

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
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, say
from featx.io.counting import counted

if TYPE_CHECKING:
    from featx.active.map import FeatureMap


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@click.option(
    "--model",
    metavar="BUNDLE",
    shell_complete=complete_model,
    help="A bundle whose features are shown, and whose answers colour them: its path, a run's folder or name.",
)
@click.option("--out", type=click.Path(path_type=Path), help="File of the page (default: RUNS/NAME/map.html).")
@section_options("data", "features", "map", "report")
@JSON_OPTION
def map(  # noqa: A001 - the command
    data: str | None,
    model: str | None,
    out: Path | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Show the features of DATA in two dimensions, as one page to move, zoom and select in."""
    from featx.active.map import draw_map
    from featx.io.context import Context
    from featx.store.cache import Cache

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    bundle = None if model is None else take(model, pipeline, "Asking", quiet=as_json)
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        found = draw_map(pipeline, bundle, cache, out, Context(command_line(), bars, say))
    emit(as_json, found.as_json(), _text(found))


def _text(found: FeatureMap) -> str:
    parts = [
        bad_images([asdict(one) for one in found.unread]),
        f"{counted(found.points, 'image')} by {found.output}, trustworthiness {found.trustworthiness:.2f}",
        *found.notes,
        f"page: {found.page}",
    ]
    return "\n".join(part for part in parts if part)
