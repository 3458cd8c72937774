"""Percentile bootstrap intervals (Efron & Tibshirani 1993, chapter 13) of metrics that are not shares (see `shares`).

The images, or the groups that they belong to, are drawn anew, the model is not fitted anew: an interval shows how much
another test set of this size may differ, not another training. A metric of the table names what is drawn for it and how
resamples are scored, all of them at once; metrics that name the same draws are scored on the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from featx.metrics.formulas import f1_of_images, log_losses
from featx.metrics.predictions import MetricInput
from featx.metrics.shares import LEVEL, Interval

RESAMPLES = 1000
_CHUNK = 1 << 22  # values of resamples held at a time
_MOST_RANKED = 2_000_000  # pairs of image and label; ranking so many anew in every resample takes half a minute

Draws = Callable[[MetricInput, int, np.random.Generator], Iterator[Any]]


@dataclass(frozen=True)
class Resampling:
    """How a metric is resampled.

    draws : yields resamples of an outcome with images, so many in all, some at a time; nothing where it cannot
    score : the metric of each of some resamples, float64 (r,), NaN where it is not defined
    """

    draws: Draws
    score: Callable[[Any], np.ndarray]


def bootstrap_intervals(
    outcome: MetricInput,
    wanted: Mapping[str, Resampling],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """(low, high) by name; None where it is not defined.

    Undefined are: every interval without images, log loss with classes that the model does not know, and areas under
    the curves of several labels for more than two million pairs of image and label, whose intervals are narrower than
    the digits that are shown.
    """
    values: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    together: dict[Draws, list[str]] = {}
    for name, one in wanted.items():
        together.setdefault(one.draws, []).append(name)
    for draws, names in together.items() if len(outcome.labels) else ():
        for drawn in draws(outcome, resamples, np.random.default_rng(seed)):
            for name in names:
                values[name].append(wanted[name].score(drawn))
    return {name: _percentiles(np.concatenate(some), level) if some else None for name, some in values.items()}


def _percentiles(values: np.ndarray, level: float) -> Interval | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# ------------------------------------------------------------------------------------------- one class per image


def draw_losses(outcome: MetricInput, resamples: int, generator: np.random.Generator) -> Iterator[ImageDraws]:
    """Yield resamples of images with their log losses."""
    losses = log_losses(outcome)
    if losses is None:
        return
    for counts in _draw_counts(outcome, resamples, generator):
        yield ImageDraws(losses, counts)


@dataclass(frozen=True)
class ImageDraws:
    """Resamples of images with a value each, float64 (n,); counts : how often each is in each one, float64 (r, n)."""

    values: np.ndarray
    counts: np.ndarray


def mean_of_images(drawn: ImageDraws) -> np.ndarray:
    """The mean of each resample, float64 (r,)."""
    return np.asarray(drawn.counts @ drawn.values / drawn.counts.sum(axis=1))


def _draw_counts(outcome: MetricInput, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each of n images is in each of some resamples, float64 (r, n); groups are drawn as wholes."""
    n, groups = len(outcome.labels), outcome.groups
    place = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(place.max()) + 1
    some = max(1, _CHUNK // n)
    for start in range(0, resamples, some):
        size = min(some, resamples - start)
        drawn = generator.integers(units, size=(size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units).astype(np.float64)
        yield counts if groups is None else counts[:, place]


# --------------------------------------------------------------------------------------- several labels per image


@dataclass(frozen=True)
class LabelDraws:
    """Resamples of images with several labels: how often each of n images is in each of r resamples.

    Undefined is what is undefined for the images themselves; a label counts in a mean where it is defined.

    outcome : of the images; counts : float64 (r, n)
    ranked : the images in the order of each label's probability; empty where there are too many to rank anew
    """

    outcome: MetricInput
    counts: np.ndarray
    ranked: tuple[Ranked, ...]

    @cached_property
    def _areas(self) -> np.ndarray:
        """The two areas of each resample, float64 (2, r); NaN where no label is defined, or too many are to be ranked.

        They are means over the labels of which a resample has images with and without.
        """
        if not self.ranked:
            return np.full((2, len(self.counts)), np.nan)
        areas = np.array([one.areas(self.counts) for one in self.ranked])
        defined = ~np.isnan(areas)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(defined, areas, 0).sum(axis=0) / defined.sum(axis=0))

    def samples_f1(self) -> np.ndarray:
        """float64 (r,)."""
        of_images = f1_of_images(self.outcome.labels, self.outcome.predicted)
        return np.asarray(self.counts @ of_images / self.counts.sum(axis=1))

    def macro_roc_auc(self) -> np.ndarray:
        """float64 (r,)."""
        return np.asarray(self._areas[0])

    def macro_average_precision(self) -> np.ndarray:
        """float64 (r,)."""
        return np.asarray(self._areas[1])


def draw_labels(outcome: MetricInput, resamples: int, generator: np.random.Generator) -> Iterator[LabelDraws]:
    """Yield resamples of images with several labels."""
    columns = zip(outcome.labels.T, outcome.probabilities.T, strict=True)
    ranked = tuple(Ranked.of(*column) for column in columns) if outcome.labels.size <= _MOST_RANKED else ()
    for counts in _draw_counts(outcome, resamples, generator):
        yield LabelDraws(outcome, counts, ranked)


@dataclass(frozen=True)
class Ranked:
    """Images in the order of their probability of one label, the likeliest first.

    order : int64 (n,); labelled : float64 (n,), 1 where the image has the label, in this order
    ends : the last place of every run of equal probabilities
    """

    order: np.ndarray
    labelled: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, labelled: np.ndarray, probabilities: np.ndarray) -> Ranked:
        """Rank the images by one label; bool (n,), float64 (n,)."""
        order = np.argsort(-probabilities, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
        return cls(order, labelled[order].astype(np.float64), ends)

    def areas(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Area under the ROC curve and average precision of each resample, float64 (r,), as scikit-learn has them."""
        drawn = counts[:, self.order]
        reached = np.cumsum(drawn, axis=1)[:, self.ends]
        hits = np.cumsum(drawn * self.labelled, axis=1)[:, self.ends]
        others, gained = reached - hits, np.diff(hits, axis=1, prepend=0)
        # of equals half count as below
        below = others[:, -1:] - (others + np.pad(others, ((0, 0), (1, 0)))[:, :-1]) / 2
        precision = np.divide(hits, reached, out=np.zeros(hits.shape), where=reached > 0)
        with_label, without = hits[:, -1], others[:, -1]
        both = np.where((with_label > 0) & (without > 0), with_label, np.nan)
        return (gained * below).sum(axis=1) / (both * without), (gained * precision).sum(axis=1) / both
