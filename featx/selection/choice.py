"""What was chosen: a fitted head, its transform and calibration, and all that was tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.features import Features
from featx.heads.base import Head
from featx.heads.calibration import Calibration
from featx.heads.transform import Transform
from featx.metrics.scores import signed_score

if TYPE_CHECKING:
    pass


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
    transform : what the features pass through before the head
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
    transform: Transform = Transform()
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
        return self.head.logits(self.transform.of(features))
