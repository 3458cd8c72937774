"""Standardisation: the mean and scale of every feature, computed in one pass over the blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featx.features import Features, FeaturesError, width
from featx.heads.passes import map_blocks

_CONSTANT = 10 * float(np.finfo(np.float32).eps)  # a spread below this share of the mean is rounding, not signal


@dataclass(frozen=True)
class Standardization:
    """`(x - mean) * inverse` has mean 0 and variance 1, or less where `standardize` says so; 0 for a constant feature.

    Both are float64 (d,). Heads never standardise the features themselves: they fold these two into their weights.
    """

    mean: np.ndarray
    inverse: np.ndarray


def standardize(features: Features) -> Standardization:
    """Read the statistics of features (n, d).

    Sums are taken about the first block's mean, in float32 within a block and in float64 across blocks, which agrees
    with scikit-learn's StandardScaler to about 1e-6.

    Of features that say which of them are one output of a network, the least spread is 1 / sqrt(n) of the output's root
    mean square spread: no feature's sum of squares is below what one image adds on average. With few images some
    features hardly differ by chance, and divided by so little they would outweigh all others in the images to come.
    What is gained: `benchmarks/bench_few.py`.

    Raises
    ------
    FeaturesError
        NaN or infinite values; its `rows` say where.
    """
    n, d = features.shape[0], width(features)
    with np.errstate(invalid="ignore", over="ignore"):
        shift = next(float_blocks(features)).mean(axis=0)

    def add_up(rows: slice, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        del rows
        with np.errstate(invalid="ignore", over="ignore"):
            centred = block - shift
            # a product with ones: BLAS sums faster than np.sum
            return np.ones(len(block), np.float32) @ centred, np.einsum("ij,ij->j", centred, centred)

    total, squares = np.zeros(d), np.zeros(d)
    with np.errstate(invalid="ignore", over="ignore"):
        for of_block in map_blocks(features, add_up):
            total += of_block[0]
            squares += of_block[1]
    if not np.all(np.isfinite(squares)):
        raise FeaturesError(_bad_rows(features))
    mean = total / n
    scale = np.sqrt(np.maximum(squares / n - mean**2, 0))
    mean += shift
    constant = scale <= _CONSTANT * np.abs(mean)
    used = np.maximum(scale, _typical_spread(np.where(constant, 0.0, scale), features.outputs) / np.sqrt(n))
    return Standardization(mean, np.where(constant, 0.0, 1 / np.where(constant, 1.0, used)))


def _typical_spread(scale: np.ndarray, outputs: tuple[int, ...]) -> np.ndarray:
    """The root mean square of the spreads above 0 of each feature's output; 0 where the outputs are not known."""
    typical = np.zeros_like(scale)
    for part in np.split(np.arange(len(scale)), np.cumsum(outputs)[:-1]) if outputs else ():
        varying = scale[part] > 0
        typical[part] = np.sqrt(np.square(scale[part]).sum() / max(1, varying.sum()))
    return typical


def float_blocks(features: Features, rows: int = 0) -> Iterator[np.ndarray]:
    """Yield the blocks of `features` as float32, without a copy where they are that already."""
    for block in features.blocks(rows):
        yield block.astype(np.float32, copy=False)


def check_finite(features: Features) -> None:
    """Raise FeaturesError where `features` hold NaN or infinity."""
    rows = _bad_rows(features)
    if len(rows):
        raise FeaturesError(rows)


def _bad_rows(features: Features) -> np.ndarray:
    finite = np.concatenate(list(map_blocks(features, lambda _, block: np.isfinite(block).all(axis=1))))
    return np.flatnonzero(~finite)
