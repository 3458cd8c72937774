"""The targets of a network: one class per row, or any number of labels; and the weight of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Targets:
    """The targets of n rows, and the objective (`featx.training.network.Objective`) that is made of them.

    Attributes
    ----------
    classes : int64 (k,), codes of the columns of logits
    values : int64 (n,), the column of each row's class; or float32 (n, k), 1 where the row has the label
    weight : float32 (n,), of the rows
    emphasis : float32 (k,), how much more a label counts where it is present than where it is absent; None for classes
    """

    classes: np.ndarray
    values: np.ndarray
    weight: np.ndarray
    emphasis: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def shares(self, values: np.ndarray, smoothing: float) -> np.ndarray:
        """Return float32 (n, k), the share of each class in the target of each row.

        values : as the attribute has them, of some rows
        smoothing : the part of every target that is spread evenly over the classes; of labels, over present and
            absent; as in Keras' losses
        """
        k = len(self.classes)
        if self.emphasis is not None:
            return (values * (1 - smoothing) + smoothing / 2).astype(np.float32)
        shares: np.ndarray = np.eye(k, dtype=np.float32)[values] * np.float32(1 - smoothing) + np.float32(smoothing / k)
        return shares

    def losses(self, values: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return the cross-entropy (rows,) of some rows; of labels the mean, as Keras has it.

        values : as the attribute has them, or float32 (rows, k) as `shares` gives them
        logits : float32 (rows, k)
        """
        import tensorflow as tf

        if self.emphasis is not None:
            return tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(values, logits, self.emphasis), axis=-1)
        if values.shape.rank == 1:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(values, logits)
        return tf.nn.softmax_cross_entropy_with_logits(values, logits)

    def hits(self, values: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return a tensor (rows,): 1 where the class is right, or the share of labels that are.

        Of shares the largest is the class, and every one above a half a label.
        """
        import tensorflow as tf

        if self.emphasis is not None:
            return tf.reduce_mean(tf.cast(tf.equal(logits > 0, values > 0.5), tf.float32), axis=-1)
        classes = values if values.shape.rank == 1 else tf.argmax(values, axis=-1)
        return tf.cast(tf.equal(tf.argmax(logits, axis=-1), classes), tf.float32)


def label_emphasis(y: np.ndarray, class_weight: str, positive_weight: float) -> np.ndarray:
    """Return float32 (k,), how much more each label of bool (n, k) counts where it is present than where it is absent.

    class_weight : "balanced" gives a label's presence the weight of its absence
    positive_weight : multiplies the weight of labels that are present
    """
    emphasis = np.full(y.shape[1], positive_weight, np.float32)
    if class_weight == "balanced":
        present, n = y.sum(axis=0), len(y)
        both = (present > 0) & (present < n)  # a label that all rows have, or none, has nothing to be balanced with
        emphasis[both] *= (n - present[both]) / present[both]
    return emphasis


def mean_one(weight: np.ndarray, trained: np.ndarray | None = None) -> np.ndarray:
    """Return weights (n,) as float32 whose mean over the rows that are trained on, bool (n,) or all, is 1."""
    return np.asarray(weight / (weight if trained is None else weight[trained]).mean(), np.float32)
