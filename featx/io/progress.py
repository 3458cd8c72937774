"""How a stage tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Tell = Callable[[str], None]


class Progress(Protocol):
    """Told the name of a stage, how many are done, how many in all, and counts worth showing."""

    def __call__(self, stage: str, done: int, total: int, /, **counts: int) -> None:
        """Take notice."""


def no_progress(stage: str, done: int, total: int, /, **counts: int) -> None:
    """Say nothing."""


def say_nothing(line: str, /) -> None:
    """Keep a message to oneself."""
