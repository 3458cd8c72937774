"""Command options, generated from the sections of `featx.config`, and the pipeline that a command line means."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import MISSING, Field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import click

from featx.cli.complete import COMPLETIONS, complete_pipeline
from featx.cli.values import Commas, HeadChoice, MappingText, number
from featx.config import SECTIONS, Keys, Section, help_of, listed_options, types_of
from featx.config.bounds import Hint, origin_of, without_bounds, without_none
from featx.errors import UsageError
from featx.io.urls import is_url

if TYPE_CHECKING:
    from click.core import ParameterSource

    from featx.config import Pipeline

Command = TypeVar("Command", bound=Callable[..., Any])


def section_options(*sections: str, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command every option of these sections but some (`section.key`), and `-p` and `--set`."""
    hidden = {"data.path", "finetune.enabled", "compare.data", *without}

    def decorate(command: Command) -> Command:
        for section in reversed(sections):
            for entry in reversed(listed_options(SECTIONS[section])):
                if f"{section}.{entry.name}" not in hidden:
                    command = section_option(section, entry)(command)
        command = click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set any key of a pipeline, like data.seed=1; may be repeated.",
        )(command)
        return click.option(
            "-p",
            "--pipeline",
            "pipeline_file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            shell_complete=complete_pipeline,
            help="A pipeline file, or the name of one here, in pipelines/, or that comes with featx.",
        )(command)

    return decorate


def section_option(section: str, entry: Field[Any]) -> Callable[[Command], Command]:
    """The option of a section's key, as `<section>__<key>`."""
    options: type[Section] = SECTIONS[section]
    hint = types_of(options)[entry.name]
    flag = "--" + (entry.metadata["flag"] or entry.name).replace("_", "-")
    default = entry.default if entry.default is not MISSING else None
    is_flag = without_none(hint) is bool
    return click.option(
        f"{flag}/--no-{flag[2:]}" if is_flag else flag,
        f"{section}__{entry.name}",
        default=default,
        show_default=default not in (None, (), "") and not is_flag,
        help=help_of(options, entry),
        metavar=None if origin_of(without_none(hint)) is Literal else entry.metadata["metavar"],
        multiple=entry.metadata["repeated"],
        shell_complete=COMPLETIONS.get(f"{section}.{entry.name}"),
        type=_type_of(f"{section}.{entry.name}", hint, entry),
    )


def _type_of(key: str, hint: Hint, entry: Field[Any]) -> Any:
    """What reads the texts of a type."""
    kind = without_bounds(without_none(hint))
    if key == "head.clf":
        return HeadChoice()
    if origin_of(kind) is Literal:
        return click.Choice(get_args(kind))
    if origin_of(kind) is tuple:
        items = get_args(kind)
        item = without_bounds(items[0])
        return item if entry.metadata["repeated"] else Commas(item, 0 if Ellipsis in items else len(items))
    if origin_of(kind) is dict:
        return MappingText(key, str(entry.metadata["metavar"]))
    return number(hint, key) if kind in {int, float} else kind


def pipeline_of(data: str | None, pipeline_file: Path | None, settings: tuple[str, ...], values: Keys) -> Pipeline:
    """The pipeline a command means: its file, or the default one, or the built-in defaults for DATA; then its options.

    values : `<section>__<key>` -> value, as click hands them over; only those that were typed count
    """
    from featx.config.applicable import require_applicable
    from featx.config.pipeline import start_pipeline
    from featx.config.route import keys_of_settings, set_keys

    typed = {
        name.replace("__", ".", 1): value
        for name, value in values.items()
        if name.partition("__")[0] in SECTIONS and was_typed(name)
    }
    more = keys_of_settings(settings)
    found = set_keys(set_keys(start_pipeline(data, pipeline_file), typed), more, "--set")
    context = click.get_current_context(silent=True)
    return require_applicable(found, {**typed, **more}, "" if context is None else str(context.info_name))


def was_typed(name: str) -> bool:
    """Whether an option was given by the user, and is not at its default."""
    source: ParameterSource | None = click.get_current_context().get_parameter_source(name)
    return source is not None and source.name in {"COMMANDLINE", "ENVIRONMENT"}


def need_data(pipeline: Pipeline) -> Pipeline:
    """The pipeline, when it says which images.

    Raises
    ------
    UsageError
        When neither DATA nor `data.path` is there.
    """
    if pipeline.data.path is None:
        raise UsageError("No images: name a folder or CSV, or a pipeline file with data.path (-p FILE).")
    context = click.get_current_context()
    typed = context.params
    if typed.get("data", "") is None and typed.get("pipeline_file") is None and not has_demo(pipeline):
        if any(one.name == "data" and isinstance(one, click.Option) for one in context.command.params):
            raise UsageError("--data is missing: name the folder or CSV of the data set, or a pipeline file with -p.")
        demo = pipeline.data.path
        raise UsageError(
            f"No images are named, and those of the demo, {demo}, are not here. Name a folder or CSV of images, or a "
            f"pipeline file with -p FILE, or write the demo's: featx data digits --out {demo}"
        )
    return pipeline


def has_demo(pipeline: Pipeline) -> bool:
    """Whether the images of the default pipeline are here, if these are the ones that it reads."""
    from featx.config.pipeline import read_default

    demo = read_default().data.path
    return pipeline.data.path != demo or demo is None or is_url(demo) or Path(demo).exists()
