"""Whether two models differ by more than noise on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.errors import DataError
from featx.metrics.predictions import LabelledPredictions

SURE = 0.05  # a difference with a lower p-value counts as more than noise
PAIRED_RESAMPLES = 10_000  # of a difference, which costs three counts each


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    images : measured; accuracy : of the first and the second; only : images that only the first, only the second got
    right; p_value : of McNemar's exact test that both are equally often right; interval : 95 %, of the first's accuracy
    less the second's, by the paired bootstrap
    """

    images: int
    accuracy: tuple[float, float]
    only: tuple[int, int]
    p_value: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """One sentence."""
        first, second = self.accuracy
        if self.p_value >= SURE:
            return f"The difference is within noise (p = {self.p_value:.2g})."
        better = "first" if first > second else "second"
        return f"The {better} is better by more than noise (p = {self.p_value:.2g})."


def compare(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Comparison:
    """Compare two models by what they got right of the same images: bool (n,) each (McNemar 1947, the exact form)."""
    from scipy.stats import binomtest

    only = int((first & ~second).sum()), int((second & ~first).sum())
    p_value = float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0
    # Of the differences -1, 0 and 1 a resample needs the counts alone.
    shares = np.array([only[1], len(first) - sum(only), only[0]]) / max(len(first), 1)
    counts = (
        np.random.default_rng(seed).multinomial(len(first), shares, PAIRED_RESAMPLES)
        if len(first)
        else np.zeros((1, 3))
    )
    low, high = np.quantile((counts[:, 2] - counts[:, 0]) / max(len(first), 1), [0.025, 0.975])
    accuracy = (float(first.mean()), float(second.mean())) if len(first) else (np.nan, np.nan)
    return Comparison(len(first), accuracy, only, p_value, (float(low), float(high)))


def compare_predictions(first: LabelledPredictions, second: LabelledPredictions) -> Comparison:
    """Compare two models by the images that both were measured on, found again by their paths.

    An image counts as right when its class is, or, of several labels, when all of them are.

    Raises
    ------
    DataError
        One predicts several labels per image and the other does not.
    """
    require_comparable(first.target == "labels", second.target == "labels")
    where = {path: row for row, path in enumerate(second.paths)}
    rows = [row for row, path in enumerate(first.paths) if path in where]
    others = [where[first.paths[row]] for row in rows]
    return compare(first.correct[rows], second.correct[others])


def require_comparable(first_multilabel: bool, second_multilabel: bool) -> None:
    """Raise DataError when one of two models gives several labels per image and the other does not."""
    if first_multilabel != second_multilabel:
        which = "first" if first_multilabel else "second"
        raise DataError(f"The {which} of the two bundles gives several labels per image and the other one class.")
