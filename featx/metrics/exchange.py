"""Exchange two models' predictions of images, or of groups of images, and compute a mean of shares anew each time.

How much each image moves the metric would not do: in a class of a few images, or of one group, these add up to
nothing, and a difference that is due to that class alone would seem to come from all images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.metrics.shares import Shares

EXCHANGES = 9_999
EDGE = 1 - 1e-9
_CHUNK = 1 << 22  # sums of exchanges held at a time


def draw_signs(units: int) -> np.ndarray:
    """Which model each unit's prediction is counted for, -1 or 1: int8 (exchanges, units)."""
    return np.random.default_rng(0).integers(2, size=(EXCHANGES, units), dtype=np.int8) * 2 - 1


@dataclass(frozen=True)
class SharesApart:
    """Two models by the same shares.

    middle : the mean of their sums of `part` and `whole`, float64 (2, shares)
    units, codes : int64 (m,), the unit and the share of each pair that differs; apart : by how much, float64 (2, m)
    parts : what each unit adds to the difference, to the first order, float64 (units,)
    difference : of the two values
    like : one of the two
    """

    middle: np.ndarray
    units: np.ndarray
    codes: np.ndarray
    apart: np.ndarray
    parts: np.ndarray
    difference: float
    like: Shares

    @classmethod
    def of(cls, one: Shares, other: Shares, groups: np.ndarray | None) -> SharesApart:
        """Two models on the same images; groups : int64 (n,), exchanged as wholes; None: images are."""
        places = np.arange(one.images) if groups is None else np.unique(groups, return_inverse=True)[1]
        count, k = int(places.max()) + 1, max(one.shares, other.shares)
        signs = np.repeat([1.0, -1.0], [len(one.rows), len(other.rows)])
        units = places[np.concatenate([one.rows, other.rows])]
        codes = np.concatenate([one.codes, other.codes])
        sums = np.array([np.concatenate(pair) for pair in ((one.part, other.part), (one.whole, other.whole))])
        middle = np.array([np.bincount(codes, values, k) for values in sums]) / 2
        cells, cell = np.unique(units * k + codes, return_inverse=True)
        apart = np.array([np.bincount(cell, values * signs, len(cells)) for values in sums])
        differ = apart.any(axis=0)
        cells, apart = cells[differ], apart[:, differ]
        units, codes = cells // k, cells % k
        share = np.divide(middle[0], middle[1], out=np.zeros(k), where=middle[1] > 0)
        weight = np.divide(one.slope(share), middle[1] * (middle[1] > 0).sum(), out=np.zeros(k), where=middle[1] > 0)
        parts = np.bincount(units, weight[codes] * (apart[0] - share[codes] * apart[1]), count).astype(np.float64)
        difference = one.value - other.value
        parts += (difference - parts.sum()) / count  # what is not of the first order
        return cls(middle, units, codes, apart, parts, difference, one)

    def p_value(self) -> float:
        """The share of exchanges whose difference is as large, two-sided; 1 where nothing differs."""
        units, unit = np.unique(self.units, return_inverse=True)
        used, code = np.unique(self.codes, return_inverse=True)
        moved = np.zeros((2, len(units), len(used)), np.float32)
        moved[:, unit, code] = self.apart / 2
        same = np.delete(self.middle, used, axis=1)
        same = same[:, same[1] > 0]
        fixed = self.like.link(same[0] / same[1]).sum(), same.shape[1]
        signs, some, reached = draw_signs(len(units)), max(1, _CHUNK // max(len(used), 1)), 0
        for start in range(0, EXCHANGES, some):
            change = signs[start : start + some].astype(np.float32) @ moved
            first, second = (self._mean(self.middle[:, None, used] + way * change, fixed) for way in (1, -1))
            reached += int((np.abs(first - second) >= abs(self.difference) * EDGE).sum())
        return (1 + reached) / (1 + EXCHANGES)

    def _mean(self, sums: np.ndarray, fixed: tuple[float, int]) -> np.ndarray:
        """The metric of sums (2, r, some shares) and of shares that are `fixed`, by their sum and number."""
        there = sums[1] > 0
        values = self.like.link(np.divide(sums[0], sums[1], out=np.zeros(there.shape), where=there))
        return np.asarray(
            (np.where(there, values, 0).sum(axis=1) + fixed[0]) / np.maximum(there.sum(axis=1) + fixed[1], 1)
        )
