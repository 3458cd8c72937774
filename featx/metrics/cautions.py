"""Which intervals are too narrow for the images at hand, as simulated in docs/statistics.md."""

from __future__ import annotations

import numpy as np

from featx.io.counting import agreeing, counted, counted_of
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
    units, word = (n, "image") if groups is None else (len(np.unique(groups)), "group")
    failed = int(wrong.sum()) if groups is None else len(np.unique(groups[wrong]))
    found = []
    if failed < FEW_ERRORS:
        found.append(f"{_few(failed, units, groups is not None)}, the intervals of shares can be too narrow.")
    of_class = _of_a_class(predictions, units)
    if of_class < _OF_A_CLASS and groups is not None and predictions.target == "class":
        found.append(
            f"The class of the fewest groups has {counted(int(of_class), 'group')}: with fewer than {_OF_A_CLASS}, the "
            "intervals of balanced accuracy and macro F1 can be too narrow."
        )
    elif of_class < _OF_A_CLASS:
        figures = "interval of macro F1 is"
        if predictions.target == "labels":
            figures = "intervals of macro F1, ROC AUC and average precision are"
        kind = "label" if predictions.target == "labels" else "class"
        has = f"{of_class:.3g} {agreeing(of_class, word, f'{word}s')}"
        found.append(f"Each {kind} has {has} on average: with fewer than {_OF_A_CLASS}, the {figures} too narrow.")
    if units < _RESAMPLED[predictions.target]:
        figures = "interval of log loss is"
        if predictions.target == "labels":
            figures = "intervals of F1 by image, ROC AUC and average precision are"
        found.append(f"With fewer than {_RESAMPLED[predictions.target]:,} {word}s, the {figures} too narrow.")
    return tuple(found)


def _few(failed: int, units: int, grouped: bool) -> str:
    """How few are wrong: `Only 1 of 12 images is wrong: with fewer than 5 wrong ones`."""
    if grouped:
        text = (
            f"In only {counted_of(failed, units, 'group')} is an image wrong"
            if failed
            else "In no group is an image wrong"
        )
        return f"{text}: with fewer than {FEW_ERRORS} such groups"
    if failed:
        text = f"Only {counted_of(failed, units, 'image')} {agreeing(failed, 'is', 'are')} wrong"
    else:
        text = "The only image is right" if units == 1 else f"None of {counted(units, 'image')} is wrong"
    return f"{text}: with fewer than {FEW_ERRORS} wrong ones"


def _of_a_class(predictions: LabelledPredictions, units: int) -> float:
    """How many images there are of a class or label, on average over those that occur; groups: of the rarest class."""
    labels, groups = predictions.labels, predictions.groups
    if labels.ndim == 1 and groups is not None:  # a mean over classes is no surer than the class of the fewest groups
        return float(np.unique(np.unique(np.column_stack([labels, groups]), axis=0)[:, 0], return_counts=True)[1].min())
    if labels.ndim == 1:
        return units / len(np.unique(labels))
    return float(labels.sum() / max(labels.any(axis=0).sum(), 1) * units / len(labels))
