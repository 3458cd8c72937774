"""The numbers of a report: how right a model is on one part of the data, in all and class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.inference.judge import Judged
from featx.metrics.measures import measure, measure_labels
from featx.metrics.reliability import Reliability, reliability
from featx.report.curves import Curves, precision_recall_curves, roc_curves

_MOST_VALUES = 5_000_000  # probabilities that curves are made of; sorting more takes seconds

# of several labels per image, in the order they are told
_LABEL_METRICS = (
    *("exact_match", "f1_samples", "f1_micro", "f1_macro", "roc_auc_macro", "average_precision_macro"),
    *("log_loss", "expected_calibration_error"),
)
_LABELS = {
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "f1_micro": "micro F1",
    "f1_macro": "macro F1",
    "f1_samples": "F1 by image",
    "top5_accuracy": "top-5 accuracy",
    "roc_auc_macro": "macro ROC AUC",
    "average_precision_macro": "mean average precision",
    "expected_calibration_error": "calibration error",
}


def metric_label(name: str) -> str:
    """A metric's name as people read it."""
    return _LABELS.get(name, name.replace("_", " "))


@dataclass(frozen=True)
class Scores:
    """The numbers of one part.

    metrics : name -> value, None where it is not defined; intervals : name -> (low, high) of those that have one
    classes : a row of values per class: label, images, precision, recall, f1, roc_auc, average_precision, and the
        threshold of a multi-label model
    confusion : int64 (classes, classes), rows are the truth; None for a multi-label set
    tables : int64 (classes, 2, 2) of a multi-label set, else None; rows: the label is not there, is there; columns: it
        is not given, is given
    roc, precision_recall : None where they are not defined; sampled : images that they were made of
    """

    part: str
    images: int
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]
    classes: Sequence[Mapping[str, Any]]
    confusion: np.ndarray | None
    tables: np.ndarray | None
    reliability: Reliability
    roc: Curves | None
    precision_recall: Curves | None
    sampled: int


def score_part(judged: Judged, *, curves: bool = True) -> Scores:
    """Compute the numbers of one part, which must have an image; `curves` only where they are shown."""
    rows = _sample(*judged.probabilities.shape)
    roc = precision_recall = None
    if curves:
        truth, chances = indicators(judged)[rows], judged.probabilities[rows]
        roc = roc_curves(truth, chances, judged.classes)
        precision_recall = precision_recall_curves(truth, chances, judged.classes)
    found = _measure_multilabel(judged) if is_multilabel(judged) else _measure(judged)
    roc_auc = roc.areas() if roc else {}
    average_precision = precision_recall.areas() if precision_recall else {}
    return Scores(
        part=judged.part,
        images=len(judged.labels),
        metrics=found["metrics"],
        intervals=found["intervals"],
        classes=[
            {"roc_auc": roc_auc.get(row["label"]), "average_precision": average_precision.get(row["label"])} | row
            for row in found["classes"]
        ],
        confusion=found["confusion"],
        tables=found["tables"],
        reliability=reliability(judged.labels, judged.probabilities),
        roc=roc,
        precision_recall=precision_recall,
        sampled=len(rows),
    )


def is_multilabel(judged: Judged) -> bool:
    """Whether an image can have several labels."""
    return judged.labels.ndim == 2


def indicators(judged: Judged) -> np.ndarray:
    """Whether an image is of a class that the model knows, bool (n, k)."""
    if is_multilabel(judged):
        return judged.labels.astype(bool)
    return np.asarray(judged.labels[:, None] == np.arange(judged.probabilities.shape[1]))


def decide(judged: Judged) -> np.ndarray:
    """The classes that a multi-label model assigns, bool (n, k): from their threshold on."""
    return np.asarray(judged.probabilities >= thresholds_of(judged))


def thresholds_of(judged: Judged) -> np.ndarray:
    """float64 (k,), 0.5 where the model has none."""
    return np.full(judged.probabilities.shape[1], 0.5) if judged.thresholds is None else judged.thresholds


def _sample(n: int, k: int) -> np.ndarray:
    """Rows that curves are made of: all of them, or a seeded sample of what is too many."""
    most = max(1, _MOST_VALUES // max(k, 1))
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def _measure(judged: Judged) -> dict[str, Any]:
    found = measure(judged.labels, judged.probabilities, judged.classes)
    tables = {"images", "intervals", "per_class", "confusion"}
    return {
        "metrics": {name: value for name, value in found.items() if name not in tables},
        "intervals": {name: (both[0], both[1]) for name, both in found["intervals"].items() if both is not None},
        "classes": found["per_class"],
        "confusion": np.array(found["confusion"]),
        "tables": None,
    }


def _measure_multilabel(judged: Judged) -> dict[str, Any]:
    found = measure_labels(indicators(judged), judged.probabilities, judged.classes, decide(judged))
    return {
        "metrics": {name: found[name] for name in _LABEL_METRICS},
        "intervals": {name: (both[0], both[1]) for name, both in found["intervals"].items() if both is not None},
        "classes": [
            row | {"threshold": float(threshold)}
            for row, threshold in zip(found["per_class"], thresholds_of(judged), strict=True)
        ],
        "confusion": None,
        "tables": np.array(found["confusion"]),
    }
