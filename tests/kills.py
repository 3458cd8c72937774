"""What a kill leaves of a training: its files at one moment, copied while it goes on to its end."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from featx.io.context import Context


@dataclass(frozen=True)
class Kill:
    """A moment at which the folder of a run is copied, as a process that was killed then would have left it.

    The run goes on undisturbed, so one training gives both what is to come out and what is gone on from.

    run, left : the folder, and its copy; stage, done : how far its progress is at that moment
    """

    run: Path
    left: Path
    stage: str
    done: int = 0

    @property
    def context(self) -> Context:
        """What the run is given."""
        return Context(progress=self._progress)

    def _progress(self, stage: str, done: int, total: int, /, **counts: int) -> None:
        if stage == self.stage and done > self.done and not self.left.exists():
            shutil.copytree(self.run, self.left)
            assert not list(self.left.glob("[0-9]*")), "it was over already"
