"""Options as they are typed: what a command has to be given to mean the same pipeline as another one."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any

from featx.config.pipeline import start_pipeline
from featx.config.sections import Pipeline
from featx.config.table import listed_options
from featx.errors import UsageError

_NEVER = frozenset({"data.path", "report.html"})


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
