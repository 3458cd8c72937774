"""Confidence: from logits to probabilities, fitted off the head's training rows.

Margins are not probabilities: a softmax of linear-SVM margins was 0.46 sure of what it got right in 0.85 of the cases.
Every head has a temperature: dividing the logits by it mends the confidence and never changes the predicted class (Guo
et al. 2017). Instead, each class may have a curve of its own: a sigmoid (Platt 1999) or a rising staircase (isotonic
regression, Zadrozny and Elkan 2002), which can change it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from featx.errors import BundleError

FILE = "calibration.npz"
Kind = Literal["temperature", "sigmoid", "isotonic"]

_BOUNDS = (-7.0, 7.0)  # of log T: logits a thousand times too flat or too steep
_RESOLUTION = 1e-4
_GOLDEN = (5**0.5 - 1) / 2


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities float64 (n, k) of logits (n, k)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def sigmoid(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the probability of every label, float64 (n, k), of logits (n, k)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    small = np.exp(-np.abs(scaled))  # never overflows
    return np.asarray(np.where(scaled >= 0, 1.0, small) / (1 + small))


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities.

    Attributes
    ----------
    several : whether an image can have several labels: each has a probability of its own, and they need not add up
    temperature : logits are divided by it
    curves : of each class, increasing logits float64 (m,) and their probabilities (m,), between which lines are drawn
        and beyond which the ends hold; or slope and intercept of a sigmoid. One curve, of the second class, for two
        classes. Empty: the temperature alone
    kind : temperature, sigmoid or isotonic
    """

    several: bool = False
    temperature: float = 1.0
    kind: Kind = "temperature"
    curves: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities float64 (n, k) of logits (n, k)."""
        if self.kind == "temperature":
            return (sigmoid if self.several else softmax)(logits, self.temperature)
        decisions = _decisions(np.asarray(logits, np.float64) / self.temperature, self.several)
        found = np.stack([self._curve(*pair) for pair in zip(decisions.T, self.curves, strict=True)], axis=1)
        if self.several:
            return found
        if found.shape[1] == 1:
            return np.hstack([1 - found, found])
        total = found.sum(axis=1, keepdims=True)
        return np.asarray(np.where(total > 0, found / np.where(total > 0, total, 1), 1 / found.shape[1]))

    def _curve(self, decision: np.ndarray, curve: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        if self.kind == "sigmoid":
            return sigmoid(decision * curve[0][0] + curve[1][0])
        return np.asarray(np.interp(decision, *curve))

    def save(self, path: Path) -> None:
        """Write the curves as plain arrays."""
        lengths = np.array([len(x) for x, _ in self.curves])
        x, y = (np.concatenate([curve[i] for curve in self.curves]) for i in (0, 1))
        np.savez(path, kind=np.array(self.kind), several=np.array(self.several), x=x, y=y, lengths=lengths)


def load_curves(path: Path) -> Calibration:
    """Read what `Calibration.save` wrote; the head's logits have been divided by the temperature already.

    Raises
    ------
    BundleError
        A file that is not one.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            ends = np.cumsum(held["lengths"])[:-1]
            curves = tuple(zip(np.split(held["x"], ends), np.split(held["y"], ends), strict=True))
            return Calibration(bool(held["several"]), kind=str(held["kind"]), curves=curves)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} is damaged: {error}. Take the bundle from where it came again.") from error


def fit_calibration(kind: Kind, logits: np.ndarray, y: np.ndarray) -> Calibration:
    """Fit on rows that the head was not fitted on.

    Parameters
    ----------
    logits : (n, k), finite
    y : int (n,), column of each row's class; or bool (n, k), the labels of each row

    Returns
    -------
    Calibration
        Curves as scikit-learn's CalibratedClassifierCV has them, one class against the rest. Where a class has no row,
        or has them all, nothing can be learned of it and all classes share a temperature.
    """
    several = y.ndim == 2
    truth = y if several else y[:, None] == np.arange(logits.shape[1])
    if not several and logits.shape[1] == 2:
        truth = truth[:, 1:]
    if kind == "temperature" or not len(y) or (truth.all(axis=0) | ~truth.any(axis=0)).any():
        return Calibration(several, fit_temperature(logits, y))
    fit = _fit_sigmoid if kind == "sigmoid" else _fit_isotonic
    decisions = _decisions(np.asarray(logits, np.float64), several)
    return Calibration(several, 1.0, kind, tuple(fit(*pair) for pair in zip(decisions.T, truth.T, strict=True)))


def _decisions(logits: np.ndarray, several: bool) -> np.ndarray:
    """One column per class; for two classes the margin of the second."""
    return logits[:, 1:] - logits[:, :1] if not several and logits.shape[1] == 2 else logits


def _fit_sigmoid(decision: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept (1,); the targets are Platt's, kept off 0 and 1 by how many rows there are."""
    from sklearn.linear_model import LogisticRegression

    positive = int(truth.sum())
    target = np.where(truth, (positive + 1) / (positive + 2), 1 / (len(truth) - positive + 2))
    scale = max(float(np.abs(decision).max()), 1e-12)  # the solver likes numbers near 1
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(
        np.concatenate([decision, decision])[:, None] / scale,
        np.repeat([1, 0], len(decision)),
        np.concatenate([target, 1 - target]),
    )
    return fitted.coef_[0] / scale, fitted.intercept_


def _fit_isotonic(decision: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(decision, truth)
    return np.asarray(fitted.X_thresholds_, np.float64), np.asarray(fitted.y_thresholds_, np.float64)


def fit_temperature(logits: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    """Return the temperature above 0 under which labels are likeliest.

    Parameters
    ----------
    logits : (n, k), finite, of rows that the head was not fitted on
    y : int (n,), column of each row's class; or bool (n, k), the labels of each row
    sample_weight : (n,)

    Returns
    -------
    float
        1.0 for no rows. Where every row is right, likelihood alone would make the head infinitely sure: as Platt (1999)
        did, each label counts as one row of doubt in n + 2.
    """
    if len(y) == 0:
        return 1.0
    logits = np.asarray(logits, dtype=np.float64)
    if y.ndim == 2:
        return _fit_label_temperature(logits, y)
    logits = logits - logits.max(axis=1, keepdims=True)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    doubt = 1 / (len(y) + 2)
    true = (1 - doubt) * logits[np.arange(len(y)), y] + doubt * logits.mean(axis=1)

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.dot(weight, np.log(np.exp(logits * inverse).sum(axis=1)) - true * inverse))

    return float(np.exp(_golden_section(loss, *_BOUNDS)))


def _fit_label_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    doubt = 1 / (len(y) + 2)
    target = np.where(y, 1 - doubt, doubt)

    def loss(log_temperature: float) -> float:
        scaled = logits * np.exp(-log_temperature)
        return float((np.log1p(np.exp(-np.abs(scaled))) + np.maximum(scaled, 0) - target * scaled).sum())

    return float(np.exp(_golden_section(loss, *_BOUNDS)))


def _golden_section(f: Callable[[float], float], low: float, high: float) -> float:
    """Return where `f`, which falls and then rises, is least."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = f(left), f(right)
    while high - low > _RESOLUTION:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = f(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = f(right)
    return (low + high) / 2
