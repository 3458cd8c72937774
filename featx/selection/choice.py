"""The choice: a fitted head, its transform and calibration, and all candidates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from featx.features import Features
from featx.heads.base import Head, Params
from featx.heads.calibration import Calibration
from featx.heads.transform import Transform
from featx.metrics.table import signed_score

Where = Literal["cv", "val"]


@dataclass(frozen=True)
class Candidate:
    """One head that was compared.

    clf, params : the kind of head, and what it was made with
    score : of `metric`, on val or on folds of train
    """

    clf: str
    params: Params
    score: float
    metric: str
    where: Where

    @property
    def signed(self) -> float:
        """Its score, of which more is better whatever the metric."""
        return signed_score(self.metric, self.score)

    def as_json(self) -> dict[str, object]:
        """As a bundle keeps it."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """A fitted head, and how it was found.

    Attributes
    ----------
    clf, params : the kind of head, and what it was made with
    head : fitted on the train rows, or on train and val with the option `refit`
    calibration : from its logits to probabilities
    candidates : what was compared
    seconds : it took
    val_logits : float32 (val rows, len(head.classes_)), in the order of the rows, by the fit on train alone; None
        without val rows
    transform : what the features pass through before the head
    thresholds : float64 (k,), of several labels per image; None where an image has one
    notes : what a user should know; left_out : of these, what `auto` has not tried, and why
    """

    clf: str
    head: Head
    params: Params
    calibration: Calibration
    candidates: tuple[Candidate, ...]
    seconds: float
    val_logits: np.ndarray | None
    transform: Transform = Transform()
    thresholds: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return self.calibration.temperature

    @property
    def best(self) -> Candidate | None:
        """The best candidate; None where nothing could be compared."""
        return max(self.candidates, key=lambda one: one.signed, default=None)

    @property
    def score(self) -> float:
        """The best candidate's score, of which more is better; minus infinity where nothing could be compared."""
        return -np.inf if self.best is None else self.best.signed

    def logits(self, features: Features) -> np.ndarray:
        """Logits float32 (n, k) of features as the store has them."""
        return self.head.logits(self.transform.of(features))
