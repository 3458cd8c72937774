"""Whether an image resembles any that a model was fitted on: a head always names one of its classes, often confidently.

The measure is the cosine distance to the nearest of a few thousand training images, whose features the bundle keeps:
Sun, Ming, Zhu and Li, "Out-of-Distribution Detection with Deep Nearest Neighbors" (ICML 2022). It was compared with the
distance to class means under a shared covariance (Mahalanobis, and relative to that of all rows), and to k-means
centres; docs/architecture.md has the figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.errors import BundleError
from featx.features import ArrayFeatures, Features, width
from featx.io.counting import counted
from featx.io.zips import floats, load_arrays

FILE = "reference.npz"
MOST_ROWS = 2000
_MOST_BYTES = 16 << 20  # of the rows that are kept
_LEAST_ROWS = 100  # are kept however long they are; and so many val images are enough to take the scale from
_SHARE = 0.99  # of the images of known classes lie within distance 1
_SHORTEST = 1e-6  # of scales: float16 rows are this far from themselves


@dataclass(frozen=True)
class Reference:
    """What distances are measured from.

    rows : float16 (m, d), features of training images, of length 1
    scale : the cosine distance within which 99 % of the images of known classes lie
    held : float16 or float32 (k, d), features of val images as the head takes them, which new images are compared with;
        no rows in bundles that were made before there were any
    """

    rows: np.ndarray
    scale: float
    held: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """How far images with the features (n, d) are from the nearest: float64 (n,); above 1 only 1 % of known ones.

        Raises
        ------
        BundleError
            Features of another length.
        """
        from featx.metrics.similarity import nearest

        if features.shape[1] != self.rows.shape[1]:
            raise BundleError(
                f"X has {counted(features.shape[1], 'feature')}, but the reference has {self.rows.shape[1]}."
            )
        similarity = nearest(ArrayFeatures(self.rows), features, 1)[1][:, 0]
        return np.asarray(1.0 - similarity, np.float64) / self.scale

    def save(self, folder: Path) -> Path:
        """Write it as a file of a bundle; return the file."""
        np.savez(folder / FILE, rows=self.rows, scale=np.float64(self.scale), held=self.held)
        return folder / FILE


def fit_reference(train: Features, y: np.ndarray, held: Features, seed: int = 0) -> Reference:
    """Choose the rows to keep, and find how far images of known classes are from them.

    The scale is that of `held`; of fewer than 100 such rows, that of the kept rows, each left out in its turn, which is
    too short where images of train come in near-equal series.

    Parameters
    ----------
    train : of n rows
    y : int64 (n,), codes; every class has a like number of rows kept
    held : of images that nothing was fitted on
    """
    from featx.metrics.similarity import nearest, unit_rows

    some = choose_rows(y, width(train), seed)
    kept = ArrayFeatures(unit_rows(train.take(some).asarray()).astype(np.float16))
    if held.shape[0] >= _LEAST_ROWS:
        found = [nearest(kept, block, 1)[1][:, 0] for block in held.blocks()]
        similarity = np.concatenate(found)
    else:
        similarity = nearest(kept, kept.array, 1, skip=np.arange(len(some)))[1][:, 0]
    known = 1.0 - similarity[np.isfinite(similarity)].astype(np.float64)
    scale = float(np.sort(known)[_rank(len(known))]) if len(known) else 1.0
    compared = _some_of(held, seed) if held.shape[0] else np.empty((0, kept.array.shape[1]), np.float16)
    return Reference(kept.array, max(scale, _SHORTEST), compared)


def _some_of(held: Features, seed: int) -> np.ndarray:
    """As many rows as are kept of train, drawn at random, float16 where that holds them."""
    n, most = held.shape[0], _most_rows(width(held))
    rows = held.take(np.sort(np.random.default_rng(seed).permutation(n)[:most])).asarray()
    small = np.abs(rows[np.isfinite(rows)]).max(initial=0) <= np.finfo(np.float16).max
    return rows.astype(np.float16) if small else rows


def _most_rows(d: int) -> int:
    return max(_LEAST_ROWS, min(MOST_ROWS, _MOST_BYTES // (2 * d)))


def _rank(n: int) -> int:
    """The position, of n ascending distances, within which a further known image lies in 99 % of the cases.

    The k-th of n has k / (n + 1) of them below it (Vovk, Gammerman and Shafer 2005); a plain quantile of 100 has 98 %.
    """
    return min(n, math.ceil(round(_SHARE * (n + 1), 9))) - 1


def choose_rows(y: np.ndarray, d: int, seed: int) -> np.ndarray:
    """The positions of the rows of d values to keep, ascending: of every code in y (n,) as many, where there are."""
    most = _most_rows(d)
    order = np.random.default_rng(seed).permutation(len(y))
    _, index, counts = np.unique(y[order], return_inverse=True, return_counts=True)
    by_class = np.argsort(index, kind="stable")
    turn = np.empty(len(y), np.int64)
    turn[by_class] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[np.lexsort((index, turn))[:most]])


def load_reference(folder: Path) -> Reference:
    """The reference of a bundle in this folder.

    Raises
    ------
    BundleError
        When the bundle has none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise BundleError(
            f"{folder} keeps no training features to measure distances from; it was made by an older featx. "
            "Make it again: featx fit-head"
        )
    try:
        arrays = load_arrays(path)
        rows, scale = np.asarray(floats(arrays, "rows"), np.float16), float(arrays["scale"])
        held = floats(arrays, "held") if "held" in arrays else rows[:0]
        if rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all() or not 0 < scale < np.inf:
            raise ValueError(f"rows of shape {rows.shape} and a scale of {scale}")
        if held.shape[1:] != rows.shape[1:]:
            raise ValueError(f"rows of shape {rows.shape} and held ones of shape {held.shape}")
        return Reference(rows, scale, held)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Get the bundle again from its source.") from error
