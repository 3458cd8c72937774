"""The probability from which an image has a label: searched if there are several labels per image.

Between two neighbouring probabilities a threshold decides nothing, so the halves between those that occur are all that
need to be tried: the best of them is the best of all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from featx.config import HeadOptions
from featx.heads.calibration import Calibration
from featx.metrics.probabilities import sigmoid
from featx.selection.problem import Problem

_TINY = 1e-12
Mode = Literal["per_class", "global", "none"]


def search_thresholds(probabilities: np.ndarray, y: np.ndarray, mode: Mode, low: float, high: float) -> np.ndarray:
    """Return float64 (k,): from which probability on each label is given.

    Parameters
    ----------
    probabilities : (n, k), of rows that the head was not fitted on
    y : bool (n, k)
    mode : "per_class" makes the F1 of every label as high as can be; "global" the micro-averaged F1 of all labels, with
        one threshold; "none" is 0.5
    low, high : thresholds are in this range

    Where several are equally good, the one nearest to 0.5; for a label that no row has, 0.5 brought into the range.
    """
    k = probabilities.shape[1]
    default = float(np.clip(0.5, low, high))
    if mode == "none" or not len(y):
        return np.full(k, 0.5 if mode == "none" else default)
    if mode == "global":
        return np.full(k, _best(probabilities.ravel(), y.ravel(), low, high, default))
    return np.array([_best(*pair, low, high, default) for pair in zip(probabilities.T, y.T, strict=True)])


def find_thresholds(calibration: Calibration, logits: np.ndarray, y: np.ndarray, options: HeadOptions) -> np.ndarray:
    """Return float64 (k,): from which confidence on each label is given.

    Of labels that were weighed in the fit they are searched in probabilities that are not corrected for it, and brought
    to the corrected ones, so that the labels that are given follow the weights.

    logits : (n, k), of rows that the head was not fitted on; y : bool (n, k)
    """
    mode, (low, high) = options.thresholds, options.threshold_range
    if calibration.correction is None or (calibration.curves and mode != "none"):
        return search_thresholds(calibration.probabilities(logits), y, mode, low, high)
    if calibration.curves:
        return np.asarray(calibration.probabilities(np.zeros((1, logits.shape[1])))[0])
    found = search_thresholds(replace(calibration, correction=None).probabilities(logits), y, mode, low, high)
    odds = np.clip(found, _TINY, 1 - _TINY)
    return sigmoid(np.log(odds / (1 - odds)) + calibration.correction)


def describe_thresholds(problem: Problem, options: HeadOptions) -> tuple[str, ...]:
    """Name what is set of thresholds where an image has one class, of which the likeliest is given."""
    given = [name for name in ("thresholds", "threshold_range") if getattr(options, name) != getattr(HeadOptions, name)]
    if problem.target == "labels" or not given:
        return ()
    flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
    return (f"{flags} changed nothing: thresholds are for images with several labels (--label-separator).",)


def _best(probability: np.ndarray, truth: np.ndarray, low: float, high: float, default: float) -> float:
    if not truth.any():
        return default
    values = np.unique(probability)
    tried = np.unique(np.clip([low, high, default, *((values[1:] + values[:-1]) / 2)], low, high))
    order = np.argsort(probability)
    below = np.searchsorted(probability[order], tried)  # rows below each threshold
    hits = truth.sum() - np.concatenate([[0], np.cumsum(truth[order])])[below]
    claims = len(truth) - below
    f1 = 2 * hits / (claims + truth.sum())
    best = tried[f1 >= f1.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
