"""The scores of a report: overall and per class, on one part of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featx.metrics.measures import Measures, measure
from featx.metrics.predictions import LabelledPredictions, indicators
from featx.metrics.reliability import Reliability, reliability
from featx.metrics.shares import Interval
from featx.metrics.table import shown_keys
from featx.report.curves import Curves, precision_recall_curves, roc_curves

_MOST_VALUES = 5_000_000  # probabilities that curves are made of; sorting more takes seconds

ClassCell = str | float | None
ClassRow = Mapping[str, ClassCell]
"""label, images, precision, recall, f1, roc_auc, average_precision, and the threshold of a multi-label model"""


@dataclass(frozen=True)
class Scores:
    """The numbers of one part.

    metrics : key -> value, None where it is not defined; intervals : key -> (low, high) of those that have one
    classes : a row of values per class
    confusion : int64 (classes, classes), rows are the truth; None for a multi-label set
    tables : int64 (classes, 2, 2) of a multi-label set, else None; rows: the label is not there, is there; columns: it
        is not given, is given
    roc, precision_recall : None where they are not defined; sampled : images that they were made of
    groups : that the intervals take as wholes, None where all images are independent
    cautions : sentences on intervals that are too narrow
    class_intervals : of each class, metric -> (low, high) of precision and recall where they are defined
    error_by_chance : 95 % of the calibration errors where every confidence is true
    """

    part: str
    images: int
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    classes: Sequence[ClassRow]
    confusion: np.ndarray | None
    tables: np.ndarray | None
    reliability: Reliability
    roc: Curves | None
    precision_recall: Curves | None
    sampled: int
    groups: int | None = None
    cautions: Sequence[str] = ()
    error_by_chance: Interval | None = None
    class_intervals: Sequence[Mapping[str, Interval | None]] = ()


def score_part(predictions: LabelledPredictions, *, curves: bool = True) -> Scores:
    """Compute the numbers of one part, which must have an image; `curves` only where they are shown."""
    rows = _sample(*predictions.probabilities.shape)
    roc = precision_recall = None
    if curves:
        truth, probabilities = indicators(predictions)[rows], predictions.probabilities[rows]
        roc = roc_curves(truth, probabilities, predictions.classes)
        precision_recall = precision_recall_curves(truth, probabilities, predictions.classes)
    found, several = measure(predictions), predictions.target == "labels"
    return Scores(
        part=predictions.part,
        images=found.images,
        metrics={key: found.values[key] for key in shown_keys(found.target)},
        intervals={key: both for key, both in found.intervals.items() if both is not None},
        classes=_class_rows(predictions, found, roc, precision_recall),
        confusion=None if several else found.confusion,
        tables=found.confusion if several else None,
        reliability=reliability(predictions.labels, predictions.probabilities, predicted=predictions.predicted),
        roc=roc,
        precision_recall=precision_recall,
        sampled=len(rows),
        groups=found.groups,
        cautions=found.cautions,
        error_by_chance=found.error_by_chance,
        class_intervals=[one.intervals for one in found.per_class],
    )


def _sample(n: int, k: int) -> np.ndarray:
    """Rows that curves are made of: all of them, or a seeded sample of what is too many."""
    most = max(1, _MOST_VALUES // max(k, 1))
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def _class_rows(
    predictions: LabelledPredictions, found: Measures, roc: Curves | None, precision_recall: Curves | None
) -> list[ClassRow]:
    """What was measured of each class; the areas of one class per image are those of its curves."""
    roc_auc = roc.areas() if roc else {}
    average_precision = precision_recall.areas() if precision_recall else {}
    rows: list[ClassRow] = [
        {
            "roc_auc": roc_auc.get(one.label),
            "average_precision": average_precision.get(one.label),
            "label": one.label,
            **one.values,
            "images": one.images,
        }
        for one in found.per_class
    ]
    if found.target == "class":
        return rows
    k = len(rows)
    thresholds = np.broadcast_to(0.5 if predictions.thresholds is None else predictions.thresholds, k)
    return [{**row, "threshold": float(threshold)} for row, threshold in zip(rows, thresholds, strict=True)]
