"""A model's result on one part of the data in plain counts: the basis of the verdict.

Counts and Wilson's intervals alone, nothing resampled, so that a terminal has them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.metrics.predictions import LabelledPredictions, Target
from featx.metrics.shares import LEVEL, Interval, of_images, right_images, share_interval

_LEAST = 5  # images of a class; of fewer, nothing is certain
SURE = 0.9  # confidence from which on a mistake may be the label's


@dataclass(frozen=True)
class ClassTally:
    """One class or label.

    images : that have it; right : of these, those that are given it; stray : others that are given it as well
    worse : whether it is right less often than all images are by more than chance, also as the worst of so many classes
    """

    label: str
    images: int
    right: int
    stray: int
    worse: bool

    @property
    def share(self) -> float:
        """Images that are right, of those that have it or, where an image has several labels, are given it."""
        return self.right / max(self.images, 1)


@dataclass(frozen=True)
class Mixup:
    """Images of one class that are taken for another. of : images of the actual class"""

    actual: str
    predicted: str
    images: int
    of: int


@dataclass(frozen=True)
class Standing:
    """One part of the data in counts.

    part : "test", "val", or the name of data; target : one class per image, or several labels
    images, right : of several labels, an image is right where all of its labels are
    interval : 95 % of the share that is right; groups : that it takes as wholes, None where all images are independent
    classes : those with images; unknown : classes with images that the model does not know
    mixups : the most frequent first; sure : mistakes of a confidence of at least `SURE`
    """

    part: str
    target: Target
    images: int
    right: int
    interval: Interval
    groups: int | None
    classes: tuple[ClassTally, ...]
    mixups: tuple[Mixup, ...]
    sure: int
    unknown: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of images that are right."""
        return self.right / self.images

    @property
    def largest(self) -> ClassTally:
        """The class with the most images."""
        return max(self.classes, key=lambda one: one.images)

    def weakest(self) -> list[ClassTally]:
        """Classes with a mistake that are right less often than the mean image, the least often first.

        Only those that are clearly worse, where there are such.
        """
        found = [one for one in self.classes if one.right < one.images and (one.share < self.share or not self.right)]
        found = [one for one in found if one.worse] or found
        return sorted(found, key=lambda one: (one.share, -one.images))


def stand(predictions: LabelledPredictions) -> Standing:
    """Count one part, which must have an image."""
    right = predictions.correct
    interval = share_interval(right_images(predictions), predictions.groups)
    assert interval is not None  # of a share of one image at least
    several, names = predictions.target == "labels", predictions.classes
    known = predictions.probabilities.shape[1]
    given = () if several else (np.arange(len(predictions)), predictions.predicted)
    confidence = predictions.probabilities[given]  # of the class that is given, with weights not always the likeliest
    return Standing(
        predictions.part,
        predictions.target,
        len(predictions),
        int(right.sum()),
        interval,
        None if predictions.groups is None else len(np.unique(predictions.groups)),
        _tally(predictions),
        () if several else _mixups(predictions),
        0 if several else int((~right & (confidence >= SURE)).sum()),
        () if several else tuple(names[code] for code in np.unique(predictions.labels) if code >= known),
    )


def _tally(predictions: LabelledPredictions) -> tuple[ClassTally, ...]:
    k = len(predictions.classes)
    if predictions.target == "labels":
        there, given = predictions.labels.astype(bool), np.asarray(predictions.predicted, bool)
        images, right, all_given = there.sum(axis=0), (there & given).sum(axis=0), given.sum(axis=0)
    else:
        hits = predictions.labels[predictions.correct]
        images, right = np.bincount(predictions.labels, minlength=k), np.bincount(hits, minlength=k)
        all_given = np.bincount(predictions.predicted, minlength=k)
    worse = _worse(right, images) if predictions.groups is None else _worse_in_groups(predictions, right, images)
    return tuple(
        ClassTally(label, int(images[code]), int(right[code]), int(all_given[code] - right[code]), worse[code])
        for code, label in enumerate(predictions.classes)
        if images[code]
    )


def _worse(right: np.ndarray, images: np.ndarray) -> list[bool]:
    """Which classes are below the share of all, at a level that allows for choosing the worst of many (Bonferroni).

    By the binomial distribution itself: Wilson's interval, on the few images of a class, names one of ten equal classes
    in a tenth of the test sets of 60 images.
    """
    from scipy.stats import binom

    share, level = _usual(right, images)
    return [bool(n >= _LEAST and binom.cdf(hit, n, share) < level) for hit, n in zip(right, images, strict=True)]


def _worse_in_groups(predictions: LabelledPredictions, right: np.ndarray, images: np.ndarray) -> list[bool]:
    """The same where images belong together: groups of a class count as their spread says."""
    share, level = _usual(right, images)
    assert predictions.groups is not None
    found = []
    for code in range(len(images)):
        has = predictions.labels[:, code].astype(bool) if predictions.labels.ndim == 2 else predictions.labels == code
        given = predictions.predicted[has]
        hits = given[:, code] if predictions.labels.ndim == 2 else given == code
        both = share_interval(of_images(hits), predictions.groups[has], 1 - 2 * level)
        found.append(both is not None and bool(images[code] >= _LEAST and both[1] < share))
    return found


def _usual(right: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """The share of all that is right, and the level at which one of so many classes is below it."""
    return float(right.sum() / max(images.sum(), 1)), (1 - LEVEL) / max(int((images > 0).sum()), 1)


def _mixups(predictions: LabelledPredictions) -> tuple[Mixup, ...]:
    wrong = ~predictions.correct
    names, sizes = predictions.classes, np.bincount(predictions.labels, minlength=len(predictions.classes))
    pairs = np.stack([predictions.labels[wrong], predictions.predicted[wrong]], axis=1)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    order: Sequence[int] = np.lexsort((*kinds.T[::-1], -counts)).tolist()
    return tuple(Mixup(names[kinds[i, 0]], names[kinds[i, 1]], int(counts[i]), int(sizes[kinds[i, 0]])) for i in order)
