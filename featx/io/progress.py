"""How a stage reports its progress without knowing who watches."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the name of a stage, how many are done, how many there are, and counts worth showing."""

    def __call__(self, stage: str, done: int, total: int, /, **counts: int) -> None:
        """Take notice."""


def no_progress(stage: str, done: int, total: int, /, **counts: int) -> None:
    """Show nothing."""
