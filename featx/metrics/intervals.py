"""How far metrics are to be trusted, and confidences: bootstrap intervals, calibration, two models compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Measured = Literal["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
MEASURED: tuple[Measured, ...] = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
LABELS_MEASURED = ("exact_match", "f1_samples", "f1_micro", "f1_macro", "roc_auc_macro", "average_precision_macro")
RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 1 << 22  # values of resamples held at a time
_MOST_RANKED = 2_000_000  # pairs of image and label; ranking so many anew in every resample takes half a minute


def bootstrap_interval(
    labels: np.ndarray,
    probabilities: np.ndarray,
    metric: Measured,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a metric over images (Efron & Tibshirani 1993, chapter 13).

    labels : int64 (n,), positions in the columns of `probabilities`; past them: a class that the model does not know
    probabilities : float64 (n, k)

    The images are drawn anew, the model is not fitted anew: the interval tells how much another test set of this size
    may differ, not another training. None where the metric is not defined (no image; log loss with unknown classes).
    """
    if not len(labels):
        return None
    generator = np.random.default_rng(seed)
    if metric == "log_loss":
        losses = log_losses(labels, probabilities)
        if losses is None:
            return None
        values = np.concatenate([some.mean(axis=1) for some in _draw(losses, resamples, generator)])
    else:
        counts = _Cells.of(labels, probabilities.argmax(axis=1)).draw(resamples, generator)
        values = np.concatenate([some.score(metric) for some in counts])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_intervals(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, list[float] | None]:
    """[low, high] of every metric that has an interval, at 95 %."""
    found = {metric: bootstrap_interval(labels, probabilities, metric) for metric in MEASURED}
    return {metric: None if interval is None else list(interval) for metric, interval in found.items()}


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray | None:
    """-log p(truth) of each image, float64 (n,), clipped as scikit-learn does; None with classes not in the columns."""
    if (labels >= probabilities.shape[1]).any():
        return None
    truth = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(truth, np.finfo(np.float64).eps, 1.0)))


def _draw(values: np.ndarray, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield resamples of values (n,), shape (some, n)."""
    some = max(1, _CHUNK // len(values))
    for start in range(0, resamples, some):
        yield values[generator.integers(len(values), size=(min(some, resamples - start), len(values)))]


@dataclass(frozen=True)
class _Cells:
    """The cells of a confusion matrix that are not empty: their class, prediction and count, in resamples (r, cells).

    Images of one cell are alike to every metric of predicted classes, so resampling images is drawing the counts of
    cells from a multinomial distribution.
    """

    truth: np.ndarray
    predicted: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray) -> _Cells:
        pairs, counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
        return cls(pairs[0], pairs[1], counts[None])

    def draw(self, resamples: int, generator: np.random.Generator) -> Iterator[_Cells]:
        total = int(self.counts.sum())
        some = max(1, _CHUNK // len(self.truth))
        for start in range(0, resamples, some):
            size = min(some, resamples - start)
            yield _Cells(self.truth, self.predicted, generator.multinomial(total, self.counts[0] / total, size=size))

    def score(self, metric: Measured) -> np.ndarray:
        """The metric of each resample, float64 (r,); classes that are not in a resample do not count in its mean."""
        hits = self.counts * (self.truth == self.predicted)
        if metric == "accuracy":
            return np.asarray(hits.sum(axis=1) / self.counts.sum(axis=1))
        k = int(max(self.truth.max(), self.predicted.max())) + 1
        truth, hit = _sum_by(self.truth, self.counts, k), _sum_by(self.truth, hits, k)
        if metric == "balanced_accuracy":
            return _mean_of_defined(hit, truth)
        return _mean_of_defined(2 * hit, truth + _sum_by(self.predicted, self.counts, k))


def _sum_by(codes: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Sums (r, k) of the columns of counts (r, cells) with the same code."""
    order = np.argsort(codes, kind="stable")
    present, first = np.unique(codes[order], return_index=True)
    sums = np.zeros((len(counts), k), counts.dtype)
    sums[:, present] = np.add.reduceat(counts[:, order], first, axis=1)
    return sums


def _mean_of_defined(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Mean over each row of part / whole where whole is not 0; NaN where it is 0 everywhere."""
    share = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(share.sum(axis=1) / (whole > 0).sum(axis=1))


def bootstrap_label_intervals(
    truth: np.ndarray,
    probabilities: np.ndarray,
    given: np.ndarray,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """Percentile bootstrap intervals over images with several labels, of every metric in `LABELS_MEASURED`.

    All metrics are of the same resamples. A label counts in a resample's mean where the metric is defined for it there.

    truth : bool (n, k); probabilities : float64 (n, k); given : bool (n, k), the labels that the model gives

    Returns
    -------
    dict
        metric -> [low, high]; None where it is not defined, and for areas under curves of more than two million pairs
        of image and label, whose intervals are narrower than what is told of them
    """
    if not len(truth):
        return dict.fromkeys(LABELS_MEASURED)
    ranked = [
        _Ranked.of(truth[:, label], probabilities[:, label])
        for label in range(truth.shape[1] if truth.size <= _MOST_RANKED else 0)
    ]
    found: list[dict[str, np.ndarray]] = []
    for counts in _draw_counts(len(truth), resamples, np.random.default_rng(seed)):
        areas = _mean_areas(ranked, counts) if ranked else {}
        found.append(_score_given(truth, given, counts) | areas)
    values = {name: np.concatenate([some[name] for some in found]) for name in found[0]}
    return {name: _percentiles(values[name], level) if name in values else None for name in LABELS_MEASURED}


def _draw_counts(n: int, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each of n images is in each resample, float64 (some, n)."""
    some = max(1, _CHUNK // n)
    for start in range(0, resamples, some):
        size = min(some, resamples - start)
        places = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(places.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _percentiles(values: np.ndarray, level: float) -> list[float] | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    return [float(value) for value in np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])]


def _score_given(truth: np.ndarray, given: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """What depends on the given labels alone, float64 (r,) for counts (r, n); undefined as `measure_labels` has it."""
    hits, marked = (truth & given).astype(np.float64), truth.astype(np.float64) + given
    right = (truth == given).all(axis=1)
    of_image = np.divide(2 * hits.sum(axis=1), marked.sum(axis=1), out=np.ones(len(truth)), where=marked.any(axis=1))
    hit, mark = counts @ hits, counts @ marked
    hits_of_all, marks_of_all = hit.sum(axis=1), mark.sum(axis=1)
    return {
        "exact_match": counts @ right / len(truth),
        "f1_samples": counts @ of_image / len(truth),
        "f1_micro": np.divide(2 * hits_of_all, marks_of_all, out=np.zeros(len(counts)), where=marks_of_all > 0),
        "f1_macro": _mean_of_defined(2 * hit, mark),
    }


def _mean_areas(ranked: Sequence[_Ranked], counts: np.ndarray) -> dict[str, np.ndarray]:
    """Means over the labels of which a resample has images with and without, float64 (r,); NaN where it has none."""
    with np.errstate(invalid="ignore"):
        areas = np.array([one.areas(counts) for one in ranked])
        defined = ~np.isnan(areas)
        means = np.where(defined, areas, 0).sum(axis=0) / defined.sum(axis=0)
    return {"roc_auc_macro": means[0], "average_precision_macro": means[1]}


@dataclass(frozen=True)
class _Ranked:
    """Images in the order of their probability of one label, the likeliest first.

    order : int64 (n,); truth : float64 (n,), 1 where the image has the label, in this order
    ends : the last place of every run of equal probabilities
    """

    order: np.ndarray
    truth: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, probabilities: np.ndarray) -> _Ranked:
        order = np.argsort(-probabilities, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
        return cls(order, truth[order].astype(np.float64), ends)

    def areas(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Area under the ROC curve and average precision of each resample, float64 (r,), as scikit-learn has them."""
        drawn = counts[:, self.order]
        reached = np.cumsum(drawn, axis=1)[:, self.ends]
        hits = np.cumsum(drawn * self.truth, axis=1)[:, self.ends]
        others, gained = reached - hits, np.diff(hits, axis=1, prepend=0)
        below = (
            others[:, -1:] - (others + np.pad(others, ((0, 0), (1, 0)))[:, :-1]) / 2
        )  # of equals half count as below
        precision = np.divide(hits, reached, out=np.zeros(hits.shape), where=reached > 0)
        with_label, without = hits[:, -1], others[:, -1]
        both = np.where((with_label > 0) & (without > 0), with_label, np.nan)
        return (gained * below).sum(axis=1) / (both * without), (gained * precision).sum(axis=1) / both
