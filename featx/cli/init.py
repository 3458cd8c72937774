"""featx init."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.app import command_line
from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.help import SectionedCommand
from featx.cli.look import NOT_ITS_OPTIONS
from featx.cli.outputs import FORCE_OPTION, require_new
from featx.cli.render import JSON_OPTION, Bars, emit, say
from featx.io.counting import counted

if TYPE_CHECKING:
    from featx.io.jsontypes import Json


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file (default: NAME.yaml, here).")
@FORCE_OPTION
@click.option(
    "--look/--no-look",
    "looks",
    default=True,
    help="Run the network on a sample of up to 500 images for advice on layer, head and fine-tuning, in about a minute "
    "[on].",
)
@section_options("data", "features", "report", without=NOT_ITS_OPTIONS)
@JSON_OPTION
def init(
    data: str | None,
    out: Path | None,
    force: bool,
    looks: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Write a commented pipeline file for a data set, which featx run takes as it is.

    It has what featx look found about layers, head and fine-tuning, and the options that are given here.
    """
    from featx.dataset import read_data
    from featx.extraction.sample import require_fittable
    from featx.first_look.flow import Scope, look
    from featx.first_look.starter import Starter
    from featx.io.context import Context
    from featx.io.files import write_atomic
    from featx.runs.run import Run
    from featx.store.cache import Cache

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    images = read_data(pipeline)
    require_fittable(images)
    out = out or Path(f"{pipeline.report.name or images.name}.yaml")
    require_new(out, force)
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        Run.of(pipeline, images).data.meet(images, cache.index, pipeline)
        if looks:
            say(f"Looking at {counted(len(images), 'image')} (--no-look leaves this out)")
        scope, context = Scope.asked(), Context(command_line(), bars)
        found = look(pipeline, cache, scope=scope, context=context) if looks else None
    write_atomic(out, Starter(images, pipeline, out.stem, _called(out), found).text)
    advice = None if found is None or found.recommendation is None else found.recommendation.advice
    content: dict[str, Json] = {
        "out": str(out),
        "images": len(images),
        "classes": len(images.classes),
        "advice": None if advice is None else advice.as_json(),
        "notes": [] if found is None else list(found.notes),
    }
    lines = [*([] if advice is None else [f"{advice.case}: {advice.summary}"]), f"{out}", f"Next: featx run -p {out}"]
    emit(as_json, content, "\n".join(lines))


def _called(out: Path) -> str:
    """What -p takes for the file: its name alone where it lies here."""
    return out.stem if out.parent == Path() and out.suffix == ".yaml" else str(out)
