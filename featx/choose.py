"""Choose a head on one set of features: search its strength, compare kinds, fit the winner, calibrate it.

Everything is compared on rows that the compared fit has not seen: on val, or on folds of train. Groups (shots of one
object) are never on both sides, nor are an image and its views, which are fitted on but never judged. Test rows are not
read. What stands in front of the head (principal components) is learned from the training rows, views among them,
without their labels, once for all folds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
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
from featx.heads.calibrate import Calibration, fit_calibration
from featx.heads.folds import make_folds
from featx.heads.front import Front, fit_front
from featx.heads.scaling import check_finite
from featx.heads.scores import is_better, resolve_metric, score, signed_score
from featx.heads.search import Trial, fit_without, try_strengths
from featx.heads.thresholds import search_thresholds
from featx.options import HeadOptions, Metric, parse_bytes
from featx.training.journal import Journal

if TYPE_CHECKING:
    from featx.heads.dense import DenseHead
    from featx.heads.linear import Linear

_MOST_CV_ROWS = 10_000  # up to here `--search auto` takes folds even where there is a val part: it is small, too
_GIVE_UP = 2  # so many weaker regularisations with neither a better score nor a lower loss end a search
_ASSUMED_MEMORY = 8 << 30  # bytes, where the system does not say


@dataclass(frozen=True)
class Choice:
    """A fitted head, and how it was found.

    Attributes
    ----------
    clf, params : the kind of head, and what it was made with
    head : fitted on the train rows, or on train and val with the option `refit`
    calibration : from its logits to probabilities
    candidates : what was compared: dicts with clf, params, score, metric, where ('cv' or 'val')
    seconds : it took
    val_logits : float32 (val rows, len(head.classes_)), in the order of the rows, by the fit on train alone; None
        without val rows
    front : what the features pass through before the head
    thresholds : float64 (k,), of several labels per image; None where an image has one
    notes : what a user should know
    """

    clf: str
    head: Head
    params: dict[str, Any]
    calibration: Calibration
    candidates: list[dict[str, Any]]
    seconds: float
    val_logits: np.ndarray | None
    front: Front = Front()
    thresholds: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return self.calibration.temperature

    @property
    def score(self) -> float:
        """The best candidate's score, of which more is better; minus infinity where nothing could be compared."""
        return max(map(signed_score, self.candidates), default=-np.inf)

    def logits(self, features: Features) -> np.ndarray:
        """Logits float32 (n, k) of features as the store has them."""
        return self.head.logits(self.front.of(features))


@dataclass(frozen=True)
class _Rows:
    """Features (n, ...), labels (n,) or (n, k), weights (n,), and which are images, not views, of the same rows."""

    features: Features
    y: np.ndarray
    weight: np.ndarray | None
    own: np.ndarray

    def take(self, rows: np.ndarray) -> _Rows:
        weight = None if self.weight is None else self.weight[rows]
        return _Rows(self.features.take(rows), self.y[rows], weight, self.own[rows])


@dataclass(frozen=True)
class _Arena:
    """Where heads are compared: rows, and which fit leaves which row out (-1: none does)."""

    rows: _Rows
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
    journal: Journal | None = None,
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
    journal : where heads that are trained epoch by epoch write it down, and are resumed from

    Raises
    ------
    HeadError
        Fewer than two classes in train, `--search val` without val rows, a weight for a class that does not exist.
    FeaturesError
        Features that are not finite; its `rows` are positions in `features`.
    """
    began = time.perf_counter()
    options = replace(options, metric=resolve_metric(options.metric, y.ndim == 2))
    options, sample_weight = _weigh_classes(options, y, classes, sample_weight)
    notes = _notes(y, split, classes)
    stored, memory = as_features(features), _memory(options)
    front = fit_front(stored.take(np.flatnonzero(split == TRAIN)), options.normalize == "l2", options.pca, memory, seed)
    images = np.arange(len(y)) if view_of is None else view_of
    rows = _Rows(front.of(stored), y, sample_weight, images == np.arange(len(y)))
    used, order = _load(rows, split, classes, memory)
    trained = int(np.count_nonzero(split == TRAIN))
    train_groups = None if groups is None else groups[order[:trained]]
    image = np.searchsorted(order[:trained], images[order[:trained]])
    arena = _arena(used, trained, train_groups, image, options, seed)
    candidates: list[dict[str, Any]] = []
    kinds = _kinds(options, len(arena.held), len(order) > trained, y.ndim == 2, without) if arena else []
    found = _best(arena, kinds, options, seed, candidates, progress, journal) if arena else None
    if found is None:
        notes += ("No row could be left out to compare heads: strength and temperature are the defaults.",)
    calibration, thresholds = _calibrate(arena, found, options, len(classes) if y.ndim == 2 else 0)
    if found and options.calibrate != calibration.kind:
        notes += (f"A class has too few images left out for --calibrate {options.calibrate}: temperature it is.",)
    kind = found.kind if found else head_kind("logreg" if options.clf == "auto" else options.clf, options.kernel)
    head = _refit(kind, found, arena, used, trained, options, seed, journal)
    val = np.flatnonzero(split == VAL)
    val_logits = head.logits(front.of(stored.take(val))) if len(val) else None
    if options.refit and len(order) > trained:
        again = None if journal is None else journal.of("refit")
        head = _refit(kind, found, None, used, len(order), options, seed, again)
    return Choice(
        clf=kind.clf,
        head=head,
        params=head.get_params(),
        calibration=calibration,
        candidates=candidates,
        seconds=time.perf_counter() - began,
        val_logits=val_logits,
        front=front,
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


def _weigh_classes(
    options: HeadOptions, y: np.ndarray, classes: tuple[str, ...], sample_weight: np.ndarray | None
) -> tuple[HeadOptions, np.ndarray | None]:
    """Turn `NAME=WEIGHT,...` into weights of the rows."""
    if options.class_weight in {"none", "balanced"}:
        return options, sample_weight
    weights = dict.fromkeys(classes, 1.0) | parse_class_weight(options.class_weight, classes)
    if y.ndim == 2:
        raise HeadError("--class-weight takes names where an image has one class. For several labels: balanced.")
    of_class = np.array([weights[name] for name in classes])
    rows = np.ones(len(y)) if sample_weight is None else sample_weight
    return replace(options, class_weight="none"), rows * of_class[y]


def parse_class_weight(text: str, classes: tuple[str, ...]) -> dict[str, float]:
    """Weights by class of `NAME=WEIGHT,NAME=WEIGHT`.

    Raises
    ------
    HeadError
        A name that is no class, or a weight that is no number of at least 0.
    """
    found = {}
    for item in text.split(","):
        name, _, number = item.strip().rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = -1.0
        if name not in classes or not 0 <= found[name] < np.inf:
            raise HeadError(
                f"--class-weight is none, balanced, or NAME=WEIGHT,... for classes ({', '.join(classes[:10])}"
                f"{', ...' if len(classes) > 10 else ''}); got {item.strip()!r}."
            )
    return found


def _load(rows: _Rows, split: np.ndarray, classes: tuple[str, ...], memory: int) -> tuple[_Rows, np.ndarray]:
    """Return the train rows, then the val rows of classes that are in train, and their positions in `rows`.

    Features that fit in `--memory` are read once; others are streamed from where they are.
    """
    train, val = np.flatnonzero(split == TRAIN), np.flatnonzero(split == VAL)
    _check_classes(rows.y[train], classes)
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


def _memory(options: HeadOptions) -> int:
    """Return how many bytes of features may be held: a third of --memory, since a fit works on copies of parts."""
    return _physical_memory() // 2 if options.memory is None else parse_bytes(options.memory) // 3


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows
        return _ASSUMED_MEMORY


def _check_classes(y: np.ndarray, classes: tuple[str, ...]) -> None:
    if not len(y):
        raise HeadError("No image is left to train on.")
    if y.ndim == 2:
        if not (y.any(axis=0) & ~y.all(axis=0)).any():
            raise HeadError(f"All {len(y)} training images have the same labels: there is nothing to tell apart.")
        return
    present = np.unique(y)
    if len(present) == 1:
        raise HeadError(f"A head tells classes apart, but all {len(y)} training images are {classes[present[0]]!r}.")


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
    used: _Rows, trained: int, groups: np.ndarray | None, image: np.ndarray, options: HeadOptions, seed: int
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
    journal: Journal | None,
) -> _Found:
    """Compare kinds and strengths; of equals the first: the simpler head, the stronger regularisation."""
    best: _Found | None = None
    for kind in kinds:
        found = _best_strength(kind, arena, options, seed, candidates, progress, journal)
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
    journal: Journal | None,
) -> _Found:
    fixed = options.strength if options.clf != "auto" else None
    strengths = _strengths(kind, options) if fixed is None else (fixed,)
    best: _Found | None = None
    # Under strong regularisation accuracy may stand still (all of the largest class) while the loss goes on falling.
    lowest, stale = np.inf, 0
    rows = arena.rows
    given = (rows.features, rows.y, arena.held, rows.weight)
    for trial in try_strengths(kind, strengths, *given, options, seed, journal, rows.own):
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
