"""Where heads compete: left-out rows, and the value of a trial on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featx.heads.base import Trial
from featx.heads.table import HeadKind
from featx.metrics.digits import figure_text
from featx.metrics.probabilities import Weighing
from featx.metrics.scores import score
from featx.selection.choice import Candidate, Where
from featx.selection.problem import NO_FOLD, Problem
from featx.selection.search import build_head, try_strengths
from featx.selection.settings import SearchSettings


@dataclass(frozen=True)
class Arena:
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
        """Try strengths of a kind of head on the rows."""
        return try_strengths(kind, strengths, self.problem, self.test_fold, settings, self.watched)

    def score(self, metric: str, trial: Trial, kind: HeadKind) -> float:
        """The score of the rows that were left out."""
        weighing = None if self.weights is None else Weighing(self.weights, kind.margins)
        return score(metric, *self.left_out(trial.logits), weighing)

    def judge(self, kind: HeadKind, trial: Trial, settings: SearchSettings) -> Found:
        """A trial with its score."""
        return Found(kind, trial, self.score(settings.options.metric, trial, kind))

    def candidate(self, found: Found, settings: SearchSettings) -> Candidate:
        """What is kept of it."""
        head = build_head(found.kind, found.trial.strength, replace(settings, gamma=found.trial.gamma))
        return Candidate(found.kind.clf, head.get_params(), found.score, settings.options.metric, self.where)

    def line(self, candidate: Candidate, kind: HeadKind) -> str:
        """What is shown of it."""
        params, strength = candidate.params, kind.strength_name
        if kind.grid:
            what = ", ".join(f"{name} {value}" for name, value in params["params"].items())
            name = params["path"].rpartition(".")[2] + (f", {what}" if what else "")
        else:
            name = kind.title + (f", {strength} {params[strength]:.3g}" if strength else "")
            name += f", gamma {params['gamma']:.3g}" if kind.radial else ""
        return f"{name:<26} {candidate.metric} {figure_text(candidate.score, self.images)} ({candidate.where})"

    def take(self, rows: np.ndarray) -> Arena:
        """Fewer rows, which the same fits leave out."""
        return replace(self, problem=self.problem.take(rows), test_fold=self.test_fold[rows])

    @property
    def images(self) -> int:
        """How many images were left out."""
        return int(((self.test_fold != NO_FOLD) & self.problem.own).sum())

    def left_out(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logits of the images that were left out, and what is true of them."""
        rows = (self.test_fold != NO_FOLD) & self.problem.own
        return logits[rows], self.problem.index[rows]


@dataclass(frozen=True)
class Found:
    """The best strength of a kind of head."""

    kind: HeadKind
    trial: Trial
    score: float
