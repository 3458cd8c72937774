"""Trying strengths of one kind of head: every row judged by a fit that left it out.

`held` says which fit leaves a row out, so that folds of train (each row left out once) and a val part (left out by the
only fit) are one case. Linear heads share work among strengths and fits; others are fitted one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from featx.config import HeadOptions
from featx.features import Features
from featx.heads.base import Head, Trial
from featx.heads.table import HeadKind, make_head
from featx.training.callbacks import Recording

if TYPE_CHECKING:
    from featx.heads.linear import Linear

_UNSEEN = 10.0  # a class that a fit has not seen is this much below the row's least logit


def try_strengths(
    kind: HeadKind,
    strengths: Sequence[float],
    features: Features,
    y: np.ndarray,
    held: np.ndarray,
    sample_weight: np.ndarray | None,
    options: HeadOptions,
    seed: int,
    recording: Recording | None = None,
    judged: np.ndarray | None = None,
) -> Iterator[Trial]:
    """Yield a trial for each strength, as soon as it is done.

    features, y, sample_weight : of n rows; y int64 (n,), or bool (n, k) for several labels per row
    held : int64 (n,), number of the fit that leaves the row out; -1: none does
    recording : where heads that are trained epoch by epoch write it down
    judged : bool (n,), rows that matter where they are left out, None: all; of the others logits may be NaN
    """
    if kind.linear:
        linear = cast("Linear", make_head(kind, None, options, seed))
        yield from linear.search(features, y, held, strengths, sample_weight)
        return
    classes = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])

    counted = np.ones(len(y), bool) if judged is None else judged

    def fit_fold(strength: float, f: int) -> tuple[Head, np.ndarray, np.ndarray]:
        head, left_out = make_head(kind, strength, options, seed), np.flatnonzero((held == f) & counted)
        fit_without(head, kind, features, y, np.flatnonzero(held != f), left_out, sample_weight, recording)
        return head, left_out, widen(head.logits(features.take(left_out)), head.classes_, classes)

    for strength in strengths:
        logits = np.full((len(y), len(classes)), np.nan, np.float32)
        heads = []
        folds = range(held.max() + 1)
        for head, left_out, found in _map_folds(kind, partial(fit_fold, strength), folds):
            logits[left_out] = found
            heads.append(head)
        yield Trial(strength, logits, heads=tuple(heads))


def _map_folds(kind: HeadKind, fit_fold: Callable[[int], Any], folds: range) -> Iterable[Any]:
    """Fit folds at the same time, in threads, which share the features; scikit-learn computes outside of the lock."""
    if kind.stops_early or len(folds) == 1:  # TensorFlow uses all cores by itself
        return map(fit_fold, folds)
    from joblib import Parallel, delayed

    return cast("Iterable[Any]", Parallel(n_jobs=-1, prefer="threads")(delayed(fit_fold)(f) for f in folds))


def fit_without(
    head: Head,
    kind: HeadKind,
    features: Features,
    y: np.ndarray,
    rows: np.ndarray,
    left_out: np.ndarray,
    sample_weight: np.ndarray | None,
    recording: Recording | None = None,
) -> None:
    """Fit on `rows`; a head that stops early watches the rows `left_out` and is resumed by its recording."""
    more: dict[str, Any] = {"recording": recording} if kind.stops_early else {}
    if kind.stops_early and len(left_out):
        more["validation"] = (features.take(left_out), y[left_out])
    weight = None if sample_weight is None else sample_weight[rows]
    head.fit(features.take(rows), y[rows], weight, **more)


def widen(logits: np.ndarray, seen: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return logits (n, len(classes)) of logits (n, len(seen)): classes not seen are far below the least."""
    if len(seen) == len(classes):
        return logits
    wide = np.repeat(logits.min(axis=1, keepdims=True) - np.float32(_UNSEEN), len(classes), axis=1)
    wide[:, np.searchsorted(classes, seen)] = logits
    return wide
