"""Confidence: from logits to probabilities, fitted on rows outside the head's training set.

Margins are not probabilities: a softmax of linear-SVM margins was 0.46 sure of what it got right in 0.85 of the cases.
Every head has a temperature: dividing the logits by it mends the confidence and never changes the predicted class (Guo
et al. 2017). Instead, each class may have a curve of its own: a sigmoid (Platt 1999) or a rising staircase (isotonic
regression, Zadrozny and Elkan 2002), which can change it.

Weights of classes in the fit make a head decide for the heavy ones more often, which is what they are for, and would
make it too sure of them. The confidence is corrected for it (`Weighing`); the decision is not, and so stands apart: the
class that is given need not be the one of the highest confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from featx.errors import BundleError
from featx.io.zips import floats, load_arrays
from featx.metrics.probabilities import Weighing, fit_corrected, fit_temperature, sigmoid, softmax

CALIBRATION_FILE = "calibration.npz"
Kind = Literal["temperature", "sigmoid", "isotonic"]


CORRECTED_NOTE = (
    "Classes were weighed: the answers follow the weights, and the confidence is corrected for them, so the class that "
    "is given need not be the one of the highest confidence."
)


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
    correction : float64 (k,), of a head whose classes were weighed: added to logits that were divided by the
        temperature (curves have it in them), and taken off again for the decision; None where none were
    """

    several: bool = False
    temperature: float = 1.0
    kind: Kind = "temperature"
    curves: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    correction: np.ndarray | None = None

    @property
    def emphasis(self) -> np.ndarray | None:
        """What confidences are multiplied by for the decision, float64 (k,); None: by nothing, or of several labels."""
        return None if self.correction is None or self.several else np.exp(-self.correction)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities float64 (n, k) of logits (n, k)."""
        if self.kind == "temperature":
            scaled = np.asarray(logits, np.float64) / self.temperature
            if self.correction is not None:
                scaled += self.correction
            return (sigmoid if self.several else softmax)(scaled)
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
        arrays = load_arrays(path)
        ends = np.cumsum(arrays["lengths"])[:-1]
        curves = tuple(zip(*(np.split(floats(arrays, name), ends) for name in ("x", "y")), strict=True))
        return Calibration(bool(arrays["several"]), kind=str(arrays["kind"]), curves=curves)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise BundleError(f"{path} is damaged: {error}. Get the bundle again from its source.") from error


def fit_calibration(kind: Kind, logits: np.ndarray, y: np.ndarray, weighing: Weighing | None = None) -> Calibration:
    """Fit on rows that the head was not fitted on.

    Parameters
    ----------
    logits : (n, k), finite
    y : int (n,), column of each row's class; or bool (n, k), the labels of each row
    weighing : how classes were weighed in the fit; None where they were not

    Returns
    -------
    Calibration
        Curves as scikit-learn's CalibratedClassifierCV has them, one class against the rest; the ends of a staircase
        are kept off 0 and 1, which so many rows cannot show. Where a class has no row,
        or has them all, nothing can be learned of it and all classes share a temperature.
    """
    several = y.ndim == 2
    truth = y if several else y[:, None] == np.arange(logits.shape[1])
    if not several and logits.shape[1] == 2:
        truth = truth[:, 1:]
    if kind == "temperature" or not len(y) or (truth.all(axis=0) | ~truth.any(axis=0)).any():
        if weighing is None:
            return Calibration(several, fit_temperature(logits, y))
        temperature, correction = fit_corrected(logits, y, weighing.correction, margins=weighing.margins)
        return Calibration(several, temperature, correction=correction)
    fit = _fit_sigmoid if kind == "sigmoid" else _fit_isotonic
    decisions = _decisions(np.asarray(logits, np.float64), several)
    curves = tuple(fit(*pair) for pair in zip(decisions.T, truth.T, strict=True))
    return Calibration(several, 1.0, kind, curves, None if weighing is None else weighing.correction)


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
    steps = np.asarray(fitted.y_thresholds_, np.float64)
    return np.asarray(fitted.X_thresholds_, np.float64), np.clip(steps, *_ends(fitted.predict(decision)))


def _ends(fitted: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest step of a staircase, by its value at every row.

    None of m rows is right on a step of 0: that is 1 in m + 2 by Laplace's rule of succession, but no more than the
    next step, and the same from above.
    """
    low, high = 1 / (np.sum(fitted <= 0) + 2), 1 - 1 / (np.sum(fitted >= 1) + 2)
    between = fitted[(fitted > 0) & (fitted < 1)]
    return (min(low, between.min()), max(high, between.max())) if len(between) else (low, high)
