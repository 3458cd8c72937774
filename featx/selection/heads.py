"""Choose a head on one set of features: search its strength, compare kinds, fit the winner, calibrate it.

Everything is compared on rows that the compared fit has not seen: on val, or on folds of train. Groups (shots of one
object) are never on both sides, nor are an image and its views, which are fitted on but never judged. Test rows are not
read. What stands in front of the head (principal components) is learned from the training rows, views among them,
without their labels, once for all folds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from featx.config import HeadOptions, Metric
from featx.dataset import TEST, TRAIN, VAL
from featx.errors import HeadError
from featx.features import Features, as_features
from featx.heads.base import Head, Trial
from featx.heads.calibration import Calibration, fit_calibration
from featx.heads.table import HEADS, HeadKind, head_kind, make_head
from featx.heads.transform import fit_transform
from featx.metrics.scores import is_better, resolve_metric, score
from featx.selection.folds import make_folds
from featx.selection.search import fit_without, try_strengths
from featx.selection.thresholds import search_thresholds
from featx.training.callbacks import Recording

if TYPE_CHECKING:
    from featx.heads.dense import DenseHead
    from featx.heads.linear import Linear
from featx.selection.choice import Choice
from featx.selection.rows import Rows, load_rows, memory_budget
from featx.selection.weights import weigh_classes

_MOST_CV_ROWS = 10_000  # up to here `--search auto` takes folds even where there is a val part: it is small, too
_GIVE_UP = 2  # so many weaker regularisations with neither a better score nor a lower loss end a search


@dataclass(frozen=True)
class _Arena:
    """Where heads are compared: rows, and which fit leaves which row out (-1: none does)."""

    rows: Rows
    held: np.ndarray
    where: str

    def score(self, metric: Metric, logits: np.ndarray) -> float:
        return score(metric, *self.judged(logits))

    def judged(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logits of the images that were left out, and what is true of them."""
        y, judged = self.rows.y, (self.held >= 0) & self.rows.own
        index = y if y.ndim == 2 else np.unique(y, return_inverse=True)[1]
        return logits[judged], index[judged]


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
    view_of: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    without: Collection[str] = (),
    progress: Callable[[str], None] = _silent,
    recording: Recording | None = None,
) -> Choice:
    """Search, compare, fit and calibrate.

    Parameters
    ----------
    features : of n images
    y : int64 (n,), codes of `classes`; or bool (n, len(classes)), the labels of each row
    split : uint8 (n,), TRAIN, VAL or TEST; rows of other values are not used
    groups : int64 (n,); rows of one group are never on both sides of a comparison
    view_of : int64 (n,), the row of the image that each row is a view of, its own for the images themselves; None: all
        are images. A view is of its image's part of the split, and is fitted on wherever its image is, but never judged
    sample_weight : float64 (n,), for fitting; scores count every row once
    without : kinds that `auto` leaves out, since they have been judged on these features already
    progress : told one line per candidate
    recording : where heads that are trained epoch by epoch write it down, and are resumed from

    Raises
    ------
    HeadError
        Fewer than two classes in train, `--search val` without val rows, a weight for a class that does not exist.
    FeaturesError
        Features that are not finite; its `rows` are positions in `features`.
    """
    began = time.perf_counter()
    options = replace(options, metric=resolve_metric(options.metric, y.ndim == 2))
    options, sample_weight = weigh_classes(options, y, classes, sample_weight)
    notes = _notes(y, split, classes)
    stored, memory = as_features(features), memory_budget(options)
    transform = fit_transform(
        stored.take(np.flatnonzero(split == TRAIN)), options.normalize == "l2", options.pca, memory, seed
    )
    images = np.arange(len(y)) if view_of is None else view_of
    rows = Rows(transform.of(stored), y, sample_weight, images == np.arange(len(y)))
    used, order = load_rows(rows, split, classes, memory)
    trained = int(np.count_nonzero(split == TRAIN))
    train_groups = None if groups is None else groups[order[:trained]]
    image = np.searchsorted(order[:trained], images[order[:trained]])
    arena = _arena(used, trained, train_groups, image, options, seed)
    candidates: list[dict[str, Any]] = []
    kinds = _kinds(options, len(arena.held), len(order) > trained, y.ndim == 2, without) if arena else []
    found = _best(arena, kinds, options, seed, candidates, progress, recording) if arena else None
    if found is None:
        notes += ("No row could be left out to compare heads: strength and temperature are the defaults.",)
    calibration, thresholds = _calibrate(arena, found, options, len(classes) if y.ndim == 2 else 0)
    if found and options.calibrate != calibration.kind:
        notes += (f"A class has too few images left out for --calibrate {options.calibrate}: temperature it is.",)
    kind = found.kind if found else head_kind("logreg" if options.clf == "auto" else options.clf, options.kernel)
    head = _refit(kind, found, arena, used, trained, options, seed, recording)
    val = np.flatnonzero(split == VAL)
    val_logits = head.logits(transform.of(stored.take(val))) if len(val) else None
    if options.refit and len(order) > trained:
        again = None if recording is None else recording.of("refit")
        head = _refit(kind, found, None, used, len(order), options, seed, again)
    return Choice(
        clf=kind.clf,
        head=head,
        params=head.get_params(),
        calibration=calibration,
        candidates=candidates,
        seconds=time.perf_counter() - began,
        val_logits=val_logits,
        transform=transform,
        thresholds=thresholds,
        notes=notes,
    )


def _calibrate(
    arena: _Arena | None, found: _Found | None, options: HeadOptions, labels: int
) -> tuple[Calibration, np.ndarray | None]:
    """Confidence and, where an image has several of so many labels, their thresholds, from rows that were left out."""
    if arena is None or found is None:
        return Calibration(labels > 0), np.full(labels, 0.5) if labels else None
    logits, truth = arena.judged(found.trial.logits)
    calibration = fit_calibration(options.calibrate, logits, truth)
    if not labels:
        return calibration, None
    chances = calibration.probabilities(logits)
    return calibration, search_thresholds(chances, truth, options.thresholds, *options.threshold_range)


def _notes(y: np.ndarray, split: np.ndarray, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Name the classes that no head can get right, since no training image shows them."""
    if y.ndim == 2:
        absent = ~y[split == TRAIN].any(axis=0)
        names = ", ".join(name for name, none in zip(classes, absent, strict=True) if none)
        return (f"Without a training image, never given: {names}.",) if names else ()
    trained = np.unique(y[split == TRAIN])
    unseen = np.setdiff1d(np.unique(y[(split == VAL) | (split == TEST)]), trained)
    if not len(unseen):
        return ()
    names = ", ".join(classes[code] for code in unseen)
    return (f"Without a training image, always wrong: {names}.",)


def _arena(
    used: Rows, trained: int, groups: np.ndarray | None, image: np.ndarray, options: HeadOptions, seed: int
) -> _Arena | None:
    """Return where to compare, None where no row can be left out. The first `trained` rows are train, others val.

    image : of each row of train, the row of the image that it is a view of, or itself
    """
    watched = len(used.y) - trained
    if _search_where(options, int(used.own[:trained].sum()), watched) == "val":
        return _Arena(used, np.repeat([-1, 0], [trained, watched]), "val")
    train = used.take(np.arange(trained))
    own = np.flatnonzero(train.own)
    held = np.full(trained, -1)
    held[own] = make_folds(train.y[own], None if groups is None else groups[own], options.folds, seed)
    held = held[image]  # views go where their image goes
    return _Arena(train, held, "cv") if held.max() > 0 else None


def _search_where(options: HeadOptions, train: int, val: int) -> str:
    if options.search == "val" and val == 0:
        raise HeadError("--search val needs val images of classes that are in train; there are none. Use --search cv.")
    if options.search != "auto":
        return options.search
    few = train <= _MOST_CV_ROWS and options.clf != "dense"  # which watches val anyway
    return "cv" if few or not val else "val"


def _best(
    arena: _Arena,
    kinds: Sequence[HeadKind],
    options: HeadOptions,
    seed: int,
    candidates: list[dict[str, Any]],
    progress: Callable[[str], None],
    recording: Recording | None,
) -> _Found:
    """Compare kinds and strengths; of equals the first: the simpler head, the stronger regularisation."""
    best: _Found | None = None
    for kind in kinds:
        found = _best_strength(kind, arena, options, seed, candidates, progress, recording)
        if best is None or is_better(options.metric, found.score, best.score):
            best = found
    if best is None:
        raise HeadError(f"No head to compare for --clf {options.clf}.")
    return best


def _kinds(options: HeadOptions, rows: int, has_val: bool, several: bool, without: Collection[str]) -> list[HeadKind]:
    if options.clf != "auto":
        return [head_kind(options.clf, options.kernel)]
    return [
        kind
        for kind in HEADS.values()
        if kind.in_auto
        and kind.clf not in without
        and (kind.most_rows is None or rows <= kind.most_rows)
        and (has_val or not kind.stops_early)
        and not (several and kind.one_label)
    ]


def _best_strength(
    kind: HeadKind,
    arena: _Arena,
    options: HeadOptions,
    seed: int,
    candidates: list[dict[str, Any]],
    progress: Callable[[str], None],
    recording: Recording | None,
) -> _Found:
    fixed = options.strength if options.clf != "auto" else None
    strengths = _strengths(kind, options) if fixed is None else (fixed,)
    best: _Found | None = None
    # Under strong regularisation accuracy may stand still (all of the largest class) while the loss goes on falling.
    lowest, stale = np.inf, 0
    rows = arena.rows
    given = (rows.features, rows.y, arena.held, rows.weight)
    for trial in try_strengths(kind, strengths, *given, options, seed, recording, rows.own):
        found = _Found(kind, trial, arena.score(options.metric, trial.logits))
        candidates.append(_candidate(found, arena, options, seed))
        progress(_line(candidates[-1], kind.strength_name))
        loss = arena.score("log_loss", trial.logits)
        better = best is None or is_better(options.metric, found.score, best.score)
        if better:
            best = found
        stale = 0 if better or loss < lowest else stale + 1
        lowest = min(lowest, loss)
        if stale == _GIVE_UP and kind.strength_name:  # else they are in no order
            break
    assert best is not None
    return best


def _strengths(kind: HeadKind, options: HeadOptions) -> tuple[float, ...]:
    if kind.clf != "estimator":
        return kind.strengths or (kind.default,)
    from featx.heads.estimators import grid_points

    return tuple(map(float, range(len(grid_points(options)))))


def _candidate(found: _Found, arena: _Arena, options: HeadOptions, seed: int) -> dict[str, Any]:
    params = make_head(found.kind, found.trial.strength, options, seed).get_params()
    kind = found.kind
    return {"clf": kind.clf, "params": params, "score": found.score, "metric": options.metric, "where": arena.where}


def _line(candidate: dict[str, Any], strength: str | None) -> str:
    params = candidate["params"]
    if candidate["clf"] == "estimator":
        what = ", ".join(f"{name} {value}" for name, value in params["params"].items())
        name = params["path"].rpartition(".")[2] + (f", {what}" if what else "")
    else:
        name = candidate["clf"] + (f", {strength} {params[strength]:.3g}" if strength else "")
    return f"{name:<26} {candidate['metric']} {candidate['score']:.4f} ({candidate['where']})"


def _refit(
    kind: HeadKind,
    found: _Found | None,
    arena: _Arena | None,
    used: Rows,
    trained: int,
    options: HeadOptions,
    seed: int,
    recording: Recording | None,
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
        head.set_params(epochs=int(np.median([cast("DenseHead", fold).training_log_.best for fold in trial.heads])))
    rows = np.arange(len(used.y))
    fit_without(head, kind, used.features, used.y, rows[:trained], rows[trained:], used.weight, recording)
    return head
