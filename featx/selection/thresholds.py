"""From which probability on an image has a label: searched where labels are several per image.

Between two neighbouring probabilities a threshold decides nothing, so the halves between those that occur are all that
need to be tried: the best of them is the best of all.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

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
