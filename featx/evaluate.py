"""How right a model is: metrics of probabilities against labels, and whether two models differ by more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.bundle import Bundle
from featx.dataset import ImageSet
from featx.errors import DataError
from featx.predict import Average, iter_probabilities
from featx.progress import Progress, no_progress
from featx.uncertainty import Comparison, bootstrap_intervals, compare, log_losses, reliability

_KEYS = (
    *("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "top5_accuracy"),
    *("roc_auc_macro", "average_precision_macro"),
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
        roc_auc_macro and average_precision_macro (each class against the rest, the mean over those that are there),
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
        **_rank_metrics(labels[:, None] == np.arange(known), probabilities),
        "expected_calibration_error": reliability(labels, probabilities).expected_calibration_error,
        "intervals": bootstrap_intervals(labels, probabilities),
        "per_class": [
            {"label": label, "precision": _defined(p), "recall": _defined(r), "f1": _defined(f), "images": int(n)}
            for label, p, r, f, n in zip(classes, precision, recall, f1, images, strict=True)
        ],
        "confusion": confusion_matrix(labels, predicted, labels=codes).tolist(),
    }


_LABEL_METRICS = (
    "exact_match",
    "hamming_loss",
    "f1_micro",
    "f1_macro",
    "f1_samples",
    "log_loss",
    "roc_auc_macro",
    "roc_auc_micro",
    "average_precision_macro",
    "average_precision_micro",
    "per_class",
)


def measure_labels(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], given: np.ndarray
) -> dict[str, Any]:
    """Metrics of images with several labels. What is not defined is None.

    truth : bool (n, k); probabilities : float64 (n, k); given : bool (n, k), the labels that the model gives

    Returns
    -------
    dict
        exact_match (all labels of an image right), hamming_loss, f1_micro, f1_macro, f1_samples, log_loss (the mean
        over labels), roc_auc and average_precision _macro and _micro, per_class [{label, precision, recall, f1,
        roc_auc, average_precision, images}]
    """
    if not len(truth):
        return dict.fromkeys(_LABEL_METRICS) | {"images": 0}
    from sklearn.metrics import f1_score, hamming_loss, precision_recall_fscore_support

    precision, recall, f1, images = precision_recall_fscore_support(truth, given, average=None, zero_division=np.nan)
    true = np.where(truth, probabilities, 1 - probabilities)
    ranks = _rank_metrics(truth, probabilities)
    micro = _rank_metrics(truth.reshape(-1, 1), probabilities.reshape(-1, 1))
    rows = zip(classes, precision, recall, f1, images, truth.T, probabilities.T, strict=True)
    counted = truth.any(axis=0) | given.any(axis=0)
    return {
        "images": len(truth),
        "exact_match": float((truth == given).all(axis=1).mean()),
        "hamming_loss": float(hamming_loss(truth, given)),
        "f1_micro": float(f1_score(truth, given, average="micro", zero_division=0.0)),
        "f1_macro": float(f1[counted].mean()) if counted.any() else None,
        "f1_samples": float(f1_score(truth, given, average="samples", zero_division=1.0)),
        "log_loss": float(-np.log(np.clip(true, np.finfo(np.float64).eps, 1.0)).mean()),
        **ranks,
        "roc_auc_micro": micro["roc_auc_macro"],
        "average_precision_micro": micro["average_precision_macro"],
        "per_class": [
            {
                "label": label,
                "precision": _defined(p),
                "recall": _defined(r),
                "f1": _defined(f),
                **{
                    name.removesuffix("_macro"): value
                    for name, value in _rank_metrics(of_class[:, None], chances[:, None]).items()
                },
                "images": int(n),
            }
            for label, p, r, f, n, of_class, chances in rows
        ],
    }


def _rank_metrics(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """Means over the columns that some rows have and others have not; truth bool (n, k), probabilities (n, k)."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    known = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    return {
        name: float(np.mean([of(truth[:, code], probabilities[:, code]) for code in known])) if len(known) else None
        for name, of in (("roc_auc_macro", roc_auc_score), ("average_precision_macro", average_precision_score))
    }


METRIC_KEYS = {  # option --metric -> key of what is measured
    "roc_auc": "roc_auc_macro",
    "average_precision": "average_precision_macro",
}
LABEL_METRIC_KEYS = METRIC_KEYS | {"accuracy": "exact_match", "macro_f1": "f1_macro"}


def metric_of(metrics: dict[str, Any], metric: str) -> float | None:
    """The value of the option --metric among what `measure` or `measure_labels` found."""
    keys = LABEL_METRIC_KEYS if "exact_match" in metrics else METRIC_KEYS
    value: float | None = metrics[keys.get(metric, metric)]
    return value


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
