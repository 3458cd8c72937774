"""Choose a head on the cached features: search its strength, compare kinds, fit the winner, calibrate it.

Everything is compared on rows that the compared fit has not seen: on val, or on folds of train. Groups (views and
duplicates of an image, shots of one object) are never on both sides. Test rows are not read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from featx.dataset import TEST, TRAIN, VAL
from featx.errors import HeadError
from featx.heads import (
    HEADS,
    ArrayFeatures,
    Features,
    FeaturesError,
    Head,
    HeadKind,
    as_features,
    head_kind,
    make_head,
    width,
)
from featx.heads.calibrate import fit_temperature, softmax
from featx.heads.journal import Journal
from featx.heads.scaling import check_finite
from featx.heads.search import Trial, fit_without, try_strengths
from featx.options import HeadOptions, Metric, parse_bytes

if TYPE_CHECKING:
    from featx.heads.dense import DenseHead
    from featx.heads.linear import Linear

_MOST_CV_ROWS = 10_000  # up to here `--search auto` takes folds even where there is a val part: it is small, too
_GIVE_UP = 2  # so many weaker regularisations with neither a better score nor a lower loss end a search
_ASSUMED_MEMORY = 8 << 30  # bytes, where the system does not say
_LEAST = 1e-15  # the probability that log loss takes for 0


@dataclass(frozen=True)
class Choice:
    """A fitted head, and how it was found.

    Attributes
    ----------
    clf, params : the kind of head, and what it was made with
    head : fitted on the train rows
    temperature : logits are divided by it before the softmax
    candidates : what was compared: dicts with clf, params, score, metric, where ('cv' or 'val')
    seconds : it took
    val_logits : float32 (val rows, len(head.classes_)), in the order of the rows; None without val rows
    notes : what a user should know
    """

    clf: str
    head: Head
    params: dict[str, Any]
    temperature: float
    candidates: list[dict[str, Any]]
    seconds: float
    val_logits: np.ndarray | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rows:
    """Features (n, ...), labels (n,) and weights (n,) of the same rows."""

    features: Features
    y: np.ndarray
    weight: np.ndarray | None

    def take(self, rows: np.ndarray) -> _Rows:
        weight = None if self.weight is None else self.weight[rows]
        return _Rows(self.features.take(rows), self.y[rows], weight)


@dataclass(frozen=True)
class _Arena:
    """Where heads are compared: rows, and which fit leaves which row out (-1: none does)."""

    rows: _Rows
    held: np.ndarray
    where: str

    def score(self, metric: Metric, logits: np.ndarray) -> float:
        return score(metric, *self._judged(logits))

    def temperature(self, logits: np.ndarray) -> float:
        return fit_temperature(*self._judged(logits))

    def _judged(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = np.unique(self.rows.y, return_inverse=True)[1]
        return logits[self.held >= 0], index[self.held >= 0]


@dataclass(frozen=True)
class _Found:
    """The best strength of a kind of head."""

    kind: HeadKind
    trial: Trial
    score: float


def _silent(message: str) -> None:
    del message


def choose_head(
    features: Features | np.ndarray,
    y: np.ndarray,
    split: np.ndarray,
    classes: tuple[str, ...],
    options: HeadOptions,
    *,
    groups: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = _silent,
    journal: Journal | None = None,
) -> Choice:
    """Search, compare, fit and calibrate.

    Parameters
    ----------
    features : of n images
    y : int64 (n,), codes of `classes`
    split : uint8 (n,), TRAIN, VAL or TEST; rows of other values are not used
    groups : int64 (n,); rows of one group are never on both sides of a comparison
    sample_weight : float64 (n,), for fitting; scores count every row once
    progress : told one line per candidate
    journal : where heads that are trained epoch by epoch write it down, and are resumed from

    Raises
    ------
    HeadError
        Fewer than two classes in train, `--search val` without val rows.
    FeaturesError
        Features that are not finite; its `rows` are positions in `features`.
    """
    began = time.perf_counter()
    y = np.asarray(y, dtype=np.int64)
    notes = _notes(y, split, classes)
    used, order = _load(_Rows(as_features(features), y, sample_weight), split, classes, _memory(options))
    trained = int(np.count_nonzero(split == TRAIN))
    arena = _arena(used, trained, None if groups is None else groups[order[:trained]], options, seed)
    candidates: list[dict[str, Any]] = []
    found = _best(arena, options, len(order) > trained, seed, candidates, progress, journal) if arena else None
    if found is None:
        notes += ("No row could be left out to compare heads: strength and temperature are the defaults.",)
    kind = found.kind if found else head_kind("logreg" if options.clf == "auto" else options.clf, options.kernel)
    head = _refit(kind, found, arena, used, trained, options, seed, journal)
    val = np.flatnonzero(split == VAL)
    return Choice(
        clf=kind.clf,
        head=head,
        params=head.get_params(),
        temperature=arena.temperature(found.trial.logits) if arena and found else 1.0,
        candidates=candidates,
        seconds=time.perf_counter() - began,
        val_logits=head.logits(as_features(features).take(val)) if len(val) else None,
        notes=notes,
    )


def _load(rows: _Rows, split: np.ndarray, classes: tuple[str, ...], memory: int) -> tuple[_Rows, np.ndarray]:
    """Return the train rows, then the val rows of classes that are in train, and their positions in `rows`.

    Features that fit in `--memory` are read once; others are streamed from where they are.
    """
    train, val = np.flatnonzero(split == TRAIN), np.flatnonzero(split == VAL)
    _check_classes(rows.y[train], classes)
    order = np.concatenate([train, val[np.isin(rows.y[val], rows.y[train])]])
    used = rows.take(order)
    if 4 * len(order) * width(used.features) <= memory:
        used = replace(used, features=ArrayFeatures(used.features.asarray()))
    try:
        check_finite(used.features)
    except FeaturesError as error:
        raise FeaturesError(order[error.rows]) from None
    return used, order


def _memory(options: HeadOptions) -> int:
    """Return how many bytes of features may be held: a third of --memory, since a fit works on copies of parts."""
    return _physical_memory() // 2 if options.memory is None else parse_bytes(options.memory) // 3


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows
        return _ASSUMED_MEMORY


def _check_classes(y: np.ndarray, classes: tuple[str, ...]) -> None:
    present = np.unique(y)
    if len(present) == 0:
        raise HeadError("No image is left to train on.")
    if len(present) == 1:
        raise HeadError(f"A head tells classes apart, but all {len(y)} training images are {classes[present[0]]!r}.")


def _notes(y: np.ndarray, split: np.ndarray, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Name the classes that no head can get right, since no training image shows them."""
    trained = np.unique(y[split == TRAIN])
    unseen = np.setdiff1d(np.unique(y[(split == VAL) | (split == TEST)]), trained)
    if not len(unseen):
        return ()
    names = ", ".join(classes[code] for code in unseen)
    return (f"Without a training image, always wrong: {names}.",)


def _arena(used: _Rows, trained: int, groups: np.ndarray | None, options: HeadOptions, seed: int) -> _Arena | None:
    """Return where to compare, None where no row can be left out. The first `trained` rows are train, others val."""
    watched = len(used.y) - trained
    if _search_where(options, trained, watched) == "val":
        return _Arena(used, np.repeat([-1, 0], [trained, watched]), "val")
    train = used.take(np.arange(trained))
    held = make_folds(train.y, groups, options.folds, seed)
    return _Arena(train, held, "cv") if held.max() > 0 else None


def _search_where(options: HeadOptions, train: int, val: int) -> str:
    if options.search == "val" and val == 0:
        raise HeadError("--search val needs val images of classes that are in train; there are none. Use --search cv.")
    if options.search != "auto":
        return options.search
    few = train <= _MOST_CV_ROWS and options.clf != "dense"  # which watches val anyway
    return "cv" if few or not val else "val"


def make_folds(y: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """Deal rows into folds: every class spread evenly, every group in one fold.

    Returns
    -------
    int64 (n,)
        The fold that leaves the row out. There are no more folds than the largest class has groups; a class of one
        group is in no fold (-1), since a fit without it could not know it.
    """
    if folds < 2:
        raise HeadError(f"--folds has to be at least 2, got {folds}.")
    classes, index = np.unique(y, return_inverse=True)
    _, group = np.unique(np.arange(len(y)) if groups is None else groups, return_inverse=True)
    label, size = _units(index, group, len(classes))
    folds = min(folds, int(np.bincount(label).max()))
    order = np.lexsort((np.random.default_rng(seed).random(len(label)), -size, label))
    order = order[np.bincount(label)[label[order]] > 1]
    held = np.full(len(label), -1)
    held[order] = np.arange(len(order)) % folds
    return held[group] if folds > 1 else np.full(len(y), -1)


def _units(index: np.ndarray, group: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each group's commonest class and its number of rows."""
    pairs, counts = np.unique(group * classes + index, return_counts=True)
    order = np.lexsort((-counts, pairs // classes))
    _, first = np.unique(pairs[order] // classes, return_index=True)
    return pairs[order][first] % classes, np.bincount(group)


def _best(
    arena: _Arena,
    options: HeadOptions,
    has_val: bool,
    seed: int,
    candidates: list[dict[str, Any]],
    progress: Callable[[str], None],
    journal: Journal | None,
) -> _Found:
    """Compare kinds and strengths; of equals the first: the simpler head, the stronger regularisation."""
    best: _Found | None = None
    for kind in _kinds(options, len(arena.held), has_val):
        found = _best_strength(kind, arena, options, seed, candidates, progress, journal)
        if best is None or _better(options.metric, found.score, best.score):
            best = found
    if best is None:
        raise HeadError(f"No head to compare for --clf {options.clf}.")
    return best


def _kinds(options: HeadOptions, rows: int, has_val: bool) -> list[HeadKind]:
    if options.clf != "auto":
        return [head_kind(options.clf, options.kernel)]
    fitting = [kind for kind in HEADS.values() if kind.most_rows is None or rows <= kind.most_rows]
    return [kind for kind in fitting if has_val or not kind.stops_early]


def _best_strength(
    kind: HeadKind,
    arena: _Arena,
    options: HeadOptions,
    seed: int,
    candidates: list[dict[str, Any]],
    progress: Callable[[str], None],
    journal: Journal | None,
) -> _Found:
    fixed = options.strength if options.clf != "auto" else None
    strengths = (kind.strengths or (kind.default,)) if fixed is None else (fixed,)
    best: _Found | None = None
    # Under strong regularisation accuracy may stand still (all of the largest class) while the loss goes on falling.
    lowest, stale = np.inf, 0
    rows = arena.rows
    for trial in try_strengths(kind, strengths, rows.features, rows.y, arena.held, rows.weight, options, seed, journal):
        found = _Found(kind, trial, arena.score(options.metric, trial.logits))
        candidates.append(_candidate(found, arena, options, seed))
        progress(_line(candidates[-1], kind.strength_name))
        loss = arena.score("log_loss", trial.logits)
        better = best is None or _better(options.metric, found.score, best.score)
        if better:
            best = found
        stale = 0 if better or loss < lowest else stale + 1
        lowest = min(lowest, loss)
        if stale == _GIVE_UP:
            break
    assert best is not None
    return best


def _candidate(found: _Found, arena: _Arena, options: HeadOptions, seed: int) -> dict[str, Any]:
    params = make_head(found.kind, found.trial.strength, options, seed).get_params()
    kind = found.kind
    return {"clf": kind.clf, "params": params, "score": found.score, "metric": options.metric, "where": arena.where}


def _line(candidate: dict[str, Any], strength: str | None) -> str:
    name = candidate["clf"] + (f", {strength} {candidate['params'][strength]:.3g}" if strength else "")
    return f"{name}: {candidate['metric']} {candidate['score']:.4f} ({candidate['where']})"


def _refit(
    kind: HeadKind,
    found: _Found | None,
    arena: _Arena | None,
    used: _Rows,
    trained: int,
    options: HeadOptions,
    seed: int,
    journal: Journal | None,
) -> Head:
    """Fit on train. What was compared on val is that fit already."""
    trial = found.trial if found else None
    if trial and trial.heads and arena and arena.where == "val":
        return trial.heads[0]
    head = make_head(kind, trial.strength if trial else options.strength, options, seed)
    train = used.take(np.arange(trained))
    if kind.linear:
        return cast("Linear", head).fit(train.features, train.y, train.weight, trial.start if trial else None)
    if kind.stops_early and trial and len(used.y) == trained:
        head.set_params(epochs=int(np.median([cast("DenseHead", fold).best_epoch_ for fold in trial.heads])))
    rows = np.arange(len(used.y))
    fit_without(head, kind, used.features, used.y, rows[:trained], rows[trained:], used.weight, journal)
    return head


def score(metric: Metric, logits: np.ndarray, index: np.ndarray) -> float:
    """Judge logits (n, k) of rows whose columns are `index` (n,).

    accuracy, balanced_accuracy, macro_f1 as scikit-learn has them; log_loss at the temperature that suits it best
    """
    if metric == "log_loss":
        true = softmax(logits, fit_temperature(logits, index))[np.arange(len(index)), index]
        return float(-np.log(np.maximum(true, _LEAST)).mean())
    predicted = logits.argmax(axis=1)
    if metric == "accuracy":
        return float((predicted == index).mean())
    k = logits.shape[1]
    hits = np.bincount(index[predicted == index], minlength=k)
    truth, claims = np.bincount(index, minlength=k), np.bincount(predicted, minlength=k)
    if metric == "balanced_accuracy":
        return float((hits[truth > 0] / truth[truth > 0]).mean())
    either = truth + claims
    return float((2 * hits[either > 0] / either[either > 0]).mean())


def _better(metric: Metric, one: float, other: float) -> bool:
    return one < other if metric == "log_loss" else one > other
