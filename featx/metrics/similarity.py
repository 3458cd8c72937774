"""Cosine similarity between rows of features: exact, block by block, in memory that does not grow with the rows.

A product of matrices compares 100,000 float16 rows of 1,280 values with sixteen images in 3 s on two busy cores, so up
to a million rows there is no need of an index, which would have to be built and kept up to date.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from featx.features import Features, width

_KEPT = 256 << 20  # bytes of features that are kept while all others pass by
_BLOCK = 32 << 20  # bytes of those that pass by
_TILE = 1024  # rows on the kept side of one product


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, the most similar first.

    first, second : int64 (m,), positions, first < second; similarity : float32 (m,), in [-1, 1]
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray


def unit_rows(values: np.ndarray) -> np.ndarray:
    """The rows of (n, d) scaled to length 1, float32; a row of zeros stays one, and is similar to nothing."""
    values = np.asarray(values, np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def nearest(
    features: Features, queries: np.ndarray, k: int, skip: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are most similar to each query.

    Parameters
    ----------
    features : of n rows of d values, read once
    queries : (q, d)
    k : how many; of fewer rows all
    skip : int64 (q,), a position that is no answer: where the query itself is

    Returns
    -------
    positions : int64 (q, min(k, n)), the most similar first; similarity : float32 of that shape. What `skip` leaves
        without an answer is -1 with the similarity -inf.
    """
    wanted = unit_rows(queries)
    k = min(k, features.shape[0])
    position = np.full((len(wanted), k), -1)
    best = np.full((len(wanted), k), -np.inf, np.float32)
    at = 0
    for block in features.blocks(_block_rows(width(features))):
        rows = unit_rows(block)
        for start in range(0, len(wanted), _TILE):
            some = slice(start, start + _TILE)
            found = np.clip(wanted[some] @ rows.T, -1, 1)
            if skip is not None:
                here = np.flatnonzero((skip[some] >= at) & (skip[some] < at + len(rows)))
                found[here, skip[some][here] - at] = -np.inf
            best[some], position[some] = _merge(best[some], position[some], found, at)
        at += len(rows)
    return position, best


def _merge(best: np.ndarray, position: np.ndarray, found: np.ndarray, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of each row of `best` (q, k) and `found` (q, b), with their positions."""
    k = best.shape[1]
    some = np.argpartition(-found, k - 1, axis=1)[:, :k] if k < found.shape[1] else np.arange(found.shape[1])[None]
    some = np.sort(np.broadcast_to(some, (len(found), some.shape[1])), axis=1)  # of equals the first row
    values = np.hstack([best, np.take_along_axis(found, some, axis=1)])
    places = np.hstack([position, np.where(np.isneginf(values[:, k:]), -1, some + offset)])
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(places, order, axis=1)


def close_pairs(features: Features, threshold: float, split: np.ndarray, most: int) -> tuple[Pairs, Pairs]:
    """All pairs of rows at least so similar: those of different parts, and those within one part.

    Parameters
    ----------
    features : of n rows, read about n * d / 64,000,000 times
    threshold : least cosine similarity
    split : (n,), the part of each row
    most : so many of either kind are kept, the most similar ones
    """
    n, d = features.shape[0], width(features)
    kept_rows = max(_TILE, _KEPT // (4 * max(d, 1)))
    across, within = _Collector(threshold, most), _Collector(threshold, most)
    for start in range(0, n, kept_rows):
        kept = unit_rows(features.take(np.arange(start, min(start + kept_rows, n))).asarray())
        at = start
        for block in features.take(np.arange(start, n)).blocks(_block_rows(d)):
            rows = unit_rows(block)
            for left in range(0, min(len(kept), at + len(rows) - start), _TILE):
                similarity = rows @ kept[left : left + _TILE].T
                second, first = np.nonzero(similarity >= min(across.threshold, within.threshold))
                value = np.clip(similarity[second, first], -1, 1)
                first, second = first + start + left, second + at
                ordered = first < second
                apart = split[first] != split[second]
                across.add(first, second, value, ordered & apart)
                within.add(first, second, value, ordered & ~apart)
            at += len(rows)
    return across.pairs(), within.pairs()


@dataclass
class _Collector:
    """The most similar pairs so far; its threshold rises when there are more than `most`."""

    threshold: float
    most: int
    _found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    _count: int = 0

    def add(self, first: np.ndarray, second: np.ndarray, value: np.ndarray, chosen: np.ndarray) -> None:
        chosen = chosen & (value >= self.threshold)
        if not chosen.any():
            return
        self._found.append((first[chosen], second[chosen], value[chosen]))
        self._count += int(chosen.sum())
        if self._count > 4 * self.most:
            kept = self.pairs()
            self._found = [(kept.first, kept.second, kept.similarity)]
            self._count = len(kept.first)
            self.threshold = float(kept.similarity[-1])

    def pairs(self) -> Pairs:
        if not self._found:
            return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        first, second, value = (np.concatenate(column) for column in zip(*self._found, strict=True))
        order = np.lexsort((second, first, -value))[: self.most]
        return Pairs(first[order], second[order], value[order])


def _block_rows(d: int) -> int:
    return int(np.clip(_BLOCK // (4 * max(d, 1)), 64, 4096))
