"""A pipeline as command-line options: what to type to get the same one."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any

from featx.config.bounds import without_none
from featx.config.option import types_of
from featx.config.pipeline import start_pipeline
from featx.config.sections import Pipeline
from featx.config.table import SECTIONS, listed_options
from featx.errors import UsageError

_NEVER = frozenset({"data.path", "report.html"})
_MAKING = frozenset({"run", "fit-head", "finetune", "baseline"})
_SWITCHES = frozenset({"--json", "--dry-run"})  # of commands that make a model, beside the options of sections
_VALUED = frozenset({"-p", "--pipeline", "--set", "--from"})


def typed_arguments(
    pipeline: Pipeline, data: str | None, file: Path | None, sections: Sequence[str], without: Collection[str] = ()
) -> str:
    """Data, pipeline file and the options of some sections that differ from what these mean.

    without : options, as `section.key`, that are left out
    """
    start = start_pipeline(data, file)
    words = [data] if data is not None else []
    words += ["-p", str(file)] if file is not None else []
    for section in sections:
        before, now = getattr(start, section), getattr(pipeline, section)
        for entry in listed_options(type(now)):
            value = getattr(now, entry.name)
            if value != getattr(before, entry.name) and f"{section}.{entry.name}" not in {*_NEVER, *without}:
                words += _option(entry, value)
    return shlex.join(words)


def arguments_again(
    command: str, sections: Sequence[str], without: Collection[str] = ()
) -> tuple[str | None, list[str]] | None:
    """The data of a typed command that makes a model and, as words, its pipeline file and options of some sections.

    without : options, as `section.key`, that are left out

    Returns None where it is another command, or has an option that is not known.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if words[:1] != ["featx"] or len(words) < 2 or words[1] not in _MAKING:
        return None
    keys, found, rest = _keys_by_flag([*sections, *({"baseline"} & {words[1]})]), list[str](), iter(words[2:])
    data = None
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            data = word
            continue
        if name not in keys and name not in {*_VALUED, *_SWITCHES}:
            return None
        some, key = [word], keys.get(name, "")
        if not equals and (name in _VALUED or (key and not _is_flag(key))):
            value = next(rest, "")
            some.append(value)
        key = value.partition("=")[0].strip() if name == "--set" else key
        if name in {*_SWITCHES, "--from"} or (key and (key.partition(".")[0] not in sections or key in without)):
            continue
        found += some
    return data, found


def _keys_by_flag(sections: Sequence[str]) -> dict[str, str]:
    """`--flag` -> `section.key`; of a flag that several sections share, that of these."""
    found: dict[str, str] = {}
    for section in (*(one for one in SECTIONS if one not in sections), *sections):
        for entry in listed_options(SECTIONS[section]):
            key, flag = f"{section}.{entry.name}", (entry.metadata["flag"] or entry.name).replace("_", "-")
            found |= {f"--{flag}": key} | ({f"--no-{flag}": key} if _is_flag(key) else {})
    return found


def _is_flag(key: str) -> bool:
    """Whether an option stands alone, without a value."""
    section, _, name = key.partition(".")
    return without_none(types_of(SECTIONS[section])[name]) is bool


def file_of(command: str) -> Path | None:
    """The pipeline file that a typed command names; None where it names none that can still be read."""
    try:
        words = shlex.split(command)
    except ValueError:  # not a command that was typed
        return None
    for word, following in zip(words, [*words[1:], ""][: len(words)], strict=True):
        name, _, value = word.partition("=")
        path = Path(following if word in {"-p", "--pipeline"} else value if name == "--pipeline" else "")
        if path.name and _can_be_read(path):
            return path
    return None


def _can_be_read(path: Path) -> bool:
    try:
        start_pipeline(None, path)
    except UsageError:
        return False
    return True


def _option(entry: Field[Any], value: object) -> list[str]:
    """An option with its value, as click reads them; nothing for the lack of a value, which cannot be typed."""
    flag = "--" + (entry.metadata["flag"] or entry.name).replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, tuple) and entry.metadata["repeated"]:
        return [word for one in value for word in (flag, str(one))]
    return [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
