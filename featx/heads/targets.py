"""The targets of the dense head: for training, and for monitoring during it."""

from __future__ import annotations

import numpy as np

from featx.errors import HeadError
from featx.features import Features
from featx.heads.base import check_targets, row_weights
from featx.training.targets import Targets, label_emphasis, mean_one


def training_targets(
    features: Features, y: np.ndarray, sample_weight: np.ndarray | None, class_weight: str, positive_weight: float
) -> Targets:
    """Return what is trained on.

    y : codes (n,), or bool (n, k) for labels
    class_weight : "balanced" gives every class the same weight, and a label's presence that of its absence
    positive_weight : multiplies the weight of labels that are present

    Raises
    ------
    HeadError
        What `check_targets` refuses; labels that are not bool; `positive_weight` for classes.
    """
    if y.ndim == 2:
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        return _label_targets(features, y, weight, class_weight, positive_weight)
    classes, index = check_targets(features, y, sample_weight)
    if positive_weight != 1:
        raise HeadError(
            "positive_weight is for images with several labels, and these have one class each. "
            "Use class_weight balanced (--class-weight balanced)."
        )
    return Targets(classes, index, mean_one(row_weights(index, sample_weight, class_weight)))


def _label_targets(
    features: Features, y: np.ndarray, weight: np.ndarray, class_weight: str, positive_weight: float
) -> Targets:
    n = features.shape[0]
    if y.dtype != bool or len(y) != n or not y.size:
        raise HeadError(f"Labels are bool ({n}, labels), a row per row of features; got {y.dtype} {y.shape}.")
    if weight.shape != (n,) or not np.all(weight >= 0):
        raise HeadError(f"sample_weight must be {n} numbers of at least 0.")
    emphasis = label_emphasis(y, class_weight, positive_weight)
    return Targets(np.arange(y.shape[1]), y.astype(np.float32), mean_one(weight), emphasis)


def watched_targets(y: np.ndarray, trained: Targets, class_weight: str) -> tuple[np.ndarray, Targets]:
    """Return which validation rows can be evaluated, as positions int64 (m,), and their targets.

    y : codes (n,), or bool (n, k) for labels

    They weigh as in training; rows of a class that is not trained cannot be right and are left out.
    """
    if trained.emphasis is not None:
        if y.dtype != bool or y.shape[1:] != trained.values.shape[1:]:
            raise HeadError(
                f"Labels of validation rows are bool (n, {len(trained.classes)}) as those of training; "
                f"got {y.dtype} {y.shape}."
            )
        weight = np.ones(len(y), np.float32)
        return np.arange(len(y)), Targets(trained.classes, y.astype(np.float32), weight, trained.emphasis)
    rows = np.flatnonzero(np.isin(y, trained.classes))
    codes = np.searchsorted(trained.classes, y[rows])
    weight = np.ones(len(rows), np.float32)
    if class_weight == "balanced":
        weight = (1 / np.bincount(trained.values)[codes]).astype(np.float32)
    return rows, Targets(trained.classes, codes, weight)
