"""Place features in two dimensions: a sample first, then every other row near its neighbours in the sample.

So t-SNE and UMAP, which need all pairs in memory or minutes of time, take as long for a million rows as for a few
thousand. How well neighbours stay neighbours is measured on what is shown, the rows that were placed later among them:
trustworthiness (Venna and Kaski 2001) is 1 where none came near that is not, and about 0.5 at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from featx.errors import HeadError, UsageError
from featx.features import Features, block_rows, width
from featx.metrics.similarity import unit_rows

Method = Literal["tsne", "pca", "umap"]
_COMPONENTS = 50  # of the sample, in which neighbours are looked for
_NEIGHBOURS = 5  # by which a row is placed
_JUDGED, _NEAR = 2000, 10
_PERPLEXITY = 30
_BLOCK = 4096  # rows that are placed together


@dataclass(frozen=True)
class MapPlaces:
    """Where rows are shown. places : float32 (n, 2), within [-1, 1]; sampled : rows that were placed first"""

    places: np.ndarray
    trustworthiness: float
    sampled: int


def place(features: Features, method: Method, sample: int, seed: int) -> MapPlaces:
    """Place n rows, which are read once, in blocks, besides some thousands of them.

    Raises
    ------
    HeadError
        Features that are not finite, or fewer than four rows.
    UsageError
        UMAP is not installed.
    """
    n = features.shape[0]
    if n < 4:
        raise HeadError(f"A map takes at least 4 images; {n} can be read.")
    drawn = np.sort(np.random.default_rng(seed).permutation(n)[:sample])
    axes = _Axes.of(features.take(drawn).asarray())
    if method == "pca":
        found = _read(features, axes, _flat)
    else:
        reduced = axes.apply(features.take(drawn).asarray())
        placed = _PLACERS[method](reduced, seed)
        found = placed if len(drawn) == n else _read(features, axes, _Interpolation(reduced, placed).place)
        found[drawn] = placed
    first = n if method == "pca" else len(drawn)
    return MapPlaces(_scaled(found), _trust(features, axes, found, seed), first)


def _read(features: Features, axes: _Axes, find: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Where every row goes, block by block: float32 (n, 2)."""
    found, at = np.empty((features.shape[0], 2), np.float32), 0
    for block in features.blocks(min(_BLOCK, block_rows(width(features)))):
        reduced = axes.apply(block)
        if not np.isfinite(reduced).all():
            raise HeadError("Features hold NaN or infinity. Extract them with another --layer or precision.")
        found[at : at + len(block)] = find(reduced)
        at += len(block)
    return found


def _flat(reduced: np.ndarray) -> np.ndarray:
    """The first two components; beside one that is alone, zeros."""
    return np.column_stack([reduced, np.zeros(len(reduced), np.float32)])[:, :2]


@dataclass(frozen=True)
class _Axes:
    """Principal axes of directions. mean : (d,); axes : (d, e)"""

    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> _Axes:
        from sklearn.decomposition import PCA

        if not np.isfinite(rows).all():
            raise HeadError("Features hold NaN or infinity. Extract them with another --layer or precision.")
        kept = min(_COMPONENTS, len(rows) - 1, rows.shape[1])
        found = PCA(kept, svd_solver="randomized", random_state=0).fit(unit_rows(rows))
        return cls(found.mean_, found.components_.T)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray((unit_rows(rows) - self.mean) @ self.axes, np.float32)


def _tsne(rows: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows))


def _umap(rows: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise UsageError(
            f"UMAP is not installed ({error}). Take --method tsne, or type: pip install 'featx[umap]'"
        ) from error
    return np.asarray(UMAP(n_neighbors=min(15, len(rows) - 1), random_state=seed, n_jobs=1).fit_transform(rows))


_PLACERS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"tsne": _tsne, "umap": _umap}


class _Interpolation:
    """Rows go among their nearest of a sample, the nearer the heavier. reduced : (m, e); placed : (m, 2)"""

    def __init__(self, reduced: np.ndarray, placed: np.ndarray) -> None:
        from sklearn.neighbors import NearestNeighbors

        self._search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(reduced))).fit(reduced)
        self._placed = placed

    def place(self, reduced: np.ndarray) -> np.ndarray:
        """Where rows go: (n, 2)."""
        far, near = self._search.kneighbors(reduced)
        weight = 1 / np.maximum(far, 1e-9) ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        return np.asarray(np.einsum("ij,ijk->ik", weight, self._placed[near]))


def _trust(features: Features, axes: _Axes, found: np.ndarray, seed: int) -> float:
    from sklearn.manifold import trustworthiness

    some = np.sort(np.random.default_rng(seed + 1).permutation(len(found))[:_JUDGED])
    near = min(_NEAR, max(1, (len(some) - 1) // 2 - 1))
    return float(trustworthiness(axes.apply(features.take(some).asarray()), found[some], n_neighbors=near))


def _scaled(found: np.ndarray) -> np.ndarray:
    centred = found - (found.max(axis=0) + found.min(axis=0)) / 2
    return np.asarray(centred / max(float(np.abs(centred).max()), 1e-12), np.float32)
