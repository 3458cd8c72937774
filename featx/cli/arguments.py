"""click options made from the dataclasses of `featx.config`, and the pipeline that a command line means."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import MISSING
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from featx.config import SECTIONS, Pipeline, help_of, listed_options
from featx.errors import UsageError

if TYPE_CHECKING:
    from click.core import ParameterSource

_KINDS = {str: "texts", float: "numbers", int: "whole numbers"}
Command = TypeVar("Command", bound=Callable[..., Any])


class _Commas(click.ParamType[Any]):
    """Values separated by commas: `count` of them, 0 for any number."""

    name = "list"

    def __init__(self, kind: type, count: int = 0) -> None:
        self._kind, self._count = kind, count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            values = tuple(self._kind(part.strip()) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of {_KINDS[self._kind]} separated by commas", param, ctx)
        if self._count and len(values) != self._count:
            self.fail(f"{value!r} has {len(values)} values, and it takes {self._count} separated by commas", param, ctx)
        return values


class _Mapping(click.ParamType[Any]):
    """A mapping written as in a pipeline file: `{shrinkage: [0.1, 0.9]}`."""

    name = "mapping"

    def __init__(self, flag: str, example: str) -> None:
        self._flag, self._example = flag, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from featx.config.pipeline import parse_value

        found = parse_value(value, self._flag) if isinstance(value, str) else value
        if not isinstance(found, dict):
            self.fail(f"{value!r} is not a mapping like {self._example}", param, ctx)
        return found


def section_options(*sections: str, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command every option of these sections but some (`section.key`), and `-p` and `--set`."""
    hidden = {"data.path", "finetune.enabled", "compare.data", *without}

    def decorate(command: Command) -> Command:
        for section in reversed(sections):
            hints = get_type_hints(SECTIONS[section])
            for entry in reversed(listed_options(SECTIONS[section])):
                if f"{section}.{entry.name}" not in hidden:
                    command = _option(section, entry, hints[entry.name])(command)
        command = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override any key.")(
            command
        )
        return click.option(
            "-p",
            "--pipeline",
            "pipeline_file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="A pipeline file.",
        )(command)

    return decorate


def _option(section: str, entry: Any, hint: Any) -> Callable[[Command], Command]:
    flag = "--" + entry.name.replace("_", "-")
    default = entry.default if entry.default is not MISSING else None
    arguments: dict[str, Any] = {
        "help": help_of(SECTIONS[section], entry),
        "metavar": entry.metadata["metavar"],
    }
    kind = _without_none(hint)
    if kind is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    elif get_origin(kind) is Literal:
        arguments |= {"type": click.Choice(get_args(kind)), "metavar": None}
    elif get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if entry.name in {"layer", "pooling"}:
            arguments |= {"type": item, "multiple": True}
        else:
            items = get_args(kind)
            arguments |= {"type": _Commas(item, 0 if Ellipsis in items else len(items))}
    elif get_origin(kind) is dict:
        arguments |= {"type": _Mapping(flag, str(entry.metadata["metavar"]))}
    else:
        arguments |= {"type": kind}
    shown = default not in (None, (), "") and kind is not bool
    return click.option(flag, f"{section}__{entry.name}", default=default, show_default=shown, **arguments)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return next(kind for kind in get_args(hint) if kind is not NoneType)
    return hint


def pipeline_of(
    data: str | None, pipeline_file: Path | None, settings: tuple[str, ...], values: dict[str, Any]
) -> Pipeline:
    """The pipeline a command means: its file, or the default one, or the built-in defaults for DATA; then its options.

    values : `<section>__<key>` -> value, as click hands them over; only those that were typed count
    """
    from featx.config.pipeline import apply_settings, override, start_pipeline

    pipeline = start_pipeline(data, pipeline_file)
    for section in SECTIONS:
        typed = {
            name.removeprefix(f"{section}__"): value
            for name, value in values.items()
            if name.startswith(f"{section}__") and _was_typed(name)
        }
        pipeline = override(pipeline, section, typed)
    return apply_settings(pipeline, settings)


def _was_typed(name: str) -> bool:
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
    return pipeline
