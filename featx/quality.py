"""Data quality, from the features that are there: likely label errors, near-duplicates, outliers.

What is found is a list to look through, the most suspicious first. Nothing is removed or changed: labels that a person
has corrected come back as a CSV (`featx.dataset.relabel`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.heads import ArrayFeatures, Features, head_kind, width
from featx.heads.calibrate import fit_temperature, softmax
from featx.heads.folds import make_folds
from featx.heads.scaling import check_finite
from featx.heads.scores import score
from featx.heads.search import try_strengths
from featx.options import HeadOptions
from featx.similarity import close_pairs, nearest

NEAR = 0.95
"""Cosine similarity from which two images count as near-duplicates. Of 1,500 digits and of 1,500 Fashion-MNIST images,
on an inner and on the last layer of EfficientNetLite0, 99 % have no other image closer than 0.93 to 0.963. The median
of their JPEG copies of quality 90 is at 0.954 to 0.981, of copies brighter by a tenth above 0.989. Copies that are cut
by a tenth or halved in size mostly are as far away as other images, and not found."""
MOST_PAIRS = 10_000  # of either kind, within a part and across parts
OUTLYING = 3.5  # robust standard deviations: Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993)
_NEIGHBOURS = 5
_LEAST_CLASS = 10  # images from which the spread of a class is worth computing
_MAD = 1.4826  # times the median absolute deviation: the standard deviation of a normal distribution
_SLACK = 1e-6  # a probability this little below its threshold reaches it
_UNLIKELY = 0.05  # the probability of a label from which down it is suspicious in any case
_STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)  # C, from strong regularisation on, until the loss rises
_HELD = 256 << 20  # bytes of features whose neighbours are looked for at once


@dataclass(frozen=True)
class LabelErrors:
    """Rows whose label is likely wrong, the likeliest first.

    rows : int64 (m,), positions; suggested : int64 (m,), the codes of the class that they are taken for
    confidence : float64 (m,), the probability of that class; given : float64 (m,), that of the label they have
    """

    rows: np.ndarray
    suggested: np.ndarray
    confidence: np.ndarray
    given: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of nearly equal images: those in different parts of the split first, then by similarity.

    first, second : int64 (m,), positions; similarity : float32 (m,); across : bool (m,), in different parts
    complete : whether there are no more than these
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    across: np.ndarray
    complete: bool = True

    def __len__(self) -> int:
        return len(self.first)


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


def out_of_fold_probabilities(
    features: Features, y: np.ndarray, groups: np.ndarray | None = None, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """The chances that a logistic regression gives each row which was fitted without it and without its group.

    The regularisation with the least log loss is taken: what overfits to wrong labels is sure of them, and loses.

    Parameters
    ----------
    features : of n rows
    y : int64 (n,), codes; at least two different ones

    Returns
    -------
    float64 (n, k), calibrated, in the order of np.unique(y); NaN where a row cannot be left out since it is, or its
    group is, all there is of a class

    Raises
    ------
    FeaturesError
        Features that are not finite.
    """
    check_finite(features)
    kind = head_kind("logreg")
    classes, index = np.unique(y, return_inverse=True)
    held = make_folds(y, groups, folds, seed)
    judged = held >= 0
    chances = np.full((len(y), len(classes)), np.nan)
    if not judged.any():
        return chances
    lowest, best = np.inf, None
    for trial in try_strengths(kind, _STRENGTHS, features, y, held, None, HeadOptions(), seed):
        loss = score("log_loss", trial.logits[judged], index[judged])
        if best is not None and loss >= lowest:
            break
        lowest, best = loss, trial.logits[judged]
    assert best is not None
    chances[judged] = softmax(best, fit_temperature(best, index[judged]))
    return chances


def find_label_errors(y: np.ndarray, chances: np.ndarray) -> LabelErrors:
    """Confident learning: Northcutt, Jiang and Chuang, "Confident Learning" (JAIR 70, 2021).

    A class' threshold is the mean probability that the images with its label have of it. An image is confidently of a
    class that reaches the threshold (of the likeliest, if several do). The share of a label's confident images that are
    confidently of another class estimates how many of its images are mislabelled. As many images as these are in all
    labels together are taken, those with the least probability of their label, and all others whose label has less than
    5 %: where next to all labels are right, the estimate misses single errors. Images whose label is their likeliest
    class are left out.

    With one label in twenty made wrong, 97 % of as many first rows were wrong ones on digits and 85 % on Fashion-MNIST
    (300 images of each class). The paper's other rules gave less: a fixed number from every class 94 % and 85 %, the
    images that are confidently of another class, by margin, 85 % and 69 %.

    Parameters
    ----------
    y : int64 (n,), codes
    chances : float64 (n, k), of rows that the head was not fitted on, in the order of np.unique(y); rows of NaN are
        not judged
    """
    classes, index = np.unique(y, return_inverse=True)
    rows = np.flatnonzero(~np.isnan(chances).any(axis=1))
    label, p = index[rows], chances[rows]
    given, likeliest = p[np.arange(len(rows)), label], p.argmax(axis=1)
    most = max(_count_errors(label, p), int((given < _UNLIKELY).sum()))
    found = np.argsort(given, kind="stable")[:most]
    found = found[likeliest[found] != label[found]]
    best = likeliest[found]
    return LabelErrors(rows[found], classes[best], p[found, best], given[found])


def _count_errors(label: np.ndarray, p: np.ndarray) -> int:
    """How many images are likely mislabelled."""
    k = p.shape[1]
    counts = np.bincount(label, minlength=k)
    given = np.bincount(label, p[np.arange(len(label)), label], k)
    threshold = np.where(counts > 0, given / np.maximum(counts, 1), np.inf)  # no image judged: none reaches it
    reached = p >= threshold - _SLACK
    confident = reached.any(axis=1)
    guess = np.where(reached, p, -1.0).argmax(axis=1)
    joint = np.zeros((k, k))
    np.add.at(joint, (label[confident], guess[confident]), 1)
    right = np.maximum(joint.diagonal(), 1)
    wrong = joint.sum(axis=1) - joint.diagonal()
    return round(float((counts * wrong / (wrong + right)).sum()))


def find_near_duplicates(
    features: Features, split: np.ndarray, threshold: float = NEAR, most: int = MOST_PAIRS
) -> NearDuplicates:
    """All pairs of images whose features have at least this cosine similarity; compared exactly, block by block.

    Parameters
    ----------
    features : of n rows, no two of the same image
    split : (n,), the part of each row
    most : pairs to keep of either kind
    """
    across, within = close_pairs(features, threshold, split, most + 1)
    some = [(pairs.first[:most], pairs.second[:most], pairs.similarity[:most]) for pairs in (across, within)]
    first, second, similarity = (np.concatenate(column) for column in zip(*some, strict=True))
    apart = np.arange(len(first)) < len(some[0][0])
    complete = max(len(across.first), len(within.first)) <= most
    return NearDuplicates(first, second, similarity, apart, complete)


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
    step = max(256, _HELD // (4 * max(1, width(features))))
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        similarity = nearest(features, features.take(rows).asarray(), _NEIGHBOURS, skip=rows)[1]
        distance[rows] = 1 - similarity.mean(axis=1)
    return distance


@dataclass(frozen=True)
class Quality:
    """All that was found. errors : None where images have several labels, which are not judged"""

    errors: LabelErrors | None
    duplicates: NearDuplicates
    outliers: Outliers


def inspect(
    features: Features,
    y: np.ndarray,
    split: np.ndarray,
    groups: np.ndarray | None = None,
    near: float = NEAR,
    memory: int = 4 << 30,
    seed: int = 0,
) -> Quality:
    """Look for all three; for label errors only where an image has one label.

    Parameters
    ----------
    features : of n rows, no two of the same image
    y : int64 (n,), codes of at least two classes; or bool (n, k), which of k labels a row has
    split : (n,), the part of each row
    groups : int64 (n,), rows that are not to judge each other's labels
    near : least similarity of near-duplicates
    memory : bytes of features that may be held; larger ones are read from the disk again and again
    """
    if 4 * features.shape[0] * width(features) <= memory:
        features = ArrayFeatures(features.asarray())
    errors = None
    if y.ndim == 1:
        errors = find_label_errors(y, out_of_fold_probabilities(features, y, groups, seed=seed))
    else:
        check_finite(features)
    return Quality(errors, find_near_duplicates(features, split, near), find_outliers(features, y))
