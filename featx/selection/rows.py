"""The rows that a choice is made on, in memory where they fit."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featx.config import HeadOptions
from featx.dataset import TRAIN, VAL
from featx.errors import HeadError
from featx.features import ArrayFeatures, Features, FeaturesError, width
from featx.heads.scaling import check_finite

if TYPE_CHECKING:
    pass

_ASSUMED_MEMORY = 8 << 30  # bytes, where the system does not say


@dataclass(frozen=True)
class Rows:
    """Features (n, ...), labels (n,) or (n, k), weights (n,), and which are images, not views, of the same rows."""

    features: Features
    y: np.ndarray
    weight: np.ndarray | None
    own: np.ndarray

    def take(self, rows: np.ndarray) -> Rows:
        """These rows, in the order given."""
        weight = None if self.weight is None else self.weight[rows]
        return Rows(self.features.take(rows), self.y[rows], weight, self.own[rows])


def load_rows(rows: Rows, split: np.ndarray, classes: tuple[str, ...], memory: int) -> tuple[Rows, np.ndarray]:
    """Return the train rows, then the val rows of classes that are in train, and their positions in `rows`.

    Features that fit in `--memory` are read once; others are streamed from where they are.
    """
    train, val = np.flatnonzero(split == TRAIN), np.flatnonzero(split == VAL)
    check_classes(rows.y[train], classes)
    known = np.ones(len(val), bool) if rows.y.ndim == 2 else np.isin(rows.y[val], rows.y[train])
    order = np.concatenate([train, val[known]])
    used = rows.take(order)
    if 4 * len(order) * width(used.features) <= memory:
        used = replace(used, features=ArrayFeatures(used.features.asarray()))
    try:
        check_finite(used.features)
    except FeaturesError as error:
        raise FeaturesError(order[error.rows]) from None
    return used, order


def memory_budget(options: HeadOptions) -> int:
    """Return how many bytes of features may be held: a third of --memory, since a fit works on copies of parts."""
    return _physical_memory() // 2 if options.memory is None else options.memory.bytes // 3


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows
        return _ASSUMED_MEMORY


def check_classes(y: np.ndarray, classes: tuple[str, ...]) -> None:
    """Refuse targets that no head can be fitted on."""
    if not len(y):
        raise HeadError("No image is left to train on.")
    if y.ndim == 2:
        if not (y.any(axis=0) & ~y.all(axis=0)).any():
            raise HeadError(f"All {len(y)} training images have the same labels: there is nothing to tell apart.")
        return
    present = np.unique(y)
    if len(present) == 1:
        raise HeadError(f"A head tells classes apart, but all {len(y)} training images are {classes[present[0]]!r}.")
