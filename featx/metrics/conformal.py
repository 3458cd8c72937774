"""Sets of classes that contain the true one for a given share of images, for any model: split conformal prediction.

Images that took no part in fitting a model have a score, 1 minus the probability of what is true of them. A set has
every class whose score is at most the ceil((n + 1) c)-th smallest of theirs. A further image drawn like these n is
covered with a probability of at least c, and at most c + 1 / (n + 1) where no two scores are equal (Vovk, Gammerman and
Shafer, Algorithmic Learning in a Random World, 2005; of all sets with that guarantee these are the smallest where the
probabilities are right: Sadinle, Lei and Wasserman, JASA 2019).

Where an image can have several labels, its score is that of the least likely label that it has, so that the set holds
all of its labels. Per class, only the images with that class (or label) count, and the share holds for each class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_ROUNDING = 1e-6  # of probabilities, between a batch of one engine and of another


@dataclass(frozen=True)
class SetRule:
    """Which classes are in the set of an image.

    limit : float64 (k,), the greatest score with which each class is in a set
    pooled : bool (k,), classes of too few images for a limit of their own
    """

    limit: np.ndarray
    pooled: np.ndarray

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes are in the sets of images with probabilities (n, k): bool (n, k)."""
        return np.asarray(1 - probabilities <= self.limit + _ROUNDING)


@dataclass(frozen=True, eq=False)
class CalibrationScores:
    """Images that a model was not fitted on, with what is true of them.

    probabilities : float64 (n, k)
    labels : int64 (n,), positions of classes, k and above of those that the model does not know; or bool (n, k)
    """

    probabilities: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def scores(self) -> np.ndarray:
        """float64 (n,): 1 minus the probability of what is true, of several labels the least likely one."""
        n, k = self.probabilities.shape
        if self.labels.ndim == 2:
            return np.asarray(np.where(self.labels, 1 - self.probabilities, 0.0).max(axis=1, initial=0.0))
        known = self.labels < k
        return np.where(known, 1 - self.probabilities[np.arange(n), np.where(known, self.labels, 0)], np.inf)

    def rule(self, coverage: float, per_class: bool) -> SetRule:
        """The rule for a share of images in (0, 1); per class where there are enough images of a class."""
        return _rule(self, coverage, per_class)

    def covered(self, rule: SetRule) -> np.ndarray:
        """Which of these images a rule covers: bool (n,)."""
        n, k = self.probabilities.shape
        inside = rule.sets(self.probabilities)
        if self.labels.ndim == 2:
            return np.asarray((inside | ~self.labels).all(axis=1))
        known = self.labels < k
        return np.asarray(known & inside[np.arange(n), np.where(known, self.labels, 0)])


def limit_of(scores: np.ndarray, coverage: float) -> float:
    """The ceil((n + 1) coverage)-th smallest of n scores; infinity where there are too few for that."""
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf


def fewest(coverage: float) -> int:
    """How many images it takes for a set that is not simply every class: 9 for a share of 0.9."""
    return math.ceil(round(coverage / (1 - coverage), 9))


@lru_cache(64)
def _rule(found: CalibrationScores, coverage: float, per_class: bool) -> SetRule:
    k = found.probabilities.shape[1]
    if not per_class:
        return SetRule(np.full(k, limit_of(found.scores, coverage)), np.zeros(k, bool))
    own = [_scores_of(found, code) for code in range(k)]
    pooled = np.array([len(scores) < fewest(coverage) for scores in own])
    limit = np.array([limit_of(scores, coverage) for scores in own])
    if pooled.any():
        together = np.concatenate([scores for scores, few in zip(own, pooled, strict=True) if few])
        limit[pooled] = limit_of(together if len(together) >= fewest(coverage) else np.concatenate(own), coverage)
    return SetRule(limit, pooled)


def _scores_of(found: CalibrationScores, code: int) -> np.ndarray:
    """The scores of a class in the images that have it."""
    has = found.labels[:, code] if found.labels.ndim == 2 else found.labels == code
    return np.asarray(1 - found.probabilities[has, code])
