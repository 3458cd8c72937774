"""Whether two models differ by more than noise on the same images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from featx.errors import DataError
from featx.metrics.paired import SURE, Paired, judge_images, paired_difference
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import metric_form, metric_label, signed_score

__all__ = ["SURE", "Comparison", "Difference", "compare", "compare_predictions", "require_comparable"]


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
    def verdict(self) -> str:
        """One sentence."""
        found = self.judged
        by = "" if self.chosen is None else f" in {metric_label(found.metric)}"
        if not found.p_value < SURE:
            return f"The difference{by} is within noise (p = {found.p_value:.2g})."
        first, second = (signed_score(found.metric, value) for value in found.values)
        better = "first" if first > second else "second"
        return f"The {better} is better{by} by more than noise (p = {found.p_value:.2g})."


def compare(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> Comparison:
    """Compare two models by what they got right of the same images: bool (n,) each (McNemar 1947, the exact form)."""
    only = int((first & ~second).sum()), int((second & ~first).sum())
    found = judge_images(first, second, groups) if len(first) else Paired(1.0, (0.0, 0.0))
    accuracy = (float(first.mean()), float(second.mean())) if len(first) else (np.nan, np.nan)
    return Comparison(len(first), accuracy, only, found.p_value, found.interval)


def compare_predictions(
    first: LabelledPredictions, second: LabelledPredictions, metric: str = "accuracy"
) -> Comparison:
    """Compare two models by the images that both were measured on, found again by their paths.

    An image counts as right when its class is, or, of several labels, when all of them are.

    Raises
    ------
    DataError
        One predicts several labels per image and the other does not.
    """
    require_comparable(first.target == "labels", second.target == "labels")
    where = {path: row for row, path in enumerate(second.paths)}
    rows = [row for row, path in enumerate(first.paths) if path in where]
    one, other = (
        first.take(np.array(rows, np.int64)),
        second.take(np.array([where[first.paths[row]] for row in rows], np.int64)),
    )
    found = compare(one.correct, other.correct, one.groups)
    return found if metric == "accuracy" else replace(found, chosen=_difference(one, other, metric))


def _difference(first: LabelledPredictions, second: LabelledPredictions, metric: str) -> Difference | None:
    """By another metric; None where it is not defined for both."""
    form = metric_form(metric, first.target)
    if form is None or not len(first):
        return None
    values = form.compute(first), form.compute(second)
    found = paired_difference(form, first, second)
    if found is None or values[0] is None or values[1] is None:
        return None
    return Difference(metric, (values[0], values[1]), found.p_value, found.interval)


def require_comparable(first_multilabel: bool, second_multilabel: bool) -> None:
    """Raise DataError when one of two models gives several labels per image and the other does not."""
    if first_multilabel != second_multilabel:
        which = "first" if first_multilabel else "second"
        raise DataError(f"The {which} of the two bundles gives several labels per image and the other one class.")
