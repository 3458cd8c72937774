"""The settings of a choice: the options, and what the search needs beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from featx.config import HeadOptions
from featx.metrics.predictions import Target
from featx.metrics.scores import resolve_metric
from featx.training.callbacks import Recording


def _show_nothing(line: str) -> None:
    del line


@dataclass(frozen=True)
class SearchSettings:
    """How a head is chosen.

    seed : of folds, and of what heads draw
    show : called with one line per candidate
    without_val : whether `auto` tries heads that stop early also where no val part stops them: by folds alone
    gamma : of a radial kernel, as `KernelSVM` has it
    recording : how heads that are trained epoch by epoch are recorded, and what they are resumed from
    """

    options: HeadOptions = field(default_factory=HeadOptions)
    seed: int = 0
    show: Callable[[str], None] = _show_nothing
    recording: Recording | None = None
    without_val: bool = False
    gamma: float | None = None

    def resolved(self, target: Target) -> SearchSettings:
        """With the metric that `auto` stands for.

        Raises
        ------
        HeadError
            A metric that is not defined for this kind of target.
        """
        return self.changed(metric=resolve_metric(self.options.metric, target))

    def changed(self, **options: object) -> SearchSettings:
        """With other options of these names."""
        return replace(self, options=replace(self.options, **options))  # type: ignore[arg-type]

    def logged(self, folder: str) -> SearchSettings:
        """The settings of one of several fits: what is trained has a folder of its own."""
        return self if self.recording is None else replace(self, recording=self.recording.of(folder))

    def titled(self, title: str) -> SearchSettings:
        """The settings of one of several searches: lines begin with its title."""
        return replace(self, show=lambda line: self.show(f"{title}: {line}"))
