"""Search the strength of one head: every row judged by a fit that left it out.

`test_fold` numbers the fit that leaves a row out, as scikit-learn's PredefinedSplit does, so that folds of train (each
row left out once) and a val part (left out by the only fit) are one case. Linear heads share work among strengths and
fits; others are fitted one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from featx.heads.base import Head, Trial
from featx.heads.table import HeadKind, make_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.training.callbacks import Recording

if TYPE_CHECKING:
    from featx.heads.dense import DenseHead
    from featx.heads.linear import Linear

_WATCHED_IN = 10  # of the rows of a fit, one in so many stops it
_UNSEEN = 10.0  # a class that a fit has not seen is this much below the row's least logit

_T = TypeVar("_T")
Fold = tuple[Head, np.ndarray, np.ndarray]
"""What was fitted, the rows that it left out, and their logits"""


def try_strengths(
    kind: HeadKind,
    strengths: Sequence[float],
    problem: Problem,
    test_fold: np.ndarray,
    settings: SearchSettings,
    watched: Problem | None = None,
) -> Iterator[Trial]:
    """Yield a trial for each strength, as soon as it is done.

    Of several fits, one that stops early watches rows that it is not judged on: else the epoch that suits these rows
    best by chance would flatter it. Of a single one, these are the val part, which has to do for both.

    test_fold : int64 (n,), number of the fit that leaves the row out; -1: none does. Views are left out with their
        image, and have no logits
    watched : rows that none of several fits is judged on; None: each sets a tenth of its own rows aside
    """
    if kind.linear:
        linear = cast("Linear", build_head(kind, None, settings))
        yield from linear.search(problem.features, problem.y, test_fold, strengths, problem.weight)
        return
    classes = np.unique(problem.y) if problem.target == "class" else np.arange(problem.y.shape[1])

    def fit_fold(strength: float, fold: int) -> Fold:
        head = build_head(kind, strength, settings)
        left_out = np.flatnonzero((test_fold == fold) & problem.own)
        fitted, stopping = np.flatnonzero(test_fold != fold), problem.take(left_out)
        if kind.stops_early and test_fold.max() > 0:
            fitted, stopping = (fitted, watched) if watched is not None else _set_aside(problem, fitted, settings.seed)
        fit_rows(head, kind, problem, fitted, stopping, settings.recording)
        logits = head.logits(problem.features.take(left_out))
        return head, left_out, widen(logits, head.classes_, classes)

    for strength in strengths:
        logits = np.full((len(problem), len(classes)), np.nan, np.float32)
        heads = []
        for head, left_out, found in map_folds(kind, partial(fit_fold, strength), range(test_fold.max() + 1)):
            logits[left_out] = found
            heads.append(head)
        yield Trial(strength, logits, heads=tuple(heads), gamma=settings.gamma)


def build_head(kind: HeadKind, strength: float | None, settings: SearchSettings) -> Head:
    """An unfitted head of these settings."""
    head = make_head(kind, strength, settings.options, settings.seed)
    return head if settings.gamma is None or not kind.radial else head.set_params(gamma=settings.gamma)


def _set_aside(problem: Problem, rows: np.ndarray, seed: int) -> tuple[np.ndarray, Problem]:
    """Rows to fit on, and a tenth of the others by their groups, images alone, to stop by."""
    inner = problem.take(rows)
    fold = inner.test_folds(_WATCHED_IN, seed)
    return rows[fold != 0], inner.take(np.flatnonzero((fold == 0) & inner.own))


def map_folds(kind: HeadKind, fit_fold: Callable[[int], _T], folds: range) -> Iterable[_T]:
    """Fit folds at the same time, in threads, which share the features; scikit-learn computes outside of the lock."""
    if kind.stops_early or len(folds) == 1:  # TensorFlow uses all cores by itself
        return map(fit_fold, folds)
    from joblib import Parallel, delayed

    return cast("Iterable[_T]", Parallel(n_jobs=-1, prefer="threads")(delayed(fit_fold)(fold) for fold in folds))


def fit_rows(
    head: Head,
    kind: HeadKind,
    problem: Problem,
    rows: np.ndarray,
    watched: Problem,
    recording: Recording | None = None,
) -> None:
    """Fit on `rows`; a head that stops early watches the rows `watched` and is resumed by its recording."""
    fitted = problem.features.take(rows), problem.y[rows], None if problem.weight is None else problem.weight[rows]
    if kind.stops_early:
        validation = (watched.features, watched.y) if len(watched) else None
        cast("DenseHead", head).fit(*fitted, validation, recording)
    else:
        head.fit(*fitted)


def widen(logits: np.ndarray, seen: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return logits (n, len(classes)) of logits (n, len(seen)): classes not seen are far below the least."""
    if len(seen) == len(classes):
        return logits
    wide = np.repeat(logits.min(axis=1, keepdims=True) - np.float32(_UNSEEN), len(classes), axis=1)
    wide[:, np.searchsorted(classes, seen)] = logits
    return wide
