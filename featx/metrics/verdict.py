"""The outcome of comparing two models: values that a bundle keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

_DEVIATIONS = 1.959964  # of a normal distribution, between which 95 % lie
SURE = 0.05  # a difference with a lower p-value counts as more than noise


@dataclass(frozen=True)
class Difference:
    """Two models by a metric that they were chosen by.

    values : of the first and the second; p_value : of the test that they are equally good, images (or groups) being
    exchanged between them; interval : 95 %, of the first's value less the second's, without 0 where p is below 0.05
    """

    metric: str
    values: tuple[float, float]
    p_value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    images : measured; accuracy : of the first and the second; only : images that only the first, only the second got
    right; p_value : that both are equally often right, by McNemar's exact test, or of groups by exchanging them as
    wholes; interval : 95 %, of the first's accuracy less the second's, with 0 where p is 0.05 or more, and only there
    chosen : the same by the metric that was asked for, where that is not accuracy
    """

    images: int
    accuracy: tuple[float, float]
    only: tuple[int, int]
    p_value: float
    interval: tuple[float, float]
    chosen: Difference | None = field(default=None, metadata={"omitted": True})

    @property
    def judged(self) -> Difference:
        """By the metric that was asked for."""
        return self.chosen or Difference("accuracy", self.accuracy, self.p_value, self.interval)

    @property
    def standard_error(self) -> float:
        """That of the difference by the metric asked for, image by image, and no less than its interval implies."""
        low, high = self.judged.interval
        implied = (high - low) / (2 * _DEVIATIONS)
        if self.chosen is not None:
            return implied
        apart, lead = sum(self.only), self.only[0] - self.only[1]
        return max(implied, sqrt(max(apart - lead**2 / self.images, 0)) / self.images)

    @property
    def verdict(self) -> str:
        """One sentence."""
        from featx.metrics.table import metric_label, signed_score  # of no use to who reads a bundle

        found = self.judged
        by = "" if self.chosen is None else f" in {metric_label(found.metric)}"
        if not found.p_value < SURE:
            return f"The difference{by} is within noise (p = {found.p_value:.2g})."
        first, second = (signed_score(found.metric, value) for value in found.values)
        better = "first" if first > second else "second"
        return f"The {better} is better{by} by more than noise (p = {found.p_value:.2g})."
