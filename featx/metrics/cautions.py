"""Which intervals are too narrow for the images at hand, as simulated in docs/statistics.md."""

from __future__ import annotations

import numpy as np

from featx.metrics.predictions import LabelledPredictions
from featx.metrics.shares import FEW_ERRORS

_OF_A_CLASS = 25  # images; with fewer, the intervals of means over classes are too narrow
_RESAMPLED = {"class": 2_000, "labels": 300}  # images; with fewer, bootstrap intervals (log loss; areas) are too narrow


def cautions(predictions: LabelledPredictions) -> tuple[str, ...]:
    """One sentence for every kind of interval that is known to be too narrow; none without images."""
    n, groups = len(predictions), predictions.groups
    if not n:
        return ()
    wrong = ~predictions.correct
    units, word = (n, "images") if groups is None else (len(np.unique(groups)), "groups")
    failed = int(wrong.sum()) if groups is None else len(np.unique(groups[wrong]))
    found = []
    if failed < FEW_ERRORS:
        found.append(
            f"{_few(failed, units, word)}: with fewer than {FEW_ERRORS} wrong ones, the intervals of shares can be too "
            "narrow."
        )
    of_class = _of_a_class(predictions, units)
    if of_class < _OF_A_CLASS:
        figures = "macro F1" if groups is None else "balanced accuracy and macro F1"
        if predictions.target == "labels":
            figures = "macro F1, ROC AUC and average precision"
        found.append(
            f"There are {of_class:.0f} {word} for each {'label' if predictions.target == 'labels' else 'class'} on "
            f"average: with fewer than {_OF_A_CLASS}, the intervals of {figures} are too narrow."
        )
    if units < _RESAMPLED[predictions.target]:
        figures = "log loss" if predictions.target == "class" else "F1 by image, ROC AUC and average precision"
        found.append(
            f"With fewer than {_RESAMPLED[predictions.target]:,} {word}, the interval of {figures} is too narrow."
        )
    return tuple(found)


def _few(failed: int, units: int, word: str) -> str:
    """How few are wrong: `None of 12 images is wrong`, `Only 1 of 12 images is wrong`."""
    if not failed:
        return f"None of {units:,} {word} is wrong" if units > 1 else f"The only one of the {word} is right"
    return f"Only {failed} of {units:,} {word} {'is' if failed == 1 else 'are'} wrong"


def _of_a_class(predictions: LabelledPredictions, units: int) -> float:
    """How many images or groups there are of a class, or images of a label, on average over those that occur."""
    labels = predictions.labels
    if labels.ndim == 1:
        return units / len(np.unique(labels))
    return float(labels.sum() / max(labels.any(axis=0).sum(), 1) * units / len(labels))
