"""How right a model is: metrics of probabilities against labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from featx.metrics.intervals import bootstrap_intervals, bootstrap_label_intervals, log_losses
from featx.metrics.reliability import reliability

_KEYS = (
    *("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "top5_accuracy"),
    *("roc_auc_macro", "average_precision_macro"),
    *("expected_calibration_error", "intervals", "per_class", "confusion"),
)


def measure(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Metrics of one part of the data. What is not defined is None.

    labels : int64 (n,), positions in `classes`; a label past `probabilities`' columns is a class that the model does
        not know, and always wrong
    probabilities : float64 (n, k), k <= len(classes)

    Returns
    -------
    dict
        accuracy, balanced_accuracy, macro_f1, log_loss (natural), top5_accuracy (None for five classes or fewer),
        roc_auc_macro and average_precision_macro (each class against the rest, the mean over those that are there),
        expected_calibration_error, intervals {metric: [low, high]} (95 %, by bootstrap; None where it has no value),
        per_class [{label, precision, recall, f1, images}], confusion (rows: truth, columns: prediction)
    """
    if not len(labels):
        return dict.fromkeys(_KEYS) | {"images": 0}
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    known = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    codes = np.arange(len(classes))
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, predicted, labels=codes, average=None, zero_division=np.nan
    )
    present = images > 0
    counted = present | np.isin(codes, predicted)
    return {
        "images": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[counted].mean()),
        "log_loss": _log_loss(labels, probabilities),
        "top5_accuracy": _top_accuracy(labels, probabilities, 5) if known > 5 else None,
        **_rank_metrics(labels[:, None] == np.arange(known), probabilities),
        "expected_calibration_error": reliability(labels, probabilities).expected_calibration_error,
        "intervals": bootstrap_intervals(labels, probabilities),
        "per_class": [
            {"label": label, "precision": _defined(p), "recall": _defined(r), "f1": _defined(f), "images": int(n)}
            for label, p, r, f, n in zip(classes, precision, recall, f1, images, strict=True)
        ],
        "confusion": confusion_matrix(labels, predicted, labels=codes).tolist(),
    }


_LABEL_METRICS = (
    "exact_match",
    "hamming_loss",
    "f1_micro",
    "f1_macro",
    "f1_samples",
    "log_loss",
    "roc_auc_macro",
    "roc_auc_micro",
    "average_precision_macro",
    "average_precision_micro",
    "expected_calibration_error",
    "intervals",
    "per_class",
    "confusion",
)


def measure_labels(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], given: np.ndarray
) -> dict[str, Any]:
    """Metrics of images with several labels. What is not defined is None.

    truth : bool (n, k); probabilities : float64 (n, k); given : bool (n, k), the labels that the model gives

    Returns
    -------
    dict
        exact_match (all labels of an image right), hamming_loss, f1_micro, f1_macro, f1_samples, log_loss (the mean
        over labels), roc_auc and average_precision _macro and _micro, expected_calibration_error (of every pair of
        image and label), intervals {metric: [low, high]} (95 %, by bootstrap; None where it has no value), per_class
        [{label, precision, recall, f1, roc_auc, average_precision, images}], confusion (a 2x2 matrix for each class;
        rows: the label is not there, is there; columns: it is not given, is given)
    """
    if not len(truth):
        return dict.fromkeys(_LABEL_METRICS) | {"images": 0}
    from sklearn.metrics import (
        f1_score,
        hamming_loss,
        multilabel_confusion_matrix,
        precision_recall_fscore_support,
    )

    precision, recall, f1, images = precision_recall_fscore_support(truth, given, average=None, zero_division=np.nan)
    true = np.where(truth, probabilities, 1 - probabilities)
    ranks = _rank_metrics(truth, probabilities)
    micro = _rank_metrics(truth.reshape(-1, 1), probabilities.reshape(-1, 1))
    rows = zip(classes, precision, recall, f1, images, truth.T, probabilities.T, strict=True)
    counted = truth.any(axis=0) | given.any(axis=0)
    return {
        "images": len(truth),
        "exact_match": float((truth == given).all(axis=1).mean()),
        "hamming_loss": float(hamming_loss(truth, given)),
        "f1_micro": float(f1_score(truth, given, average="micro", zero_division=0.0)),
        "f1_macro": float(f1[counted].mean()) if counted.any() else None,
        "f1_samples": float(f1_score(truth, given, average="samples", zero_division=1.0)),
        "log_loss": float(-np.log(np.clip(true, np.finfo(np.float64).eps, 1.0)).mean()),
        **ranks,
        "roc_auc_micro": micro["roc_auc_macro"],
        "average_precision_micro": micro["average_precision_macro"],
        "expected_calibration_error": reliability(truth, probabilities).expected_calibration_error,
        "intervals": bootstrap_label_intervals(truth, probabilities, given),
        "per_class": [
            {
                "label": label,
                "precision": _defined(p),
                "recall": _defined(r),
                "f1": _defined(f),
                **{
                    name.removesuffix("_macro"): value
                    for name, value in _rank_metrics(of_class[:, None], chances[:, None]).items()
                },
                "images": int(n),
            }
            for label, p, r, f, n, of_class, chances in rows
        ],
        "confusion": multilabel_confusion_matrix(truth, given).tolist(),
    }


def _rank_metrics(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """Means over the columns that some rows have and others have not; truth bool (n, k), probabilities (n, k)."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    known = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    return {
        name: float(np.mean([of(truth[:, code], probabilities[:, code]) for code in known])) if len(known) else None
        for name, of in (("roc_auc_macro", roc_auc_score), ("average_precision_macro", average_precision_score))
    }


METRIC_KEYS = {  # option --metric -> key of what is measured
    "roc_auc": "roc_auc_macro",
    "average_precision": "average_precision_macro",
}
LABEL_METRIC_KEYS = METRIC_KEYS | {"accuracy": "exact_match", "macro_f1": "f1_macro"}


def metric_of(metrics: dict[str, Any], metric: str) -> float | None:
    """The value of the option --metric among what `measure` or `measure_labels` found."""
    keys = LABEL_METRIC_KEYS if "exact_match" in metrics else METRIC_KEYS
    value: float | None = metrics[keys.get(metric, metric)]
    return value


def _defined(value: float) -> float | None:
    """None for precision without a prediction, recall without an image, f1 without either."""
    return None if np.isnan(value) else float(value)


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Mean of -log p(truth); None with unknown classes."""
    losses = log_losses(labels, probabilities)
    return None if losses is None else float(losses.mean())


def _top_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    best = np.argpartition(-probabilities, k - 1, axis=1)[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """The single numbers of `measure`, as a bundle keeps them."""
    return {name: value for name, value in metrics.items() if name not in {"per_class", "confusion"}}
