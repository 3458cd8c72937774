"""Whether two models differ by more than noise on the same images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featx.errors import DataError
from featx.metrics.paired import Paired, judge_images, paired_difference
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import metric_form
from featx.metrics.verdict import Comparison, Difference


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
