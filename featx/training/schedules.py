"""Decisions between two epochs: the learning rate, the best epoch, when to stop.

All are functions of the epochs so far, so that a training that was interrupted decides as it would have. The rules are
those of Keras (PiecewiseConstantDecay, CosineDecay, ExponentialDecay, ReduceLROnPlateau, EarlyStopping), with an epoch
for a step; the warm-up is Goyal et al. (2017), by epochs.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from featx.config import Monitor, ScheduleKind, TrainingOptions
from featx.training.log import Epoch


@dataclass(frozen=True)
class Watch:
    """What is watched from epoch to epoch, and what counts as better.

    Without validation rows, loss or accuracy in training is watched instead.
    """

    monitor: Monitor
    min_delta: float = 0.0

    def values(self, epochs: Sequence[Epoch]) -> list[float]:
        """Return what is watched of every epoch, such that less is better."""
        sign = 1.0 if self.monitor == "val_loss" else -1.0
        name: str = self.monitor
        if any(getattr(epoch, name) is None for epoch in epochs):
            name = name.removeprefix("val_")
        return [sign * getattr(epoch, name) for epoch in epochs]

    def improves(self, value: float, other: float) -> bool:
        """Whether a watched value is better than another by more than `min_delta`."""
        return value + self.min_delta < other

    def bound(self, baseline: float) -> float:
        """Return a baseline as `values` has it."""
        return baseline if self.monitor == "val_loss" else -baseline


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every epoch. The fields are the options of the same names.

    The rate holds for an epoch. Epochs are counted from 0, as Keras counts steps: a rate of piecewise holds up to its
    boundary, that epoch among them, and cosine reaches its least rate one epoch after the last. Cosine and exponential
    begin after the warm-up; boundaries count from the first epoch.
    """

    kind: ScheduleKind
    learning_rate: float
    epochs: int
    watch: Watch
    boundaries: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    decay: float = 1.0
    factor: float = 1.0
    plateau_patience: int = 1
    least_rate: float = 0.0
    warmup: int = 0

    @classmethod
    def of(cls, options: TrainingOptions) -> Self:
        """Return the schedule of the options."""
        return cls(
            options.schedule,
            options.learning_rate,
            options.epochs,
            Watch(options.monitor, options.min_delta),
            tuple(options.boundaries),
            tuple(options.rates),
            options.decay,
            options.factor,
            options.plateau_patience,
            options.least_rate,
            options.warmup,
        )

    def rate(self, epochs: Sequence[Epoch]) -> float:
        """Return the learning rate of the epoch that follows these."""
        return self._scheduled(epochs) * min(1.0, (len(epochs) + 1) / (self.warmup + 1))

    def _scheduled(self, epochs: Sequence[Epoch]) -> float:
        epoch = len(epochs)
        decayed = max(0, epoch - self.warmup)
        if self.kind == "piecewise":
            return self.rates[bisect_left(self.boundaries, epoch)]
        if self.kind == "cosine":
            share = decayed / max(1, self.epochs - self.warmup)
            return self.least_rate + (self.learning_rate - self.least_rate) * (1 + math.cos(math.pi * share)) / 2
        if self.kind == "exponential":
            return max(self.learning_rate * self.decay**decayed, self.least_rate)
        if self.kind == "plateau":
            return self._after_plateaus(self.watch.values(epochs))
        return self.learning_rate

    def _after_plateaus(self, values: Sequence[float]) -> float:
        rate, best, wait = self.learning_rate, math.inf, 0
        for value in values:
            wait += 1
            if self.watch.improves(value, best):
                best, wait = value, 0
            elif wait >= self.plateau_patience:
                rate, wait = max(rate * self.factor, self.least_rate), 0
        return rate


@dataclass(frozen=True)
class Stopping:
    """When training is over, and which of its epochs is kept. The fields are the options of the same names."""

    watch: Watch
    epochs: int
    patience: int
    baseline: float | None = None
    stop_accuracy: float | None = None
    stop_val_accuracy: float | None = None

    @classmethod
    def of(cls, options: TrainingOptions) -> Self:
        """Return the rules of the options."""
        return cls(
            Watch(options.monitor, options.min_delta),
            options.epochs,
            options.patience,
            options.baseline,
            options.stop_accuracy,
            options.stop_val_accuracy,
        )

    def is_over(self, epochs: Sequence[Epoch]) -> bool:
        """Whether no epoch should follow these."""
        return len(epochs) >= self.epochs or self._reached(epochs) or self._stalled(epochs)

    def best(self, epochs: Sequence[Epoch]) -> int:
        """Return the number, from 1 on, of the best epoch: of equal ones the lower val loss, then the first.

        Without validation rows it is the last one, which has learned most. 0 where there are no epochs.
        """
        losses = [epoch.val_loss for epoch in epochs if epoch.val_loss is not None]
        if not losses:
            return len(epochs)
        return 1 + min(range(len(losses)), key=list(zip(self.watch.values(epochs), losses, strict=True)).__getitem__)

    def _reached(self, epochs: Sequence[Epoch]) -> bool:
        if not epochs:
            return False
        last = epochs[-1]
        goals = ((last.accuracy, self.stop_accuracy), (last.val_accuracy, self.stop_val_accuracy))
        wanted = [(value, goal) for value, goal in goals if goal is not None]
        return bool(wanted) and all(value is not None and value >= goal for value, goal in wanted)

    def _stalled(self, epochs: Sequence[Epoch]) -> bool:
        if not epochs or epochs[-1].val_loss is None:
            return False
        bound = math.inf if self.baseline is None else self.watch.bound(self.baseline)
        best, wait, stalled = math.inf, 0, False
        for value in self.watch.values(epochs):
            wait += 1
            stalled = False
            if self.watch.improves(value, best):
                best, wait = value, 0 if self.watch.improves(value, bound) else wait
            else:
                stalled = wait >= self.patience
        return stalled
