"""Choose a head on one set of features: search its strength, compare kinds, fit the winner, calibrate it.

Everything is compared on rows that the compared fit has not seen: on val, or on folds of train. Groups (shots of one
object) are never on both sides, nor are an image and its views, which are fitted on but never judged. Test rows are not
read. What stands in front of the head (principal components) is learned from the training rows, views among them,
without their labels, once for all folds.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from featx.config import HeadOptions
from featx.dataset import TEST, TRAIN, VAL
from featx.errors import HeadError
from featx.heads.base import Head
from featx.heads.calibration import CORRECTED_NOTE, Calibration, fit_calibration
from featx.heads.table import HeadKind, head_kind
from featx.heads.transform import fit_transform
from featx.metrics.probabilities import Weighing
from featx.metrics.table import is_better
from featx.selection.arena import Arena, Found
from featx.selection.auto import Kinds, choose_kinds
from featx.selection.choice import Candidate, Choice, Where
from featx.selection.memory import load_rows, memory_budget
from featx.selection.problem import NO_FOLD, Problem
from featx.selection.search import build_head, fit_rows
from featx.selection.settings import SearchSettings
from featx.selection.strengths import border_note, search_strength
from featx.selection.thresholds import describe_thresholds, find_thresholds
from featx.selection.weights import class_weights, is_weighed, require_weighing, weigh_classes

if TYPE_CHECKING:
    from featx.heads.dense import DenseHead
    from featx.heads.linear import Linear

_NOTHING_TO_JOIN = "--refit changed nothing: there are no val images to fit on as well."
_MOST_CV_ROWS = 10_000  # up to here `--search auto` takes folds even where there is a val part: it is small, too


@dataclass(frozen=True)
class _Compared:
    """What came of a comparison: the best, None where nothing could be compared, and all that was tried."""

    best: Found | None
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
    notes += (_NOTHING_TO_JOIN,) if options.refit and not len(problem.val) else ()
    if options.clf != "auto" and is_weighed(problem, settings):
        require_weighing(head_kind(options.clf, options.kernel))
    stored = problem.features
    transform = fit_transform(stored.take(problem.train), options.normalize == "l2", options.pca, memory, settings.seed)
    used = load_rows(replace(problem, features=transform.of(stored)), memory)
    arena = _arena(used, settings, weights)
    kinds = Kinds(()) if arena is None else choose_kinds(used, settings, without)
    compared = _Compared(None, ()) if arena is None else _compare(arena, settings, kinds.tried)
    notes += kinds.left_out
    best = compared.best
    if best is None:
        notes += ("No image could be left out to compare heads, so strength and temperature are the defaults.",)
    kind = best.kind if best else head_kind("logreg" if options.clf == "auto" else options.clf, options.kernel)
    if best is not None and options.strength is None:
        notes += border_note(best, compared.candidates, settings)
    weighing = None if weights is None else Weighing(weights, kind.margins)
    labels = len(problem.classes) if problem.target == "labels" else 0
    notes += (CORRECTED_NOTE,) if weighing is not None and not labels else ()
    calibration, thresholds = _calibrate(arena, best, options, labels, weighing)
    if best and options.calibrate != calibration.kind:
        notes += (f"A class has too few images left out for --calibrate {options.calibrate}, so temperature is used.",)
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
        left_out=kinds.left_out,
    )


def _calibrate(
    arena: Arena | None, found: Found | None, options: HeadOptions, labels: int, weighing: Weighing | None
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
        return (f"Without a training image, never predicted: {names}.",) if names else ()
    unseen = np.setdiff1d(np.unique(y[(split == VAL) | (split == TEST)]), np.unique(y[problem.train]))
    if not len(unseen):
        return ()
    names = ", ".join(problem.classes[code] for code in unseen)
    return (f"Without a training image, always wrong: {names}.",)


def _arena(used: Problem, settings: SearchSettings, weights: np.ndarray | None) -> Arena | None:
    """Return where to compare, None where no row can be left out. Train rows come first in `used`, val rows follow."""
    trained, watched = len(used.train), len(used.val)
    if _search_where(settings.options, int(used.own[used.train].sum()), watched) == "val":
        return Arena(used, np.repeat([NO_FOLD, 0], [trained, watched]), "val", weights=weights)
    train = used.take(used.train)
    test_fold = train.test_folds(settings.options.folds, settings.seed)
    val = used.take(used.val[used.own[used.val]]) if watched else None
    return Arena(train, test_fold, "cv", val, weights) if test_fold.max() > 0 else None


def _search_where(options: HeadOptions, train: int, val: int) -> Where:
    if options.search == "val" and val == 0:
        raise HeadError("--search val needs val images of classes that are in train; there are none. Use --search cv.")
    if options.search != "auto":
        return options.search
    few = train <= _MOST_CV_ROWS and options.clf != "dense"  # which watches val anyway
    return "cv" if few or not val else "val"


def _compare(arena: Arena, settings: SearchSettings, kinds: Sequence[HeadKind]) -> _Compared:
    """Compare kinds and strengths; of equals the first: the simpler head, the stronger regularisation."""
    best: Found | None = None
    candidates: list[Candidate] = []
    for kind in kinds:
        found, tried = search_strength(kind, arena, settings)
        candidates += tried
        if best is None or is_better(settings.options.metric, found.score, best.score):
            best = found
    if best is None:
        raise HeadError(f"No head to compare for --clf {settings.options.clf}.")
    return _Compared(best, tuple(candidates))


def _fitted_already(best: Found | None, arena: Arena | None) -> Head | None:
    """What was compared on val was fitted on train."""
    return best.trial.heads[0] if best and best.trial.heads and arena and arena.where == "val" else None


def _refit(kind: HeadKind, best: Found | None, used: Problem, settings: SearchSettings) -> Head:
    """Fit on the train rows of `used`; what stops early watches its val rows."""
    trial = best.trial if best else None
    strength = trial.strength if trial else settings.options.strength
    head = build_head(kind, strength, replace(settings, gamma=trial.gamma if trial else None))
    if kind.linear:
        train = used.take(used.train)
        return cast("Linear", head).fit(train.features, train.y, train.weight, trial.start if trial else None)
    if kind.stops_early and trial and not len(used.val):
        head.set_params(epochs=int(np.median([cast("DenseHead", fold).training_log_.best for fold in trial.heads])))
    fit_rows(head, kind, used, used.train, used.take(used.val), settings.recording)
    return head
