"""The space in which pool images are compared: directions from the mean of the pool.

Features of one network all point much the same way, most of all where they are never negative: pictures of different
things have a cosine similarity above 0.9. Taken from the mean of the pool, they spread over all directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.features import Features, block_rows, width
from featx.metrics.similarity import unit_rows

_WIDEST = 2048  # values of a row that are compared as they are


@dataclass(frozen=True)
class Space:
    """From features (n, d) to directions, float32 (n, e) of length 1; their products are similarities in [-1, 1].

    Rows of more than 2,048 values are sketched: every value is added to, or taken from, one of as many sums (Charikar,
    Chen and Farach-Colton 2002), so that similarities are right to about 0.02 and memory stays flat.

    centre : float32 (e,); order, starts, sign : of the sketch, None where there is none
    """

    centre: np.ndarray
    order: np.ndarray | None = None
    starts: np.ndarray | None = None
    sign: np.ndarray | None = None

    @classmethod
    def about(cls, sample: Features, seed: int) -> Space:
        """The space about the mean of some rows, which are read once."""
        d = width(sample)
        space = cls(np.zeros(min(d, _WIDEST), np.float32))
        if d > _WIDEST:
            random = np.random.default_rng(seed)
            bins = random.permutation(np.arange(d) % _WIDEST)
            order = np.argsort(bins, kind="stable")
            sign = random.choice(np.array([-1, 1], np.float32), d)
            space = cls(space.centre, order, np.searchsorted(bins[order], np.arange(_WIDEST)), sign)
        total = np.zeros(len(space.centre))
        for block in sample.blocks(block_rows(d)):
            total += space._flat(block).sum(axis=0, dtype=np.float64)
        return cls(np.asarray(total / max(1, sample.shape[0]), np.float32), space.order, space.starts, space.sign)

    def directions(self, features: np.ndarray) -> np.ndarray:
        """Directions of features (n, d), whose lengths do not matter; that of zeros is away from the mean."""
        return unit_rows(self._flat(features) - self.centre)

    def read(self, features: Features) -> np.ndarray:
        """The directions of few rows, which are read once."""
        found = np.empty((features.shape[0], len(self.centre)), np.float32)
        start = 0
        for block in features.blocks(block_rows(width(features))):
            found[start : start + len(block)] = self.directions(block)
            start += len(block)
        return found

    def _flat(self, features: np.ndarray) -> np.ndarray:
        rows = unit_rows(features)
        if self.order is None or self.starts is None or self.sign is None:
            return rows
        return np.asarray(np.add.reduceat((rows * self.sign)[:, self.order], self.starts, axis=1), np.float32)
