"""Choose a head on one set of features: search its strength, compare kinds, fit the winner, calibrate it.

Everything is compared on rows that the compared fit has not seen: on val, or on folds of train. Groups (shots of one
object) are never on both sides, nor are an image and its views, which are fitted on but never judged. Test rows are not
read. What stands in front of the head (principal components) is learned from the training rows, views among them,
without their labels, once for all folds.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from featx.config import HeadOptions
from featx.dataset import TEST, TRAIN, VAL
from featx.errors import HeadError
from featx.heads.base import Head, Trial
from featx.heads.calibration import CORRECTED_NOTE, Calibration, fit_calibration
from featx.heads.table import HEADS, HeadKind, head_kind, make_head
from featx.heads.transform import fit_transform
from featx.metrics.digits import figure_text
from featx.metrics.predictions import Target
from featx.metrics.probabilities import Weighing
from featx.metrics.scores import score
from featx.metrics.table import is_better
from featx.selection.choice import Candidate, Choice, Where
from featx.selection.memory import load_rows, memory_budget
from featx.selection.problem import NO_FOLD, Problem
from featx.selection.search import fit_rows, try_strengths
from featx.selection.settings import SearchSettings
from featx.selection.thresholds import describe_thresholds, find_thresholds
from featx.selection.weights import class_weights, is_weighed, require_weighing, weigh_classes

if TYPE_CHECKING:
    from featx.heads.dense import DenseHead
    from featx.heads.linear import Linear

_MOST_CV_ROWS = 10_000  # up to here `--search auto` takes folds even where there is a val part: it is small, too
_MOST_STEPS = 4  # beyond an end of the strengths, where the best one is there
_GIVE_UP = 2  # so many weaker regularisations with neither a better score nor a lower loss end a search


@dataclass(frozen=True)
class _Arena:
    """Where heads are compared: rows, and which fit leaves which row out (-1: none does).

    watched : rows that stop the fits of folds, where there is a val part
    weights : of the classes in the fits, float64 (k,), which the confidence that is scored is corrected for; None: none
    """

    problem: Problem
    test_fold: np.ndarray
    where: Where
    watched: Problem | None = None
    weights: np.ndarray | None = None

    def trials(self, kind: HeadKind, strengths: Sequence[float], settings: SearchSettings) -> Iterator[Trial]:
        return try_strengths(kind, strengths, self.problem, self.test_fold, settings, self.watched)

    def score(self, metric: str, trial: Trial, kind: HeadKind) -> float:
        weighing = None if self.weights is None else Weighing(self.weights, kind.margins)
        return score(metric, *self.left_out(trial.logits), weighing)

    @property
    def images(self) -> int:
        """How many images were left out."""
        return int(((self.test_fold != NO_FOLD) & self.problem.own).sum())

    def left_out(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logits of the images that were left out, and what is true of them."""
        rows = (self.test_fold != NO_FOLD) & self.problem.own
        return logits[rows], self.problem.index[rows]


@dataclass(frozen=True)
class _Found:
    """The best strength of a kind of head."""

    kind: HeadKind
    trial: Trial
    score: float


@dataclass(frozen=True)
class _Compared:
    """What came of a comparison: the best, None where nothing could be compared, and all that was tried."""

    best: _Found | None
    candidates: tuple[Candidate, ...]


def choose_head(problem: Problem, settings: SearchSettings, without: Collection[str] = ()) -> Choice:
    """Search, compare, fit and calibrate.

    without : kinds that `auto` leaves out, since they have been judged on these features already

    Raises
    ------
    HeadError
        Fewer than two classes in train, `--search val` without val rows, a weight for a class that does not exist.
    FeaturesError
        Features that are not finite; its `rows` are positions in `problem`.
    """
    began = time.perf_counter()
    weights = class_weights(problem, settings)
    problem, settings = weigh_classes(problem, settings.resolved(problem.target))
    options, memory = settings.options, memory_budget(settings.options)
    notes = _notes(problem) + describe_thresholds(problem, options)
    if is_weighed(problem, settings):
        if options.clf == "auto":
            left_out = {kind.clf for kind in HEADS.values() if kind.in_auto and not kind.weighs} - {*without}
            notes += tuple(f"{clf} was not tried: weights do not change it." for clf in sorted(left_out))
            without = {*without, *left_out}
        else:
            require_weighing(head_kind(options.clf, options.kernel))
    stored = problem.features
    transform = fit_transform(stored.take(problem.train), options.normalize == "l2", options.pca, memory, settings.seed)
    used = load_rows(replace(problem, features=transform.of(stored)), memory)
    arena = _arena(used, settings, weights)
    compared = (
        _Compared(None, ())
        if arena is None
        else _compare(arena, settings, len(used.val) > 0 or settings.without_val, without)
    )
    best = compared.best
    if best is None:
        notes += ("No row could be left out to compare heads: strength and temperature are the defaults.",)
    kind = best.kind if best else head_kind("logreg" if options.clf == "auto" else options.clf, options.kernel)
    if best is not None and options.strength is None:
        notes += _border_note(best, compared.candidates)
    weighing = None if weights is None else Weighing(weights, kind.margins)
    labels = len(problem.classes) if problem.target == "labels" else 0
    notes += (CORRECTED_NOTE,) if weighing is not None and not labels else ()
    calibration, thresholds = _calibrate(arena, best, options, labels, weighing)
    if best and options.calibrate != calibration.kind:
        notes += (f"A class has too few images left out for --calibrate {options.calibrate}: temperature it is.",)
    fitted = _fitted_already(best, arena)
    head = _refit(kind, best, used, settings) if fitted is None else fitted
    val_logits = head.logits(transform.of(stored.take(problem.val))) if len(problem.val) else None
    if options.refit and len(used.val):
        head = _refit(kind, best, replace(used, split=np.full(len(used), TRAIN, np.uint8)), settings.logged("refit"))
    return Choice(
        clf=kind.clf,
        head=head,
        params=head.get_params(),
        calibration=calibration,
        candidates=compared.candidates,
        seconds=time.perf_counter() - began,
        val_logits=val_logits,
        transform=transform,
        thresholds=thresholds,
        notes=notes,
    )


def _calibrate(
    arena: _Arena | None, found: _Found | None, options: HeadOptions, labels: int, weighing: Weighing | None
) -> tuple[Calibration, np.ndarray | None]:
    """Confidence and, where an image has several of so many labels, their thresholds, from rows that were left out."""
    if arena is None or found is None:
        logits, truth = np.empty((0, labels)), np.empty((0, labels), bool) if labels else np.empty(0, np.int64)
    else:
        logits, truth = arena.left_out(found.trial.logits)
    calibration = fit_calibration(options.calibrate, logits, truth, weighing)
    return calibration, find_thresholds(calibration, logits, truth, options) if labels else None


def _notes(problem: Problem) -> tuple[str, ...]:
    """Name the classes that no head can get right, since no training image shows them."""
    y, split = problem.y, problem.split
    if problem.target == "labels":
        absent = ~y[problem.train].any(axis=0)
        names = ", ".join(name for name, none in zip(problem.classes, absent, strict=True) if none)
        return (f"Without a training image, never given: {names}.",) if names else ()
    unseen = np.setdiff1d(np.unique(y[(split == VAL) | (split == TEST)]), np.unique(y[problem.train]))
    if not len(unseen):
        return ()
    names = ", ".join(problem.classes[code] for code in unseen)
    return (f"Without a training image, always wrong: {names}.",)


def _arena(used: Problem, settings: SearchSettings, weights: np.ndarray | None) -> _Arena | None:
    """Return where to compare, None where no row can be left out. Train rows come first in `used`, val rows follow."""
    trained, watched = len(used.train), len(used.val)
    if _search_where(settings.options, int(used.own[used.train].sum()), watched) == "val":
        return _Arena(used, np.repeat([NO_FOLD, 0], [trained, watched]), "val", weights=weights)
    train = used.take(used.train)
    test_fold = train.test_folds(settings.options.folds, settings.seed)
    val = used.take(used.val[used.own[used.val]]) if watched else None
    return _Arena(train, test_fold, "cv", val, weights) if test_fold.max() > 0 else None


def _search_where(options: HeadOptions, train: int, val: int) -> Where:
    if options.search == "val" and val == 0:
        raise HeadError("--search val needs val images of classes that are in train; there are none. Use --search cv.")
    if options.search != "auto":
        return options.search
    few = train <= _MOST_CV_ROWS and options.clf != "dense"  # which watches val anyway
    return "cv" if few or not val else "val"


def _compare(arena: _Arena, settings: SearchSettings, has_val: bool, without: Collection[str]) -> _Compared:
    """Compare kinds and strengths; of equals the first: the simpler head, the stronger regularisation."""
    kinds = _kinds(settings.options, len(arena.problem), has_val, arena.problem.target, without)
    best: _Found | None = None
    candidates: list[Candidate] = []
    for kind in kinds:
        found, tried = _search_strength(kind, arena, settings)
        candidates += tried
        if best is None or is_better(settings.options.metric, found.score, best.score):
            best = found
    if best is None:
        raise HeadError(f"No head to compare for --clf {settings.options.clf}.")
    return _Compared(best, tuple(candidates))


def _kinds(
    options: HeadOptions, rows: int, has_val: bool, target: Target, without: Collection[str]
) -> Sequence[HeadKind]:
    if options.clf != "auto":
        return [head_kind(options.clf, options.kernel)]
    return [
        kind
        for kind in HEADS.values()
        if kind.in_auto
        and kind.clf not in without
        and (kind.most_rows is None or rows <= kind.most_rows)
        and (has_val or not kind.stops_early)
        and not (target == "labels" and kind.one_label)
    ]


def _search_strength(kind: HeadKind, arena: _Arena, settings: SearchSettings) -> tuple[_Found, list[Candidate]]:
    """The best strength of a kind of head, and what was tried."""
    options = settings.options
    best: _Found | None = None
    tried: list[Candidate] = []
    # Under strong regularisation accuracy may stand still (all of the largest class) while the loss goes on falling.
    lowest, stale = np.inf, 0
    for trial in arena.trials(kind, _strengths(kind, options), settings):
        found = _Found(kind, trial, arena.score(options.metric, trial, kind))
        tried.append(_candidate(found, arena.where, settings))
        settings.show(_line(tried[-1], kind.strength_name, arena.images))
        loss = arena.score("log_loss", trial, kind)
        better = best is None or is_better(options.metric, found.score, best.score)
        if better:
            best = found
        stale = 0 if better or loss < lowest else stale + 1
        lowest = min(lowest, loss)
        if stale == _GIVE_UP and kind.strength_name:  # else they are in no order
            break
    assert best is not None
    if kind.strength_name and len(kind.strengths) > 1 and len(tried) > 1:
        best = _extend(best, arena, settings, tried)
    return best, tried


def _extend(best: _Found, arena: _Arena, settings: SearchSettings, tried: list[Candidate]) -> _Found:
    """Go on beyond the end at which the best strength is, by the last step's ratio, as long as that is better."""
    kind, metric = best.kind, settings.options.metric
    strengths = [float(one.params[str(kind.strength_name)]) for one in tried]
    if best.trial.strength not in {strengths[0], strengths[-1]}:
        return best
    ends = strengths[1::-1] if best.trial.strength == strengths[0] else strengths[-2:]
    ratio, strength = ends[1] / ends[0], ends[1]
    for _ in range(_MOST_STEPS):
        strength = float(f"{strength * ratio:.3g}") if kind.clf != "knn" else float(round(strength * ratio))
        if strength <= 0:
            break
        (trial,) = arena.trials(kind, (strength,), settings)
        found = _Found(kind, trial, arena.score(metric, trial, kind))
        tried.append(_candidate(found, arena.where, settings))
        settings.show(_line(tried[-1], kind.strength_name, arena.images))
        if not is_better(metric, found.score, best.score):
            break
        best = found
    return best


def _border_note(best: _Found, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Say that the best strength is the last one that was tried in its direction, where it may go on getting better."""
    name = best.kind.strength_name
    own = [one for one in candidates if one.clf == best.kind.clf and name in one.params]
    strengths = sorted({float(one.params[str(name)]) for one in own})
    found = best.trial.strength
    others = {one.score for one in own if float(one.params[str(name)]) != found}
    if len(strengths) < 2 or found not in {strengths[0], strengths[-1]} or best.score in others:
        return ()
    if best.kind.clf == "knn" and found == 1:
        return ()
    beyond = "below" if found == strengths[0] else "above"
    text = (
        f"The best {name} of {best.kind.clf}, {found:g}, is at the end of what was tried ({strengths[0]:g} to "
        f"{strengths[-1]:g}): one {beyond} may be better. Try it with --clf {best.kind.clf} --strength."
    )
    return (text,)


def _strengths(kind: HeadKind, options: HeadOptions) -> tuple[float, ...]:
    if options.clf != "auto" and options.strength is not None:
        return (options.strength,)
    if kind.clf != "estimator":
        return kind.strengths or (kind.default,)
    from featx.heads.estimators import grid_points

    return tuple(map(float, range(len(grid_points(options)))))


def _candidate(found: _Found, where: Where, settings: SearchSettings) -> Candidate:
    head = make_head(found.kind, found.trial.strength, settings.options, settings.seed)
    return Candidate(found.kind.clf, head.get_params(), found.score, settings.options.metric, where)


def _line(candidate: Candidate, strength: str | None, images: int) -> str:
    params = candidate.params
    if candidate.clf == "estimator":
        what = ", ".join(f"{name} {value}" for name, value in params["params"].items())
        name = params["path"].rpartition(".")[2] + (f", {what}" if what else "")
    else:
        name = candidate.clf + (f", {strength} {params[strength]:.3g}" if strength else "")
    return f"{name:<26} {candidate.metric} {figure_text(candidate.score, images)} ({candidate.where})"


def _fitted_already(best: _Found | None, arena: _Arena | None) -> Head | None:
    """What was compared on val was fitted on train."""
    return best.trial.heads[0] if best and best.trial.heads and arena and arena.where == "val" else None


def _refit(kind: HeadKind, best: _Found | None, used: Problem, settings: SearchSettings) -> Head:
    """Fit on the train rows of `used`; what stops early watches its val rows."""
    trial = best.trial if best else None
    strength = trial.strength if trial else settings.options.strength
    head = make_head(kind, strength, settings.options, settings.seed)
    if kind.linear:
        train = used.take(used.train)
        return cast("Linear", head).fit(train.features, train.y, train.weight, trial.start if trial else None)
    if kind.stops_early and trial and not len(used.val):
        head.set_params(epochs=int(np.median([cast("DenseHead", fold).training_log_.best for fold in trial.heads])))
    fit_rows(head, kind, used, used.train, used.take(used.val), settings.recording)
    return head
