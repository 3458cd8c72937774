"""The problem to choose a head for: features, their targets, and groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from featx.dataset import TRAIN, VAL
from featx.features import Features
from featx.metrics.predictions import Target, target_of
from featx.selection.folds import make_folds

RowKind = Literal["image"]  # later a box or a tile of one
NO_FOLD = -1  # of a row that no fit leaves out, as scikit-learn's PredefinedSplit has it


@dataclass(frozen=True)
class Problem:
    """Rows to choose a head on.

    Attributes
    ----------
    features : of n rows
    y : int64 (n,), codes of `classes`; or bool (n, len(classes)), the labels of each row
    split : uint8 (n,), TRAIN, VAL or TEST; rows of other values are not used
    classes : names
    groups : int64 (n,); rows of one group are never on both sides of a comparison
    image_of : int64 (n,), the row of the image that each row is a view of, its own for the images themselves; negative
        where that row is not among these; None: all are images. A view is of its image's part of the split, and is
        fitted on wherever its image is, but never judged
    weight : float64 (n,), for fitting; scores count every row once
    rows_are : what a row is
    """

    features: Features
    y: np.ndarray
    split: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None = None
    image_of: np.ndarray | None = None
    weight: np.ndarray | None = None
    rows_are: RowKind = "image"

    @classmethod
    def of_train(cls, features: Features, y: np.ndarray) -> Problem:
        """Rows that are all of train, whose classes have no names."""
        classes = y.shape[1] if y.ndim == 2 else int(y.max(initial=-1)) + 1
        return cls(features, y, np.full(len(y), TRAIN, np.uint8), tuple(map(str, range(classes))))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def target(self) -> Target:
        """Whether a row has one class or several labels."""
        return target_of(self.y)

    @cached_property
    def train(self) -> np.ndarray:
        """Positions of the rows to fit on."""
        return np.flatnonzero(self.split == TRAIN)

    @cached_property
    def val(self) -> np.ndarray:
        """Positions of the rows to choose and to calibrate on."""
        return np.flatnonzero(self.split == VAL)

    @cached_property
    def own(self) -> np.ndarray:
        """Which rows are images, not views of one, bool (n,)."""
        return np.ones(len(self), bool) if self.image_of is None else self.image_of == np.arange(len(self))

    @cached_property
    def index(self) -> np.ndarray:
        """What logits are compared with: int64 (n,), position of each row's class among those there are; or `y`."""
        return self.y if self.target == "labels" else np.asarray(np.unique(self.y, return_inverse=True)[1])

    def take(self, rows: np.ndarray) -> Problem:
        """These rows, in the order given."""
        where = np.full(len(self), -1)
        where[rows] = np.arange(len(rows))
        return replace(
            self,
            features=self.features.take(rows),
            y=self.y[rows],
            split=self.split[rows],
            groups=None if self.groups is None else self.groups[rows],
            image_of=None if self.image_of is None else where[self.image_of[rows]],
            weight=None if self.weight is None else self.weight[rows],
        )

    def test_folds(self, folds: int, seed: int) -> np.ndarray:
        """The fold that leaves each row out, int64 (n,), `NO_FOLD` where none does; views go where their image goes."""
        own = np.flatnonzero(self.own)
        test_fold = np.full(len(self), NO_FOLD)
        test_fold[own] = make_folds(self.y[own], None if self.groups is None else self.groups[own], folds, seed)
        if self.image_of is None:
            return test_fold
        return np.where(self.image_of < 0, NO_FOLD, test_fold[self.image_of])
