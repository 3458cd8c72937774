"""The numbers of a report: how right a model is on one part of the data, in all and class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.evaluate import Judged, measure
from featx.report.curves import Curves, precision_recall_curves, roc_curves
from featx.uncertainty import Reliability, reliability

_MOST_VALUES = 5_000_000  # probabilities that curves are made of; sorting more takes seconds

_LABELS = {
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "f1_micro": "micro F1",
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
    roc, precision_recall : None where they are not defined; sampled : images that they were made of
    """

    part: str
    images: int
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]
    classes: Sequence[Mapping[str, Any]]
    confusion: np.ndarray | None
    reliability: Reliability
    roc: Curves | None
    precision_recall: Curves | None
    sampled: int


def score_part(judged: Judged, *, curves: bool = True) -> Scores:
    """Compute the numbers of one part, which must have an image; `curves`, and their areas, only where they are shown.

    Areas are among the metrics of a multi-label model, which has them anyway.
    """
    rows = _sample(*judged.probabilities.shape)
    roc = precision_recall = None
    if curves or is_multilabel(judged):
        truth, chances = indicators(judged)[rows], judged.probabilities[rows]
        roc = roc_curves(truth, chances, judged.classes)
        precision_recall = precision_recall_curves(truth, chances, judged.classes)
    found = _measure_multilabel(judged, roc, precision_recall) if is_multilabel(judged) else _measure(judged)
    roc_auc = roc.areas() if roc else {}
    average_precision = precision_recall.areas() if precision_recall else {}
    return Scores(
        part=judged.part,
        images=len(judged.labels),
        metrics=found["metrics"],
        intervals=found["intervals"],
        classes=[
            row | {"roc_auc": roc_auc.get(row["label"]), "average_precision": average_precision.get(row["label"])}
            for row in found["classes"]
        ],
        confusion=found["confusion"],
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
    }


def _measure_multilabel(judged: Judged, roc: Curves | None, precision_recall: Curves | None) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_fscore_support

    labels, said = indicators(judged), decide(judged)
    columns = precision_recall_fscore_support(labels, said, average=None, zero_division=np.nan)
    marked = int(labels.sum() + said.sum())
    return {
        "metrics": {
            "roc_auc_macro": roc.macro.area if roc else None,
            "average_precision_macro": precision_recall.macro.area if precision_recall else None,
            "exact_match": float((labels == said).all(axis=1).mean()),
            "f1_micro": 2 * int((labels & said).sum()) / marked if marked else None,
            "expected_calibration_error": reliability(labels, judged.probabilities).expected_calibration_error,
        },
        "intervals": {},
        "classes": [
            {
                "label": label,
                "precision": _defined(precision),
                "recall": _defined(recall),
                "f1": _defined(f1),
                "images": int(images),
                "threshold": float(threshold),
            }
            for label, precision, recall, f1, images, threshold in zip(
                judged.classes, *columns, thresholds_of(judged), strict=False
            )
        ],
        "confusion": None,
    }


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
