"""What the dense head learns to tell: one class per row, or any number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.errors import HeadError
from featx.features import Features
from featx.heads.base import check_targets, row_weights


@dataclass(frozen=True)
class Targets:
    """What should be told of n rows.

    Attributes
    ----------
    classes : int64 (k,), codes of the columns of logits
    values : int64 (n,), the column of each row's class; or float32 (n, k), 1 where a row has the label
    weight : float32 (n,), of the rows
    emphasis : float32 (k,), how much more a label that is there counts than one that is not; None for classes
    """

    classes: np.ndarray
    values: np.ndarray
    weight: np.ndarray
    emphasis: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def losses(self, values: Any, logits: Any) -> Any:
        """Return the cross-entropy (rows,) of some rows as a tensor; of labels the mean, as Keras has it."""
        import tensorflow as tf

        if self.emphasis is None:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(values, logits)
        return tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(values, logits, self.emphasis), axis=-1)

    def hits(self, values: Any, logits: Any) -> Any:
        """Return a tensor (rows,): 1 where the class is right, or the share of labels that are."""
        import tensorflow as tf

        if self.emphasis is None:
            return tf.cast(tf.equal(tf.argmax(logits, axis=-1), values), tf.float32)
        return tf.reduce_mean(tf.cast(tf.equal(logits > 0, values > 0), tf.float32), axis=-1)


def training_targets(
    features: Features, y: np.ndarray, sample_weight: np.ndarray | None, class_weight: str, positive_weight: float
) -> Targets:
    """Return what is trained on.

    y : codes (n,), or bool (n, k) for labels
    class_weight : "balanced" gives every class the same weight, and a label's presence that of its absence
    positive_weight : multiplies the weight of labels that are there

    Raises
    ------
    HeadError
        What `check_targets` says; labels that are not bool; `positive_weight` for classes.
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
    return Targets(classes, index, _of_mean_one(row_weights(index, sample_weight, class_weight)))


def _label_targets(
    features: Features, y: np.ndarray, weight: np.ndarray, class_weight: str, positive_weight: float
) -> Targets:
    n = features.shape[0]
    if y.dtype != bool or len(y) != n or not y.size:
        raise HeadError(f"Labels are bool ({n}, labels), a row per row of features; got {y.dtype} {y.shape}.")
    if weight.shape != (n,) or not np.all(weight >= 0):
        raise HeadError(f"sample_weight has to be {n} numbers of at least 0.")
    emphasis = label_emphasis(y, class_weight, positive_weight)
    return Targets(np.arange(y.shape[1]), y.astype(np.float32), _of_mean_one(weight), emphasis)


def label_emphasis(y: np.ndarray, class_weight: str, positive_weight: float) -> np.ndarray:
    """Return float32 (k,), how much more each label of bool (n, k) counts where it is there; see `training_targets`."""
    emphasis = np.full(y.shape[1], positive_weight, np.float32)
    if class_weight == "balanced":
        there, n = y.sum(axis=0), len(y)
        both = (there > 0) & (there < n)  # a label that all rows have, or none, has nothing to be balanced with
        emphasis[both] *= (n - there[both]) / there[both]
    return emphasis


def _of_mean_one(weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight / weight.mean(), np.float32)


def watched_targets(y: np.ndarray, trained: Targets, class_weight: str) -> tuple[np.ndarray, Targets]:
    """Return which validation rows can be judged, as positions, and what should be told of them.

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
