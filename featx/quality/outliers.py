"""Images that differ from the others of their class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.features import Features, width
from featx.metrics.similarity import nearest

OUTLYING = 3.5  # robust standard deviations: Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993)
_NEIGHBOURS = 5
_LEAST_CLASS = 10  # images from which the spread of a class is worth computing
_MAD = 1.4826  # times the median absolute deviation: the standard deviation of a normal distribution
_IN_MEMORY = 256 << 20  # bytes of features whose neighbours are looked for at once


@dataclass(frozen=True)
class Outliers:
    """Rows far from the others of their class, the farthest first.

    rows : int64 (m,), positions; distance : float64 (m,), mean cosine distance to the nearest of its class
    score : float64 (m,), robust standard deviations above what is usual in the class
    """

    rows: np.ndarray
    distance: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def find_outliers(features: Features, y: np.ndarray, least: float = OUTLYING) -> Outliers:
    """Images that are unlike the others of their class.

    The measure is the mean cosine distance to the five nearest images of the class, which knows no shape that a class
    has to have: a class of two kinds of image has no outliers between them. Its logarithm is compared with that of the
    class by median and median absolute deviation, which a few outliers do not move. Classes of fewer than ten images
    are not judged. An image with several labels is judged by the one whose images it is most like; those without any
    are a class of their own.

    Parameters
    ----------
    features : of n rows, no two of the same image
    y : int64 (n,), codes; or bool (n, k), which of k labels a row has
    least : robust standard deviations
    """
    distance, scores = np.full(len(y), np.nan), np.full(len(y), np.inf)
    for rows in _rows_by_class(y):
        if len(rows) >= _LEAST_CLASS:
            found = _neighbour_distance(features.take(rows))
            score = robust_scores(np.log(np.maximum(found, np.finfo(np.float32).eps)))
            nearer = score < scores[rows]
            distance[rows[nearer]], scores[rows[nearer]] = found[nearer], score[nearer]
    found = np.flatnonzero((scores >= least) & np.isfinite(scores))
    found = found[np.argsort(-scores[found], kind="stable")]
    return Outliers(found, distance[found], scores[found])


def _rows_by_class(y: np.ndarray) -> list[np.ndarray]:
    """The rows of each class; of several labels, those with each label, and those without any."""
    if y.ndim == 1:
        return [np.flatnonzero(y == code) for code in np.unique(y)]
    return [*(np.flatnonzero(of_label) for of_label in y.T), np.flatnonzero(~y.any(axis=1))]


def robust_scores(values: np.ndarray) -> np.ndarray:
    """How many robust standard deviations values (n,) are above their median; 0 where half of them are equal."""
    above = values - np.median(values)
    spread = _MAD * np.median(np.abs(above))
    return np.asarray(above / spread if spread > 0 else np.zeros(len(values)), np.float64)


def _neighbour_distance(features: Features) -> np.ndarray:
    """Mean cosine distance of each row to its nearest others: float64 (n,)."""
    n = features.shape[0]
    distance = np.empty(n)
    step = max(256, _IN_MEMORY // (4 * max(1, width(features))))
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        similarity = nearest(features, features.take(rows).asarray(), _NEIGHBOURS, skip=rows)[1]
        distance[rows] = 1 - similarity.mean(axis=1)
    return distance
