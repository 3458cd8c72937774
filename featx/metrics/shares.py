"""Intervals of shares and of means of shares: Wilson's, also for classes of unequal sizes and images in groups.

A bootstrap fails where a model is nearly always right: without an error it has no width at all. Wilson's score
interval (1927) of a share with n images holds there as well. A mean over classes is given the number of images that a
single share would need for the same variance (Yan and Su 2010), and groups of images that belong together are worth as
many images as their spread says (the design effect, Korn and Graubard 1998). docs/statistics.md has the coverage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from featx.metrics.predictions import MetricInput, correct

Interval = tuple[float, float]
LEVEL = 0.95
FEW_ERRORS = 5  # with fewer, Wilson's interval of a share may be too narrow
_SHRUNK = 2.0  # images like the mean that each share is joined by while its variance is estimated


@dataclass(frozen=True)
class Shares:
    """Shares of n images: each is a sum of `part` over a sum of `whole`, and a metric is their mean.

    rows, codes : int64 (m,), the image and the share that each entry counts for
    part, whole : float64 (m,)
    images, shares : how many there are; shares without an entry are not defined and do not count in the mean
    harmonic : the metric is F1, 2 s / (1 + s) of the share s of what is right among all that is labelled or predicted
    """

    rows: np.ndarray
    codes: np.ndarray
    part: np.ndarray
    whole: np.ndarray
    images: int
    shares: int
    harmonic: bool = False

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """The sums of `part` and `whole` of the shares that are defined, float64 (defined,)."""
        part, whole = (np.bincount(self.codes, values, self.shares) for values in (self.part, self.whole))
        return part[whole > 0], whole[whole > 0]

    @property
    def value(self) -> float:
        """The metric; NaN where no share is defined."""
        part, whole = self.sums
        return float(self.link(part / whole).mean()) if len(whole) else np.nan

    def link(self, share: np.ndarray) -> np.ndarray:
        """What the metric is of each share, before the mean is taken."""
        return 2 * share / (1 + share) if self.harmonic else share

    def slope(self, share: np.ndarray) -> np.ndarray:
        """What the metric changes by with a share, before the mean is taken."""
        return 2 / (1 + share) ** 2 if self.harmonic else np.ones_like(share)

    @cached_property
    def influence(self) -> np.ndarray:
        """How much each image moves the metric, float64 (n,); they add up to 0."""
        part, whole = (np.bincount(self.codes, values, self.shares) for values in (self.part, self.whole))
        share = np.divide(part, whole, out=np.zeros(self.shares), where=whole > 0)
        defined = max(int((whole > 0).sum()), 1)
        weight = np.divide(self.slope(share), whole * defined, out=np.zeros(self.shares), where=whole > 0)
        moved = weight[self.codes] * (self.part - share[self.codes] * self.whole)
        return np.bincount(self.rows, moved, self.images)

    def smoothed(self, per_image: np.ndarray | float = 1.0) -> tuple[float, np.ndarray]:
        """The metric, and what each share adds to its variance, each drawn towards their mean: float64 (defined,).

        per_image : how many images of each share count as one
        """
        part, whole = self.sums
        mean = (part.sum() + 2) / (whole.sum() + 4)
        part, whole = part / per_image, whole / per_image
        share = (part + _SHRUNK * mean) / (whole + _SHRUNK)
        weight = self.slope(share) / len(whole)
        return float(self.link(share).mean()), np.asarray(weight**2 * share * (1 - share) / whole)


def wilson(share: float, images: float, deviations: float) -> Interval:
    """Wilson's score interval of a share of so many images, at so many standard deviations."""
    square = deviations**2 / images
    middle = (share + square / 2) / (1 + square)
    half = deviations / (1 + square) * np.sqrt(share * (1 - share) / images + square / (4 * images))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def share_interval(shares: Shares, groups: np.ndarray | None = None, level: float = LEVEL) -> Interval | None:
    """The interval of a metric that is a share, or a mean of shares; None where it is not defined.

    groups : int64 (n,), of images that are no independent examples
    """
    from scipy.special import ndtri, stdtrit

    _, whole = shares.sums
    if not len(whole):
        return None
    value, effect = shares.value, _design_effect(shares, groups)
    normal = float(ndtri((1 + level) / 2))
    if len(whole) == 1 and not shares.harmonic:
        freedom = np.inf if groups is None else max(len(np.unique(groups)) - 1, 1)
        deviations = normal if groups is None else float(stdtrit(freedom, (1 + level) / 2))
        return wilson(value, float(whole[0]) / effect, deviations)
    if groups is None:
        smoothed, variances = shares.smoothed()
        return wilson(value, smoothed * (1 - smoothed) / float(effect * variances.sum()), normal)
    smoothed, variance, freedom = _of_groups(shares, groups, effect)
    return wilson(value, smoothed * (1 - smoothed) / variance, float(stdtrit(freedom, (1 + level) / 2)))


def _of_groups(shares: Shares, groups: np.ndarray, effect: float) -> tuple[float, float, float]:
    """The metric, drawn towards a mean, its variance and its degrees of freedom, where images come in groups.

    A mean is no surer than the shares of few groups that it depends on, so that the degrees of freedom are those of
    Satterthwaite (1946). In a share without an error, or with errors alone, a group counts as one image.
    """
    part, whole = shares.sums
    places = np.unique(groups, return_inverse=True)[1]
    cells = np.unique(shares.codes * len(places) + places[shares.rows])
    within = np.bincount(cells // len(places), minlength=shares.shares)  # groups of each share
    within = within[within > 0]
    unseen = (part == 0) | (part == whole)
    smoothed, variances = shares.smoothed(np.where(unseen, np.maximum(effect, whole / within), 1.0))
    variances = variances * np.where(unseen, 1.0, effect)
    freedom = variances.sum() ** 2 / (variances**2 / np.maximum(within - 1, 1)).sum()
    return smoothed, float(variances.sum()), float(np.clip(freedom, 1, max(int(places.max()), 1)))


def _design_effect(shares: Shares, groups: np.ndarray | None) -> float:
    """How much larger the variance is than with independent images and shares, at least 1.

    Without any error it cannot be seen: a group then counts as one image, and of F1 every error as two.
    """
    part, whole = shares.sums
    share = part / whole
    independent = float(((shares.slope(share) / len(whole)) ** 2 * share * (1 - share) / whole).sum())
    moved, factor, units = shares.influence, 1.0, shares.images
    if groups is not None:
        places = np.unique(groups, return_inverse=True)[1]
        moved, units = np.bincount(places, moved), int(places.max()) + 1
        factor = units / max(units - 1, 1)
    if independent <= 0:
        return shares.images / units * (2.0 if shares.harmonic else 1.0)
    return max(float((moved**2).sum()) * factor / independent, 1.0)


def class_intervals(outcome: MetricInput, classes: int, groups: np.ndarray | None = None) -> list[ClassIntervals]:
    """The intervals of each class or label; groups : as in `share_interval`"""
    if outcome.labels.ndim == 2:
        has, given = outcome.labels, outcome.predicted
        return [_of_class(has[:, code], given[:, code], groups) for code in range(classes)]
    return [_of_class(outcome.labels == code, outcome.predicted == code, groups) for code in range(classes)]


@dataclass(frozen=True)
class ClassIntervals:
    """95 % intervals of a class.

    recall, precision : of the share of its images that get it, and of the share of what gets it that is right
    missed, wrong : how many of its images do not get it, and how many get it that are not of it
    """

    recall: Interval | None
    precision: Interval | None
    missed: int
    wrong: int

    @property
    def narrow(self) -> tuple[str, ...]:
        """Whose interval can be too narrow, since there are fewer than five errors."""
        counts = {"precision": (self.precision, self.wrong), "recall": (self.recall, self.missed)}
        return tuple(name for name, (found, errors) in counts.items() if found is not None and errors < FEW_ERRORS)


def _of_class(has: np.ndarray, given: np.ndarray, groups: np.ndarray | None) -> ClassIntervals:
    both = has & given

    def of(some: np.ndarray) -> Interval | None:
        return share_interval(of_images(both[some]), None if groups is None else groups[some])

    return ClassIntervals(of(has), of(given), int((has & ~given).sum()), int((given & ~has).sum()))


# ------------------------------------------------------------------------------------------------ what is counted


def of_images(values: np.ndarray) -> Shares:
    """The share of images of which something is true, bool (n,)."""
    n = len(values)
    return Shares(np.arange(n), np.zeros(n, np.int64), values.astype(np.float64), np.ones(n), n, 1)


def right_images(outcome: MetricInput) -> Shares:
    """The share of images that are right; of several labels, all of whose labels are."""
    return of_images(correct(outcome))


def top_images(outcome: MetricInput) -> Shares:
    """The share of images whose class is among the five most likely."""
    best = np.argpartition(-outcome.probabilities, 4, axis=1)[:, :5]
    return of_images((best == outcome.labels[:, None]).any(axis=1))


def recalls(outcome: MetricInput) -> Shares:
    """The share of each class's images that is right."""
    n, labels = len(outcome.labels), outcome.labels
    right = (outcome.predicted == labels).astype(np.float64)
    return Shares(np.arange(n), labels, right, np.ones(n), n, int(labels.max(initial=0)) + 1)


def overlaps(outcome: MetricInput) -> Shares:
    """For each class or label, the share of what is right among the images that have it or get it."""
    labels, predicted, n = outcome.labels, outcome.predicted, len(outcome.labels)
    if labels.ndim == 2:
        rows, codes = np.nonzero(labels | predicted)
        right = (labels & predicted)[rows, codes].astype(np.float64)
        return Shares(rows, codes, right, np.ones(len(rows)), n, labels.shape[1], harmonic=True)
    wrong = np.flatnonzero(labels != predicted)
    rows, codes = np.concatenate([np.arange(n), wrong]), np.concatenate([labels, predicted[wrong]])
    right = np.concatenate([labels == predicted, np.zeros(len(wrong), bool)]).astype(np.float64)
    return Shares(rows, codes, right, np.ones(len(rows)), n, int(codes.max(initial=0)) + 1, harmonic=True)


def overlap(outcome: MetricInput) -> Shares:
    """Over all pairs of image and label, the share of what is right among those that are there or given."""
    found = overlaps(outcome)
    return Shares(found.rows, np.zeros_like(found.codes), found.part, found.whole, found.images, 1, harmonic=True)
