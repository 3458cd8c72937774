"""A bundle's predictions of labelled images, measured, and whether two bundles differ by more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.bundle.bundle import Bundle
from featx.dataset import ImageSet
from featx.errors import DataError
from featx.inference.predict import Average, iter_probabilities
from featx.io.progress import Progress, no_progress
from featx.metrics.comparison import Comparison, compare
from featx.metrics.measures import measure, measure_labels


@dataclass(frozen=True)
class Judged:
    """One measured part.

    part : "val", "test", or the name of data
    paths : of the n images
    labels : int64 (n,), positions in `classes`; bool (n, k) for a multi-label set
    probabilities : float64 (n, k)
    classes : k names, then names of classes that the model does not know (labels may point there)
    thresholds : float64 (k,) of a multi-label model
    """

    part: str
    paths: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    thresholds: np.ndarray | None = None


def align(names: Sequence[str], labels: np.ndarray, known: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Labels (positions in `names`) as positions in the model's classes, unknown ones after them.

    Returns the new labels (n,) and the list of all classes.
    """
    extra = [names[code] for code in np.unique(labels) if names[code] not in known]
    everything = [*known, *extra]
    where = {name: i for i, name in enumerate(everything)}
    return np.array([where[names[code]] for code in labels], np.int64), everything


def evaluate(
    bundle: Bundle, images: ImageSet, progress: Progress = no_progress
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Predict labelled images and measure; returns the metrics, and the images that could not be read."""
    judged, bad = judge(bundle, images, images.name, progress)
    return measure_judged(judged), bad


def judge(
    bundle: Bundle,
    images: ImageSet,
    part: str,
    progress: Progress = no_progress,
    average: Average | None = None,
) -> tuple[Judged, list[dict[str, str]]]:
    """Predict labelled images; returns what is to be measured, and the images that could not be read.

    average : views over which the probabilities of an image are averaged
    """
    if images.labels is None or images.multilabel != bundle.multilabel:
        kind = "several labels" if bundle.multilabel else "one label"
        raise DataError(f"{images.source} must have {kind} per image to measure {bundle.path} against.")
    labelled = images if images.multilabel else images.take(np.flatnonzero(images.labels >= 0))
    rows, chances, bad = probabilities_of(bundle, labelled.paths, progress, average)
    if len(labelled) and not len(rows):
        raise DataError(f"None of the {len(labelled)} images can be read. featx check says why.")
    paths = tuple(labelled.paths[row] for row in rows)
    labels: np.ndarray = np.asarray(labelled.labels)[rows]
    if bundle.multilabel:
        truth = align_labels(images.classes, labels, bundle.classes)
        return Judged(part, paths, truth, chances, bundle.classes, bundle.thresholds), bad
    aligned, everything = align(images.classes, labels, bundle.classes)
    return Judged(part, paths, aligned, chances, tuple(everything)), bad


def measure_judged(judged: Judged) -> dict[str, Any]:
    """Metrics of a measured part, of whichever kind it is."""
    if judged.thresholds is None:
        return measure(judged.labels, judged.probabilities, judged.classes)
    given = judged.probabilities >= judged.thresholds
    return measure_labels(judged.labels, judged.probabilities, judged.classes, given)


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
        raise DataError(f"The model knows no label {', '.join(unknown[:5])}; it has {', '.join(known[:20])}.")
    where = {name: i for i, name in enumerate(names)}
    return np.stack(
        [labels[:, where[name]] if name in where else np.zeros(len(labels), bool) for name in known], axis=1
    )


def compare_judged(first: Judged, second: Judged) -> Comparison:
    """Compare two models by the images that both were measured on, found again by their paths.

    An image counts as right when its class is, or, of several labels, when all of them are.

    Raises
    ------
    DataError
        One gives several labels per image and the other does not.
    """
    require_comparable(first.thresholds is not None, second.thresholds is not None)
    where = {path: row for row, path in enumerate(second.paths)}
    rows = [row for row, path in enumerate(first.paths) if path in where]
    others = [where[first.paths[row]] for row in rows]
    return compare(_right(first)[rows], _right(second)[others])


def require_comparable(first_multilabel: bool, second_multilabel: bool) -> None:
    """Raise DataError when one of two models gives several labels per image and the other does not."""
    if first_multilabel != second_multilabel:
        which = "first" if first_multilabel else "second"
        raise DataError(f"The {which} of the two bundles gives several labels per image and the other one class.")


def _right(judged: Judged) -> np.ndarray:
    """Which images are answered rightly, bool (n,)."""
    right: np.ndarray
    if judged.thresholds is None:
        right = judged.probabilities.argmax(axis=1) == judged.labels
        return right
    given: np.ndarray = judged.probabilities >= judged.thresholds
    right = (given == judged.labels).all(axis=1)
    return right


def probabilities_of(
    bundle: Bundle, paths: Sequence[str], progress: Progress = no_progress, average: Average | None = None
) -> tuple[np.ndarray, np.ndarray, list[dict[str, str]]]:
    """Positions in `paths` of the readable images, their probabilities (n, classes), and the unreadable ones."""
    rows, chances = [np.empty(0, np.int64)], [np.empty((0, len(bundle.classes)))]
    bad: list[dict[str, str]] = []
    done = 0
    for some, probabilities, unread in iter_probabilities(bundle, paths, average=average):
        rows.append(some)
        chances.append(probabilities)
        bad += [{"path": paths[row], "reason": reason} for row, reason in unread]
        done += len(some) + len(unread)
        progress("predict", done, len(paths), bad=len(bad))
    return np.concatenate(rows), np.concatenate(chances), bad
