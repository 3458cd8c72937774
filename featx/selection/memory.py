"""The rows behind a choice, in memory if they fit."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from featx.config import HeadOptions
from featx.errors import HeadError
from featx.features import ArrayFeatures, FeaturesError, width
from featx.heads.scaling import check_finite
from featx.io.counting import agreeing, counted
from featx.selection.problem import Problem

_ASSUMED_MEMORY = 8 << 30  # bytes, where the system does not say


def load_rows(problem: Problem, memory: int) -> Problem:
    """Return the train rows, then the val rows of classes that are in train.

    Features that fit in so many bytes are read once; others are streamed from where they are.

    Raises
    ------
    HeadError
        Targets that no head can be fitted on.
    FeaturesError
        Features that are not finite; its `rows` are positions in `problem`.
    """
    train, val = problem.train, problem.val
    check_classes(problem.y[train], problem.classes)
    if problem.target == "class":
        val = val[np.isin(problem.y[val], problem.y[train])]
    order = np.concatenate([train, val])
    used = problem.take(order)
    if 4 * len(order) * width(used.features) <= memory:
        used = replace(used, features=ArrayFeatures(used.features.asarray(), used.features.outputs))
    try:
        check_finite(used.features)
    except FeaturesError as error:
        raise FeaturesError(order[error.rows]) from None
    return used


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
            raise HeadError(
                f"A head needs two classes or more, but the labels of {counted(len(y), 'training image')} do not "
                "differ."
            )
        return
    present = np.unique(y)
    if len(present) == 1:
        raise HeadError(
            "A head needs two classes or more, but "
            f"{agreeing(len(y), 'the only training image is', f'all {len(y):,} training images are')} "
            f"{classes[present[0]]!r}."
        )
