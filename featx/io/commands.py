"""Commands as text that may be passed on: without the folders of the machine on which they were typed."""

from __future__ import annotations

import re
import shlex

_PLACE = re.compile(r"(?:[~/\\]|\.\.?[/\\]|[A-Za-z]:[/\\]).*|[^:]*[/\\]\.\.[/\\].*")


def without_folders(command: str) -> str:
    """A command in which every path that leads out of the current folder is its last part alone.

    Such a path begins at the root, at a home or above the current folder; what stands behind `--option=` is one, too.
    """
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that is never closed: not a command that was typed
        words = command.split()
    return shlex.join(map(_shorten, words)) if any(_shorten(word) != word for word in words) else command


def _shorten(word: str) -> str:
    option, mark, value = word.partition("=") if word.startswith("-") or "=" in word else ("", "", word)
    if _PLACE.fullmatch(value):
        value = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return f"{option}{mark}{value}"
