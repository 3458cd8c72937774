"""Features: rows of numbers, one for each image, in memory or on disk.

What the store gives, heads take and the reports compare: one protocol, read in blocks of whole rows, so that one call
serves an array and a stream larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from featx.errors import HeadError
from featx.io.counting import counted

_BLOCK_VALUES = 1 << 21  # 8 MB of float32: a block stays in the cache between the two products of a gradient
_MIN_BLOCK_ROWS = 64


class Features(Protocol):
    """Features of n images, in memory or on disk, read in blocks of whole rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...): rows, then the shape of one image's features."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values: float16, float32 or float64."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """Widths of the network's outputs that lie side by side, each on one scale; () where that is not known."""

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        """Yield all rows in order as arrays (at most `rows`, d) of a float type; 0 lets the features choose."""

    def asarray(self) -> np.ndarray:
        """Return all rows as one float32 array (n, d)."""

    def take(self, rows: np.ndarray) -> Features:
        """Return the features of these rows (positions, in the order given)."""


@dataclass(frozen=True)
class ArrayFeatures:
    """Features in memory: an array (n, ...) of a float type, seen as (n, d); of `outputs` where it is known."""

    array: np.ndarray
    outputs: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array as it was given."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array as it was given."""
        return self.array.dtype

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        """Yield views (at most `rows`, d)."""
        flat = self._flat()
        rows = rows or block_rows(flat.shape[1])
        for start in range(0, len(flat), rows):
            yield flat[start : start + rows]

    def asarray(self) -> np.ndarray:
        """Return float32 (n, d), without a copy where that is what the array holds."""
        return np.ascontiguousarray(self._flat(), dtype=np.float32)

    def take(self, rows: np.ndarray) -> ArrayFeatures:
        """Return a copy of these rows; a view when they are consecutive."""
        rows = np.asarray(rows)
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return ArrayFeatures(self.array[rows[0] : rows[0] + len(rows)], self.outputs)
        return ArrayFeatures(self.array[rows], self.outputs)

    def _flat(self) -> np.ndarray:
        return self.array.reshape(len(self.array), width(self))


def as_features(features: Features | np.ndarray) -> Features:
    """Return features as they are, and wrap an array (n, ...)."""
    if not isinstance(features, np.ndarray):
        return features
    if features.ndim < 2:
        raise HeadError(f"Features have one row per image: shape (n, features), got {features.shape}.")
    return ArrayFeatures(features)


def width(features: Features) -> int:
    """Return the number of values per image."""
    return int(np.prod(features.shape[1:]))


def block_rows(d: int) -> int:
    """Return how many rows of `d` values make a block that stays in the processor's cache."""
    return max(_MIN_BLOCK_ROWS, _BLOCK_VALUES // max(d, 1))


class FeaturesError(HeadError):
    """Features that hold NaN or infinity. `rows` are their positions, for the caller to name the images."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        some = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        super().__init__(
            f"Features must be finite; {counted(len(rows), 'row holds', 'rows hold')} NaN or infinity: {some}."
        )
