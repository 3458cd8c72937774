"""The formulas of the metrics: from labels and predictions to a number.

What is not defined is None. Classes are counted by what occurs: a class without an image has no recall, one without an
image and without a prediction has no F1, and neither counts in a mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.metrics.predictions import MetricInput, correct, indicators
from featx.metrics.reliability import reliability

_LEAST = float(np.finfo(np.float64).eps)  # the probability that log loss takes for 0, as scikit-learn does
_TOP = 5


@dataclass(frozen=True)
class ClassCounts:
    """Images labelled as each class or label, predicted as it, and both: int64 (k,)."""

    labelled: np.ndarray
    predicted: np.ndarray
    hits: np.ndarray

    @classmethod
    def of(cls, outcome: MetricInput, classes: int = 0) -> ClassCounts:
        """Count the classes that occur, and at least so many."""
        labels, predicted = outcome.labels, outcome.predicted
        if labels.ndim == 2:
            return cls(labels.sum(axis=0), predicted.sum(axis=0), (labels & predicted).sum(axis=0))
        k = max(classes, int(labels.max(initial=-1)) + 1, int(predicted.max(initial=-1)) + 1)
        hits = labels[labels == predicted]
        return cls(*(np.bincount(codes, minlength=k) for codes in (labels, predicted, hits)))

    @property
    def precision(self) -> np.ndarray:
        """float64 (k,), NaN without a prediction."""
        return share(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """float64 (k,), NaN without an image."""
        return share(self.hits, self.labelled)

    @property
    def f1(self) -> np.ndarray:
        """float64 (k,), NaN without either."""
        return share(2 * self.hits, self.labelled + self.predicted)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole in float64, NaN where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0))


def _mean(values: np.ndarray) -> float | None:
    """The mean of those that are defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def accuracy(outcome: MetricInput) -> float | None:
    """The share of images that are right; of several labels, all of whose labels are."""
    return float(correct(outcome).mean())


def balanced_accuracy(outcome: MetricInput) -> float | None:
    """The mean of the classes' recalls."""
    return _mean(ClassCounts.of(outcome).recall)


def macro_f1(outcome: MetricInput) -> float | None:
    """The mean of the classes' F1."""
    return _mean(ClassCounts.of(outcome).f1)


def micro_f1(outcome: MetricInput) -> float | None:
    """F1 of all pairs of image and label; 0 where no label is there or predicted."""
    counts = ClassCounts.of(outcome)
    both = counts.labelled.sum() + counts.predicted.sum()
    return float(2 * counts.hits.sum() / both) if both else 0.0


def f1_of_images(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """F1 of each image's labels, float64 (n,); 1 where it has none and none is predicted."""
    marked = labels.sum(axis=1) + predicted.sum(axis=1)
    return np.asarray(np.nan_to_num(share(2 * (labels & predicted).sum(axis=1), marked), nan=1.0))


def samples_f1(outcome: MetricInput) -> float | None:
    """The mean over images of the F1 of their labels."""
    return float(f1_of_images(outcome.labels, outcome.predicted).mean())


def hamming_loss(outcome: MetricInput) -> float | None:
    """The share of pairs of image and label that are wrong."""
    return float((outcome.labels != outcome.predicted).mean())


def log_losses(outcome: MetricInput) -> np.ndarray | None:
    """-log of the probability of what is true: float64 (n,), or (n, k) of labels.

    None with images of a class that the model does not know, and gives no probability at all.
    """
    labels, probabilities = outcome.labels, outcome.probabilities
    if labels.ndim == 2:
        true = np.where(labels, probabilities, 1 - probabilities)
    elif (labels >= probabilities.shape[1]).any():
        return None
    else:
        true = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(true, _LEAST, 1.0)))


def log_loss(outcome: MetricInput) -> float | None:
    """The mean of `log_losses`."""
    losses = log_losses(outcome)
    return None if losses is None else float(losses.mean())


def top5_accuracy(outcome: MetricInput) -> float | None:
    """The share of images whose class is among the five most likely."""
    best = np.argpartition(-outcome.probabilities, _TOP - 1, axis=1)[:, :_TOP]
    return float((best == outcome.labels[:, None]).any(axis=1).mean())


def roc_areas(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column, float64 (k,), NaN where no row or every row has it."""
    from sklearn.metrics import roc_auc_score

    areas = np.full(truth.shape[1], np.nan)
    for code in np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)):
        areas[code] = roc_auc_score(truth[:, code], probabilities[:, code])
    return areas


def average_precisions(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Average precision of each column, float64 (k,), NaN where no row or every row has it."""
    from sklearn.metrics import average_precision_score

    found = np.full(truth.shape[1], np.nan)
    for code in np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)):
        found[code] = average_precision_score(truth[:, code], probabilities[:, code])
    return found


def macro_roc_auc(outcome: MetricInput) -> float | None:
    """The mean of the areas under the ROC curves, each class against the rest."""
    return _mean(roc_areas(indicators(outcome), outcome.probabilities))


def macro_average_precision(outcome: MetricInput) -> float | None:
    """The mean of the average precisions, each class against the rest."""
    return _mean(average_precisions(indicators(outcome), outcome.probabilities))


def micro_roc_auc(outcome: MetricInput) -> float | None:
    """Area under the ROC curve of all pairs of image and label."""
    return _mean(roc_areas(outcome.labels.reshape(-1, 1), outcome.probabilities.reshape(-1, 1)))


def micro_average_precision(outcome: MetricInput) -> float | None:
    """Average precision of all pairs of image and label."""
    return _mean(average_precisions(outcome.labels.reshape(-1, 1), outcome.probabilities.reshape(-1, 1)))


def calibration_error(outcome: MetricInput) -> float | None:
    """The expected calibration error, over 15 bins."""
    return reliability(outcome.labels, outcome.probabilities, predicted=outcome.predicted).expected_calibration_error
