"""A learning curve from cached features: a quick head on more and more images, measured on others, several times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.errors import DataError
from featx.features import ArrayFeatures, Features, width
from featx.heads.linear import LogisticRegression
from featx.io.counting import counted
from featx.io.progress import Progress
from featx.metrics.formulas import average_precisions
from featx.selection.folds import make_folds

_SIZES = 9
_EACH = 3  # images of a class, on average, at the smallest size
_PARTS = 4  # one of so many is measured on
_STRENGTHS = (0.001, 0.01, 0.1)  # of the head; the best of the first repeat is taken at each size
_MOST_VALUES = 200_000_000  # of features that are held: 800 MB
_MOST_ROWS = 30_000  # minutes of work
_MOST_MEASURED = 20_000  # images
_AT_ONCE = 4096  # images whose logits are held


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy against the number of images.

    sizes : int64 (s,), ascending
    right : float64 (repeats, s), the share of right answers on images that were not fitted on; of images with several
        labels the mean average precision
    recall : float64 (repeats, s, classes), the same of each class, or label; NaN where none was measured
    """

    sizes: np.ndarray
    right: np.ndarray
    recall: np.ndarray


def measure_curve(
    features: Features, y: np.ndarray, groups: np.ndarray | None, repeats: int, seed: int, progress: Progress
) -> LearningCurve:
    """Fit a logistic regression on random, growing parts of three quarters of the rows, and measure on the last.

    Parameters
    ----------
    features : of n rows, no two of the same image; of more than `most_rows`, so many are drawn
    y : int64 (n,), codes of at least two classes, or bool (n, k), which of k labels a row has
    groups : int64 (n,), rows that stay on one side

    Raises
    ------
    DataError
        Too few images for a curve of three sizes.
    """
    generator = np.random.default_rng(seed)
    most = most_rows(width(features))
    if len(y) > most:
        kept = np.sort(generator.permutation(len(y))[:most])
        features, y, groups = features.take(kept), y[kept], None if groups is None else groups[kept]
    x = ArrayFeatures(features.asarray(), features.outputs)
    classes = np.unique(y) if y.ndim == 1 else np.flatnonzero(y.any(axis=0))
    y = y if y.ndim == 1 else y[:, classes]
    right, recall, strengths = [], [], dict[int, float]()
    sizes = np.empty(0, np.int64)
    for repeat in range(repeats):
        order, measured = _deal(y, groups, seed + repeat, np.random.default_rng([seed, repeat]))
        if repeat == 0:
            sizes = _sizes(len(order), len(classes))
        rows = []
        for size in sizes.tolist():
            some = order[: min(size, len(order))]
            if repeat == 0:
                strengths[size] = _strength(x.take(some), y[some], None if groups is None else groups[some], seed)
            rows.append(_measure(x, y, some, measured, strengths[size]))
            progress("enough", repeat * len(sizes) + len(rows), repeats * len(sizes))
        each = [_recalls(one, y[measured], classes) for one in rows]
        right.append([one.mean() if y.ndim == 1 else np.nanmean(of) for one, of in zip(rows, each, strict=True)])
        recall.append(each)
    return LearningCurve(sizes, np.array(right), np.array(recall))


def most_rows(d: int) -> int:
    """How many rows of d values are measured on and with."""
    return min(_MOST_ROWS, max(1000, _MOST_VALUES // max(1, d)))


def _sizes(most: int, classes: int) -> np.ndarray:
    least = max(2 * classes, min(_EACH * classes, most // 8))
    if most < 4 * least or most < 20:
        raise DataError(
            f"There are {counted(most, 'image')} of {counted(classes, 'class', 'classes')} to fit on, too few for a "
            f"curve; some {max(20, 4 * least):,} are needed."
        )
    return np.unique(np.geomspace(least, most, _SIZES).round().astype(np.int64))


def _deal(
    y: np.ndarray, groups: np.ndarray | None, seed: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on in an order of which every beginning has every class in its share, and rows to measure on."""
    fold = make_folds(y, groups, _PARTS, seed)
    measured = generator.permutation(np.flatnonzero(fold == 0))[:_MOST_MEASURED]
    rows = generator.permutation(np.flatnonzero(fold != 0))
    if y.ndim == 2:
        return _begin_with_each(rows, y), measured
    place = np.empty(len(rows))
    for code in np.unique(y[rows]):
        mine = np.flatnonzero(y[rows] == code)
        place[mine] = (np.arange(len(mine)) + generator.random()) / len(mine)
    firsts = [np.flatnonzero(y[rows] == code)[np.argsort(place[y[rows] == code])[0]] for code in np.unique(y[rows])]
    place[firsts] -= 1  # a class of few images would else come late
    return rows[np.argsort(place, kind="stable")], measured


def _begin_with_each(rows: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same order, but that an image with each label comes first, and one without it."""
    firsts = [rows[np.flatnonzero(column)[0]] for column in (*y[rows].T, *~y[rows].T) if column.any()]
    return np.array(list(dict.fromkeys([*firsts, *rows.tolist()])), np.int64)


def _strength(x: Features, y: np.ndarray, groups: np.ndarray | None, seed: int) -> float:
    """The strength of the least loss on three folds; the strongest regularisation where none can be left out."""
    folds = make_folds(y, groups, 3, seed)
    judged = folds >= 0
    if folds.max() < 1:
        return _STRENGTHS[0]
    best, found = np.inf, _STRENGTHS[0]
    for trial in LogisticRegression().search(x, y, folds, _STRENGTHS):
        loss = _loss(trial.logits[judged], y, judged)
        if loss < best:
            best, found = loss, trial.strength
    return found


def _loss(logits: np.ndarray, y: np.ndarray, judged: np.ndarray) -> float:
    """The mean log loss of judged rows; of several labels that of each label."""
    if y.ndim == 2:
        return float(np.logaddexp(0, np.where(y[judged], -logits, logits)).mean())
    index = np.unique(y, return_inverse=True)[1][judged]
    top = logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0] - logits[np.arange(len(logits)), index]).mean())


def _measure(x: Features, y: np.ndarray, some: np.ndarray, measured: np.ndarray, strength: float) -> np.ndarray:
    """Which of the measured rows a head gets right that is fitted on some: bool (m,); of several labels, its logits."""
    head = LogisticRegression(C=strength).fit(x.take(some), y[some])
    logits = (head.logits(x.take(measured[start : start + _AT_ONCE])) for start in range(0, len(measured), _AT_ONCE))
    if y.ndim == 2:
        return np.concatenate(list(logits))
    guessed = [head.classes_[block.argmax(axis=1)] for block in logits]
    return np.asarray(np.concatenate(guessed) == y[measured])


def _recalls(hit: np.ndarray, y: np.ndarray, classes: np.ndarray) -> list[float]:
    if y.ndim == 2:
        return list(map(float, average_precisions(y, hit)))
    return [float(hit[y == code].mean()) if (y == code).any() else float("nan") for code in classes]
