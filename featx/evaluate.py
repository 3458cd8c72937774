"""How right a model is: metrics of probabilities against labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.bundle import Bundle
from featx.dataset import ImageSet
from featx.errors import DataError
from featx.predict import iter_probabilities
from featx.progress import Progress, no_progress
from featx.uncertainty import bootstrap_intervals, log_losses, reliability

_KEYS = (
    *("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "top5_accuracy"),
    *("expected_calibration_error", "intervals", "per_class", "confusion"),
)


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


def measure(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Metrics of one part of the data. What is not defined is None.

    labels : int64 (n,), positions in `classes`; a label past `probabilities`' columns is a class that the model does
        not know, and always wrong
    probabilities : float64 (n, k), k <= len(classes)

    Returns
    -------
    dict
        accuracy, balanced_accuracy, macro_f1, log_loss (natural), top5_accuracy (None for five classes or fewer),
        expected_calibration_error, intervals {metric: [low, high]} (95 %, by bootstrap; None where it has no value),
        per_class [{label, precision, recall, f1, images}], confusion (rows: truth, columns: prediction)
    """
    if not len(labels):
        return dict.fromkeys(_KEYS) | {"images": 0}
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    known = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    codes = np.arange(len(classes))
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, predicted, labels=codes, average=None, zero_division=np.nan
    )
    present = images > 0
    counted = present | np.isin(codes, predicted)
    return {
        "images": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[counted].mean()),
        "log_loss": _log_loss(labels, probabilities),
        "top5_accuracy": _top_accuracy(labels, probabilities, 5) if known > 5 else None,
        "expected_calibration_error": reliability(labels, probabilities).expected_calibration_error,
        "intervals": bootstrap_intervals(labels, probabilities),
        "per_class": [
            {"label": label, "precision": _defined(p), "recall": _defined(r), "f1": _defined(f), "images": int(n)}
            for label, p, r, f, n in zip(classes, precision, recall, f1, images, strict=True)
        ],
        "confusion": confusion_matrix(labels, predicted, labels=codes).tolist(),
    }


def _defined(value: float) -> float | None:
    """None for precision without a prediction, recall without an image, f1 without either."""
    return None if np.isnan(value) else float(value)


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Mean of -log p(truth); None with unknown classes."""
    losses = log_losses(labels, probabilities)
    return None if losses is None else float(losses.mean())


def _top_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    best = np.argpartition(-probabilities, k - 1, axis=1)[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """The single numbers of `measure`, as a bundle keeps them."""
    return {name: value for name, value in metrics.items() if name not in {"per_class", "confusion"}}


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
    return measure(judged.labels, judged.probabilities, judged.classes), bad


def judge(
    bundle: Bundle, images: ImageSet, part: str, progress: Progress = no_progress
) -> tuple[Judged, list[dict[str, str]]]:
    """Predict labelled images; returns what is to be measured, and the images that could not be read."""
    if images.labels is None or images.multilabel:
        raise DataError(f"{images.source} must have one label per image to be measured against.")
    labelled = images.take(np.flatnonzero(images.labels >= 0))
    rows, chances, bad = probabilities_of(bundle, labelled.paths, progress)
    if len(labelled) and not len(rows):
        raise DataError(f"None of the {len(labelled)} images can be read. featx check says why.")
    aligned, everything = align(images.classes, np.asarray(labelled.labels)[rows], bundle.classes)
    return Judged(part, tuple(labelled.paths[row] for row in rows), aligned, chances, tuple(everything)), bad


def probabilities_of(
    bundle: Bundle, paths: Sequence[str], progress: Progress = no_progress
) -> tuple[np.ndarray, np.ndarray, list[dict[str, str]]]:
    """Positions in `paths` of the readable images, their probabilities (n, classes), and the unreadable ones."""
    rows, chances = [np.empty(0, np.int64)], [np.empty((0, len(bundle.classes)))]
    bad: list[dict[str, str]] = []
    done = 0
    for some, probabilities, unread in iter_probabilities(bundle, paths):
        rows.append(some)
        chances.append(probabilities)
        bad += [{"path": paths[row], "reason": reason} for row, reason in unread]
        done += len(some) + len(unread)
        progress("predict", done, len(paths), bad=len(bad))
    return np.concatenate(rows), np.concatenate(chances), bad
