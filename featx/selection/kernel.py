"""C and gamma of the SVM with a radial kernel: a grid of C, then steps in either direction while they help.

Of many rows a part is enough to find them: the best values hardly change with the number of rows, and the time grows
with its square. What is found there is judged on all rows, like every other head.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from featx.heads.base import Trial
from featx.heads.kernel import KernelFold
from featx.heads.table import HeadKind
from featx.io.counting import counted_of
from featx.metrics.table import is_better
from featx.selection.arena import Arena, Found
from featx.selection.choice import Candidate
from featx.selection.problem import NO_FOLD, Problem
from featx.selection.search import map_folds, widen
from featx.selection.settings import SearchSettings

_MOST_ROWS = 2_000  # that C and gamma are searched on
_STRENGTH_STEP, _GAMMA_STEP = 10.0, 4.0  # the latter exact in binary: a step there and back is one point
_STRENGTHS = (1e-4, 1e6)  # as far as steps go
_GAMMAS = (1 / 256, 256.0)

Point = tuple[float, float]
"""C, and gamma as `KernelSVM` has it"""


def search_kernel(kind: HeadKind, arena: Arena, settings: SearchSettings) -> tuple[Found, list[Candidate]]:
    """The best C and gamma, and what was tried on all rows."""
    rows = _drawn(arena, settings.seed)
    if len(rows) == len(arena.problem):
        search = _Search(kind, arena, settings)
        return search.run(), search.candidates
    part = arena.take(rows)
    inner = replace(
        settings, show=lambda line: settings.show(f"{line}, on {counted_of(part.images, arena.images, 'image')}")
    )
    found = _Search(kind, part, inner).run().trial
    (trial,) = arena.trials(kind, (found.strength,), replace(settings, gamma=found.gamma))
    best = arena.judge(kind, trial, settings)
    candidate = arena.candidate(best, settings)
    settings.show(arena.line(candidate, kind))
    return best, [candidate]


def kernel_border_note(best: Found, settings: SearchSettings) -> tuple[str, ...]:
    """Say that the best C or gamma is the last one that steps go to."""
    gamma = best.trial.gamma if fixed_gamma(settings) is None else None
    values = (("C", best.trial.strength, _STRENGTHS), ("gamma", gamma, _GAMMAS))
    return tuple(
        f"The best {name} of {best.kind.title}, {value:.3g}, is at the end of what is tried ({ends[0]:.3g} to "
        f"{ends[1]:.3g}{', times the usual one' if name == 'gamma' else ''}): one beyond may be better."
        for name, value, ends in values
        if value in ends
    )


@dataclass
class _Search:
    """Tries points on rows whose distances are computed once; `candidates` has them all."""

    kind: HeadKind
    arena: Arena
    settings: SearchSettings
    candidates: list[Candidate] = field(default_factory=list)

    def __post_init__(self) -> None:
        problem, test_fold = self.arena.problem, self.arena.test_fold
        left_out = [np.flatnonzero((test_fold == fold) & problem.own) for fold in range(test_fold.max() + 1)]
        self._left_out = [rows for rows in left_out if len(rows)]
        fits = [np.flatnonzero(test_fold != test_fold[rows[0]]) for rows in self._left_out]
        weight, class_weight = problem.weight, self.settings.options.class_weight
        self._folds = [
            KernelFold.of(
                problem.features.take(rows),
                problem.y[rows],
                None if weight is None else weight[rows],
                problem.features.take(judged),
                class_weight,
            )
            for rows, judged in zip(fits, self._left_out, strict=True)
        ]
        self._tried: dict[Point, Found] = {}

    def run(self) -> Found:
        fixed = fixed_gamma(self.settings)
        best = self._best_of([(strength, fixed or 1.0) for strength in self.kind.strengths], None)
        while (better := self._best_of(_neighbours(best.trial, fixed is None), best)) is not best:
            best = better
        return best

    def _best_of(self, points: list[Point], best: Found | None) -> Found:
        """The best among untried points and the best so far; of equals the first."""
        metric = self.settings.options.metric
        for point in points:
            if point in self._tried:
                continue
            found = self._tried[point] = self._try(point)
            if best is None or is_better(metric, found.score, best.score):
                best = found
        assert best is not None
        return best

    def _try(self, point: Point) -> Found:
        problem, (strength, gamma) = self.arena.problem, point
        classes = np.unique(problem.y)
        logits = np.full((len(problem), len(classes)), np.nan, np.float32)
        found = map_folds(self.kind, partial(self._fold_logits, point), range(len(self._folds)))
        for rows, fold, some in zip(self._left_out, self._folds, found, strict=True):
            logits[rows] = widen(some, fold.classes, classes)
        trial = self.arena.judge(self.kind, Trial(strength, logits, gamma=gamma), self.settings)
        self.candidates.append(self.arena.candidate(trial, self.settings))
        self.settings.show(self.arena.line(self.candidates[-1], self.kind))
        return trial

    def _fold_logits(self, point: Point, fold: int) -> np.ndarray:
        return self._folds[fold].logits(*point)


def fixed_gamma(settings: SearchSettings) -> float | None:
    """The gamma that was asked for; None where it is searched, as `auto` always does."""
    return None if settings.options.clf == "auto" else settings.options.gamma


def _neighbours(trial: Trial, moved: bool) -> list[Point]:
    """A step of gamma, where it is moved, then of C, in both directions, as far as they go."""
    strength, gamma = trial.strength, trial.gamma or 1.0
    gammas = (gamma / _GAMMA_STEP, gamma * _GAMMA_STEP) if moved else ()
    strengths = (float(f"{strength * step:.3g}") for step in (1 / _STRENGTH_STEP, _STRENGTH_STEP))
    return [
        *((strength, one) for one in gammas if _GAMMAS[0] <= one <= _GAMMAS[1]),
        *((one, gamma) for one in strengths if _STRENGTHS[0] <= one <= _STRENGTHS[1]),
    ]


def _drawn(arena: Arena, seed: int) -> np.ndarray:
    """Rows to search on, ascending: all, or so many images of each class and fit, and their views."""
    problem: Problem = arena.problem
    if len(problem) <= _MOST_ROWS:
        return np.arange(len(problem))
    own = np.flatnonzero(problem.own)
    stratum = problem.index[own] * (arena.test_fold.max() + 2) + arena.test_fold[own] - NO_FOLD
    order = np.lexsort((np.random.default_rng(seed).random(len(own)), stratum))
    _, first, counts = np.unique(stratum[order], return_index=True, return_counts=True)
    place = np.arange(len(own)) - np.repeat(first, counts)
    chosen = np.zeros(len(problem), bool)
    chosen[own[order[place < np.repeat(np.ceil(counts * _MOST_ROWS / len(problem)), counts)]]] = True
    if problem.image_of is not None:
        chosen = chosen[problem.image_of] & (problem.image_of >= 0)
    return np.flatnonzero(chosen)
