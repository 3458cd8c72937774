"""Distribute rows over folds: every class and label spread evenly, every group in one fold."""

from __future__ import annotations

import numpy as np

from featx.errors import HeadError


def make_folds(y: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """Deal rows into folds: every class spread evenly, every group in one fold.

    Returns
    -------
    int64 (n,)
        The fold that leaves the row out. There are no more folds than the largest class has groups; a class of one
        group is in no fold (-1), since a fit without it could not know it.
    """
    if folds < 2:
        raise HeadError(f"--folds must be at least 2, got {folds}.")
    if y.ndim == 2:
        return _label_folds(y, groups, folds, seed)
    classes, index = np.unique(y, return_inverse=True)
    _, group = np.unique(np.arange(len(y)) if groups is None else groups, return_inverse=True)
    label, size = _units(index, group, len(classes))
    folds = min(folds, int(np.bincount(label).max()))
    order = np.lexsort((np.random.default_rng(seed).random(len(label)), -size, label))
    order = order[np.bincount(label)[label[order]] > 1]
    test_fold = np.full(len(label), -1)
    test_fold[order] = np.arange(len(order)) % folds
    return test_fold[group] if folds > 1 else np.full(len(y), -1)


def _label_folds(y: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """Deal rows of several labels into folds by iterative stratification (Sechidis et al. 2011), groups whole.

    The rarest label is dealt first; each of its groups goes where that label is wanted most, then where there is room.
    """
    _, group = np.unique(np.arange(len(y)) if groups is None else groups, return_inverse=True)
    size = np.bincount(group)
    folds = min(folds, len(size))
    if folds < 2:
        return np.full(len(y), -1)
    counts = np.zeros((len(size), y.shape[1] + 1), np.int64)
    np.add.at(counts, group, np.column_stack([y, ~y.any(axis=1)]))
    wanted = np.repeat(counts.sum(axis=0)[None] / folds, folds, axis=0)
    room = np.full(folds, len(y) / folds)
    fold = np.full(len(size), -1)
    drawn = np.lexsort((np.random.default_rng(seed).random(len(size)), -size))
    while (fold < 0).any():
        left = counts[fold < 0].sum(axis=0)
        label = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        for unit in drawn[(fold[drawn] < 0) & (counts[drawn, label] > 0)]:
            best = int(np.lexsort((-room, -wanted[:, label]))[0])
            fold[unit] = best
            wanted[best] -= counts[unit]
            room[best] -= size[unit]
    return fold[group]


def _units(index: np.ndarray, group: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each group's commonest class and its number of rows."""
    pairs, counts = np.unique(group * classes + index, return_counts=True)
    order = np.lexsort((-counts, pairs // classes))
    _, first = np.unique(pairs[order] // classes, return_index=True)
    return pairs[order][first] % classes, np.bincount(group)
