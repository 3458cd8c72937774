"""featx baseline."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import click

from featx.cli.app import command_line
from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, Bars, say
from featx.cli.stages import show_bundle, verdict_after
from featx.config import FeaturesOptions

_OF_IMAGES = {"resize", "levels", "engine", "workers", "cache"}  # what a baseline takes of the features section
_OTHERS = [f"features.{entry.name}" for entry in fields(FeaturesOptions) if entry.name not in _OF_IMAGES]


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@section_options("data", "baseline", "augment", "features", "report", "tracking", without=_OTHERS)
@JSON_OPTION
def baseline(
    data: str | None, pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool, **values: object
) -> None:
    """Train a small network from scratch on the images and the split of a run, to see how much its backbone helps.

    No features are needed. The result is one more bundle of the run; the report of the run's best head includes it.
    """
    from featx.io.context import Context
    from featx.store.cache import Cache
    from featx.workflow.publish import publish_baseline

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        bundle, trained = publish_baseline(pipeline, cache, Context(command_line(), bars, say))
    for note in trained.intake.sample.images.notes:
        say(note)
    show_bundle(bundle, trained.intake.bad, as_json, verdict_after(trained, bundle, pipeline))
