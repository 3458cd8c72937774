"""What heads are compared by while they are searched: one number for the logits of rows that were left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from featx.config import Metric
from featx.errors import HeadError
from featx.metrics.probabilities import fit_temperature, sigmoid, softmax

_LEAST = 1e-15  # the probability that log loss takes for 0


def resolve_metric(metric: Metric, several: bool) -> Metric:
    """What `auto` stands for, and whether a metric is defined."""
    if metric == "balanced_accuracy" and several:
        raise HeadError(
            "--metric balanced_accuracy is of one class per image. For several labels choose average_precision, "
            "roc_auc, macro_f1, log_loss or accuracy (all labels of an image right)."
        )
    return ("average_precision" if several else "accuracy") if metric == "auto" else metric


def score(metric: Metric, logits: np.ndarray, index: np.ndarray) -> float:
    """Judge logits (n, k) of rows whose columns are `index` (n,), or whose labels are bool (n, k).

    accuracy (of labels: all of a row's right), balanced_accuracy, macro_f1 as scikit-learn has them; roc_auc and
    average_precision are means over the classes, each against the rest; log_loss at the temperature that suits it best
    """
    if metric in {"roc_auc", "average_precision"}:
        return _rank_score(metric, logits, index)
    if index.ndim == 2:
        return _score_labels(metric, logits, index)
    if metric == "log_loss":
        true = softmax(logits, fit_temperature(logits, index))[np.arange(len(index)), index]
        return float(-np.log(np.maximum(true, _LEAST)).mean())
    predicted = logits.argmax(axis=1)
    if metric == "accuracy":
        return float((predicted == index).mean())
    k = logits.shape[1]
    hits = np.bincount(index[predicted == index], minlength=k)
    truth, claims = np.bincount(index, minlength=k), np.bincount(predicted, minlength=k)
    if metric == "balanced_accuracy":
        return float((hits[truth > 0] / truth[truth > 0]).mean())
    either = truth + claims
    return float((2 * hits[either > 0] / either[either > 0]).mean())


def _score_labels(metric: Metric, logits: np.ndarray, y: np.ndarray) -> float:
    if metric == "log_loss":
        chances = sigmoid(logits, fit_temperature(logits, y))
        true = np.where(y, chances, 1 - chances)
        return float(-np.log(np.maximum(true, _LEAST)).mean())
    given = logits > 0
    if metric == "accuracy":
        return float((given == y).all(axis=1).mean())
    hits, either = (given & y).sum(axis=0), given.sum(axis=0) + y.sum(axis=0)
    return float((2 * hits[either > 0] / either[either > 0]).mean())


def _rank_score(metric: Metric, logits: np.ndarray, index: np.ndarray) -> float:
    """The mean over classes that some rows have and others have not; 0 where there is no such class."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    k = logits.shape[1]
    truth = index if index.ndim == 2 else index[:, None] == np.arange(k)
    ranks = logits if index.ndim == 2 else softmax(logits)
    measure = roc_auc_score if metric == "roc_auc" else average_precision_score
    known = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    return float(np.mean([measure(truth[:, code], ranks[:, code]) for code in known])) if len(known) else 0.0


def is_better(metric: Metric, one: float, other: float) -> bool:
    """Whether a score is better than another; of log loss less is better."""
    return one < other if metric == "log_loss" else one > other


def signed_score(candidate: dict[str, Any]) -> float:
    """A candidate's score, of which more is better."""
    return -candidate["score"] if candidate["metric"] == "log_loss" else float(candidate["score"])
