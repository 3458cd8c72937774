"""Shared by the commands that use a bundle: which one, and views to average over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import pipeline_of, was_typed
from featx.cli.complete import complete_model
from featx.cli.render import say
from featx.cli.values import number
from featx.config.bounds import Coverage
from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.bundle.bundle import Bundle
    from featx.config import Pipeline
    from featx.inference.predict import Average
    from featx.runs.choosing import ChosenBundle

_TYPED = "featx.model"  # what --model was given, in the context of a command that takes the model as an argument


def _allow_modules(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:  # noqa: ARG001 - click's
    if names:
        from featx.io.modules import named_modules

        named_modules().allow(names)


IMPORT_OPTION = click.option(
    "--import",
    metavar="MODULE",
    multiple=True,
    expose_value=False,
    callback=_allow_modules,
    help="A Python module that defines layers of the bundle's network, or the classes of its head; may be repeated. "
    "Its code is executed.",
)
_WHICH = "A bundle, a .featx file, a run's folder or name, or a folder of runs (default: the best; see featx models)."
MODEL_OPTION = click.option("--model", metavar="BUNDLE", help=_WHICH, shell_complete=complete_model)


def _keep_model(context: click.Context, parameter: click.Parameter, name: str | None) -> None:  # noqa: ARG001 - click's
    context.meta[_TYPED] = name


MODEL_TOO = click.option(
    "--model",
    "named",
    metavar="BUNDLE",
    expose_value=False,
    callback=_keep_model,
    help=_WHICH,
    shell_complete=complete_model,
)
"""For commands that take the bundle as an argument: the option by which the others name it"""
TTA_OPTION = click.option(
    "--tta",
    type=click.IntRange(min=0),
    default=0,
    help="Number of augmented versions of each image to average its prediction over, by the bundle's augmentation or "
    "the options given here.",
)
COVERAGE_OPTION = click.option(
    "--coverage",
    type=number(Coverage),
    help="Give each image a set of classes that contains the true one in this share of images, like 0.9.",
)
PER_CLASS_OPTION = click.option("--per-class", is_flag=True, help="Make the share of --coverage hold for each class.")


def require_coverage(coverage: float | None, per_class: bool) -> None:
    """Refuse `--per-class` without what it refines."""
    if per_class and coverage is None:
        raise UsageError("--per-class goes with --coverage: add --coverage 0.9.")


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


def take(where: str | None, pipeline: Pipeline, doing: str, *, quiet: bool = False) -> Bundle:
    """Load the bundle that a command works on: the one named, or the best there is; and show which one that is.

    where : as it was named; doing : what is shown before its path, as in "Predicting with"
    quiet : whether it is shown only where it was not named
    """
    from featx.bundle.bundle import load_bundle

    chosen = choose(where, pipeline)
    bundle = load_bundle(chosen.path)
    if chosen.why or not quiet:
        say(f"{doing} {bundle.shown}{describe_choice(chosen)}")
    return bundle


def choose(where: str | None, pipeline: Pipeline) -> ChosenBundle:
    """The path of the bundle that a command works on, and why it is that one."""
    from featx.runs.choosing import choose_bundle

    _allow(pipeline)
    where = _one_of(where, click.get_current_context().meta.get(_TYPED))
    name = pipeline.report.name or Path(pipeline.data.path or "default").stem
    return choose_bundle(where, Path(pipeline.report.runs), name, only=_names_a_run(pipeline))


def _names_a_run(pipeline: Pipeline) -> bool:
    """Whether the user has named the run whose models are meant, by --name or a pipeline file: no other will do."""
    if was_typed("report__name"):
        return True
    file = click.get_current_context().params.get("pipeline_file")  # a run is called as it is, unless it says more
    return file is not None and (pipeline.data.path is not None or pipeline.report.name != Path(file).stem)


def _allow(pipeline: Pipeline) -> None:
    """Let modules be imported that the options or the pipeline file name, those of its head among them."""
    from featx.io.modules import named_modules

    named_modules().allow(pipeline.features.imports)
    if pipeline.head.estimator:
        named_modules().allow(pipeline.head.estimator.partition(".")[0])


def describe_choice(chosen: ChosenBundle) -> str:
    """What follows the path of a bundle that was not named itself: why it is this one, and how to name another."""
    if not chosen.why:
        return ""
    return f", {chosen.why}. For another one: --model NAME; featx models lists them."


def _one_of(argument: str | None, option: str | None) -> str | None:
    if argument is not None and option is not None and argument != option:
        raise UsageError(f"Two models are named, {argument} and --model {option}. Name one.")
    return argument if option is None else option
