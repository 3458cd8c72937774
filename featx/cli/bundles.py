"""What the commands on a bundle share: which one, and views to average over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import pipeline_of, was_typed
from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.bundle.bundle import Bundle
    from featx.config import Pipeline
    from featx.inference.predict import Average

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _allow_modules(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:  # noqa: ARG001 - click's
    if names:
        from featx.backbones.custom import custom_modules

        custom_modules().allow(names)


IMPORT_OPTION = click.option(
    "--import",
    metavar="MODULE",
    multiple=True,
    expose_value=False,
    callback=_allow_modules,
    help="A Python module that defines custom layers of the bundle's network; may be repeated. Its code is executed.",
)
TTA_OPTION = click.option(
    "--tta",
    type=click.IntRange(min=0),
    default=0,
    help="Number of augmented versions of each image to average its prediction over, by the bundle's augmentation or "
    "the options given here.",
)


def average_of(
    bundle: Bundle, tta: int, pipeline_file: Path | None, settings: tuple[str, ...], values: Mapping[str, object]
) -> Average | None:
    """What is averaged over; a default pipeline file says nothing of it."""
    from featx.inference.predict import Average

    policy = [name for name in values if name.startswith("augment__") and was_typed(name)]
    if not (tta or policy or pipeline_file or settings):
        return None
    said = pipeline_of("", pipeline_file, settings, {k: v for k, v in values.items() if k.startswith("augment__")})
    if tta:
        return Average.of_bundle(bundle, tta, said.augment, said.data.seed)
    if said.augment.operations and pipeline_file is None:
        raise UsageError(f"{', '.join(said.augment.operations)}: views are averaged with --tta N. Add --tta 5.")
    return None


def find(where: str | None, pipeline: Pipeline) -> Path:
    """The bundle that a command works on: the one named, or the best of the run."""
    from featx.runs.run import find_bundle

    name = pipeline.report.name or Path(pipeline.data.path or "default").stem
    return find_bundle(where, Path(pipeline.report.runs), name)
