"""The context of a piece of work: who requested it, and who sees its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featx.io.progress import Progress, no_progress

Notify = Callable[[str], None]


def ignore(line: str, /) -> None:
    """Show a message to nobody."""


@dataclass(frozen=True)
class Context:
    """What goes with a piece of work from the command line, or from Python, down to where it is done.

    command : what was typed or called, which is written down with the result
    progress : called with the name of a stage, how many are done, and how many there are
    notify : called with every sentence that a person at the keyboard should see while the work goes on
    """

    command: str = ""
    progress: Progress = no_progress
    notify: Notify = ignore
