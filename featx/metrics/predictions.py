"""Labelled images with a model's predictions: the input of every metric.

Labels are of one kind for a whole set, its target: one class per image, or several labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from featx.errors import DataError

Target = Literal["class", "labels"]
TARGETS: tuple[Target, ...] = ("class", "labels")


def target_of(y: np.ndarray) -> Target:
    """The kind of target: `class` for codes int (n,), `labels` for bool (n, k)."""
    return "labels" if y.ndim == 2 else "class"


class MetricInput(Protocol):
    """What a metric is computed from, of n images and the k classes that a model knows.

    labels : int64 (n,), positions in the columns of `probabilities`, past them for a class that the model does not know
        and is always wrong about; or bool (n, k)
    probabilities : float64 (n, k)
    predicted : int64 (n,), or bool (n, k)
    """

    @property
    def labels(self) -> np.ndarray:
        """What is true."""

    @property
    def probabilities(self) -> np.ndarray:
        """How likely each class or label is."""

    @property
    def predicted(self) -> np.ndarray:
        """What the model predicts."""

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each image, int64 (n,), where images are no independent examples."""


@dataclass(frozen=True)
class LabelledPredictions:
    """One part of the data, labelled and predicted.

    labels : int64 (n,), positions in `classes`; bool (n, k) where an image can have several
    probabilities : float64 (n, k)
    classes : k names, then names of classes that the model does not know (labels may point there)
    thresholds : from which probability on each of several labels is predicted: float64 (k,), or (n, k) where the images
        were not all predicted by one model; None: 0.5
    part : "val", "test", or the name of data
    paths : of the n images
    groups : int64 (n,), equal for images that belong together, such as those of one patient; None: all independent
    emphasis : what probabilities of one class per image are multiplied by for the decision: float64 (k,), or (n, k)
        where the images were not all predicted by one model; None: by nothing
    """

    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    thresholds: np.ndarray | None = None
    part: str = ""
    paths: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    emphasis: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def target(self) -> Target:
        """Whether an image has one class or several labels."""
        return target_of(self.labels)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The class that each image is given, int64 (n,); or the labels that reach their threshold, bool (n, k)."""
        if self.target == "class":
            return decide(self.probabilities, self.emphasis)
        return np.asarray(self.probabilities >= (0.5 if self.thresholds is None else self.thresholds))

    def take(self, rows: np.ndarray) -> LabelledPredictions:
        """Some of the images."""
        thresholds, groups, emphasis = self.thresholds, self.groups, self.emphasis
        return replace(
            self,
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            thresholds=thresholds[rows] if thresholds is not None and thresholds.ndim == 2 else thresholds,
            paths=tuple(self.paths[row] for row in rows),
            groups=None if groups is None else groups[rows],
            emphasis=emphasis[rows] if emphasis is not None and emphasis.ndim == 2 else emphasis,
        )

    @property
    def correct(self) -> np.ndarray:
        """Which images are right, bool (n,); of several labels, those all of whose labels are."""
        return correct(self)


def decide(probabilities: np.ndarray, emphasis: np.ndarray | None) -> np.ndarray:
    """The class that is given, int64 (n,), of probabilities (n, k): the likeliest, or that of the highest product."""
    return np.asarray((probabilities if emphasis is None else probabilities * emphasis).argmax(axis=1))


def group_codes(names: Sequence[str] | None, rows: np.ndarray) -> np.ndarray | None:
    """The groups of some images as codes, int64 (rows,), by the names of all; an image without one is its own."""
    if names is None or not len(rows):
        return None
    alone = [names[row] or (row,) for row in rows.tolist()]
    codes: dict[object, int] = {}
    return np.array([codes.setdefault(name, len(codes)) for name in alone], np.int64)


def correct(outcome: MetricInput) -> np.ndarray:
    """Which images are right, bool (n,); of several labels, those all of whose labels are."""
    same = np.asarray(outcome.predicted == outcome.labels)
    return same if same.ndim == 1 else np.asarray(same.all(axis=1))


def indicators(outcome: MetricInput) -> np.ndarray:
    """Whether an image is of a class that the model knows, or has a label, bool (n, k)."""
    if outcome.labels.ndim == 2:
        return outcome.labels.astype(bool)
    return np.asarray(outcome.labels[:, None] == np.arange(outcome.probabilities.shape[1]))


def align(names: Sequence[str], labels: np.ndarray, known: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Labels (positions in `names`) as positions in the model's classes, unknown ones after them.

    Returns the new labels (n,) and the list of all classes.
    """
    extra = [names[code] for code in np.unique(labels) if names[code] not in known]
    everything = [*known, *extra]
    where = {name: i for i, name in enumerate(everything)}
    return np.array([where[names[code]] for code in labels], np.int64), everything


def align_labels(names: Sequence[str], labels: np.ndarray, known: Sequence[str]) -> np.ndarray:
    """Labels bool (n, len(names)) in the order of the model's classes.

    Raises
    ------
    DataError
        A label that the model does not know, on some image.
    """
    unknown = [
        name for name, used in zip(names, np.any(labels, axis=0).tolist(), strict=True) if used and name not in known
    ]
    if unknown:
        raise DataError(f"The model does not know the label {', '.join(unknown[:5])}; it has {', '.join(known[:20])}.")
    where = {name: i for i, name in enumerate(names)}
    return np.stack(
        [labels[:, where[name]] if name in where else np.zeros(len(labels), bool) for name in known], axis=1
    )
