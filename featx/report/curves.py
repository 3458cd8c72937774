"""ROC and precision-recall curves, class against the rest, and their averages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_GRID = np.linspace(0, 1, 201)  # where the curves of classes are averaged

Line = tuple[np.ndarray, np.ndarray, float]  # x, y ascending in x, and the area


@dataclass(frozen=True)
class Curve:
    """A line and the area under it. x, y : float64 (m,), x ascending in [0, 1]."""

    name: str
    x: np.ndarray
    y: np.ndarray
    area: float


@dataclass(frozen=True)
class Curves:
    """Curves of one kind.

    micro : over all pairs of image and class; macro : the mean over classes at each x, its area the mean of theirs
    classes : of every class that has images and is not the only one
    """

    micro: Curve
    macro: Curve
    classes: tuple[Curve, ...]

    def worst(self, count: int) -> tuple[Curve, ...]:
        """The classes with the smallest areas, the worst first."""
        return tuple(sorted(self.classes, key=lambda curve: curve.area)[:count])

    def areas(self) -> dict[str, float]:
        """Area by class."""
        return {curve.name: curve.area for curve in self.classes}


def roc_curves(labelled: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Curves | None:
    """True positive rate over false positive rate; the area as scikit-learn's `roc_auc_score` has it.

    labelled : bool (n, k), whether an image is of a class; probabilities : float64 (n, k); names : of the k classes

    None where no class has both images and others.
    """
    return _curves(_roc, labelled, probabilities, names)


def precision_recall_curves(labelled: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Curves | None:
    """Precision over recall; the area is the average precision, as scikit-learn has it. See `roc_curves`."""
    return _curves(_precision_recall, labelled, probabilities, names)


def _curves(
    line: Callable[[np.ndarray, np.ndarray], Line],
    labelled: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
) -> Curves | None:
    codes = np.flatnonzero(labelled.any(axis=0) & ~labelled.all(axis=0)).tolist()
    if not codes:
        return None
    classes = tuple(Curve(names[code], *line(labelled[:, code], probabilities[:, code])) for code in codes)
    mean = np.mean([np.interp(_GRID, curve.x, curve.y) for curve in classes], axis=0)
    macro = Curve("macro average", _GRID, mean, float(np.mean([curve.area for curve in classes])))
    return Curves(Curve("micro average", *line(labelled.ravel(), probabilities.ravel())), macro, classes)


def _roc(labelled: np.ndarray, scores: np.ndarray) -> Line:
    from sklearn.metrics import auc, roc_curve

    x, y, _ = roc_curve(labelled, scores)
    return x, y, float(auc(x, y))


def _precision_recall(labelled: np.ndarray, scores: np.ndarray) -> Line:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(labelled, scores, drop_intermediate=True)
    return recall[::-1], precision[::-1], float(-np.sum(np.diff(recall) * precision[:-1]))
