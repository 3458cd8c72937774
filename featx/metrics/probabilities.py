"""Logits to probabilities: softmax, sigmoid, and the temperature at which they are calibrated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_BOUNDS = (-7.0, 7.0)  # of log T: logits a thousand times too flat or too steep
_RESOLUTION = 1e-4


@dataclass(frozen=True)
class Weighing:
    """How classes were weighed in the fit of a head.

    weights : float64 (k,), above 0, of the classes; of several labels, having each against not having it
    margins : whether the head's logits are margins, no log probabilities
    """

    weights: np.ndarray
    margins: bool = False

    @property
    def correction(self) -> np.ndarray:
        """What log probabilities have to be corrected by."""
        return np.asarray(-np.log(self.weights))


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

    return _least(loss)


def _fit_label_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    doubt = 1 / (len(y) + 2)
    target = np.where(y, 1 - doubt, doubt)

    def loss(log_temperature: float) -> float:
        scaled = logits * np.exp(-log_temperature)
        return float((np.log1p(np.exp(-np.abs(scaled))) + np.maximum(scaled, 0) - target * scaled).sum())

    return _least(loss)


def fit_corrected(
    logits: np.ndarray, y: np.ndarray, correction: np.ndarray, *, margins: bool = False
) -> tuple[float, np.ndarray]:
    """The temperature, and what is added to logits divided by it, under which labels are likeliest.

    A head that was fitted with weights of classes takes the heavy ones for as frequent as they weigh. What it has to be
    corrected by is known, minus the log of the weights (Saerens, Latinne and Decaestecker 2002); no temperature can.

    Parameters
    ----------
    logits, y : as in `fit_temperature`, every row counting once
    correction : float64 (k,), minus the log of the weight of each class or label
    margins : whether logits are margins and no log probabilities, so that the correction is in no units of theirs: it
        is then fitted along with the temperature, and `correction` is where it is drawn to as by a normal prior of
        standard deviation 1

    Returns
    -------
    tuple
        1.0 and `correction` as it is for no rows.
    """
    if not len(y):
        return 1.0, correction
    logits, doubt = np.asarray(logits, np.float64), 1 / (len(y) + 2)
    if y.ndim == 2:
        target = np.where(y, 1 - doubt, doubt)
    else:
        logits = logits - logits.max(axis=1, keepdims=True)
        target = doubt / logits.shape[1] + (1 - doubt) * (y[:, None] == np.arange(logits.shape[1]))
    if margins:
        return _fit_with_correction(logits, target, correction, several=y.ndim == 2)

    def loss(log_temperature: float) -> float:
        return _cross_entropy(logits * np.exp(-log_temperature) + correction, target, several=y.ndim == 2)

    return _least(loss), correction


def _cross_entropy(scaled: np.ndarray, target: np.ndarray, *, several: bool) -> float:
    if several:
        total = np.log1p(np.exp(-np.abs(scaled))) + np.maximum(scaled, 0)
        return float((total - target * scaled).sum())
    top = scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return float((total - (target * scaled).sum(axis=1)).sum())


def _fit_with_correction(
    logits: np.ndarray, target: np.ndarray, prior: np.ndarray, *, several: bool
) -> tuple[float, np.ndarray]:
    """Minimise the loss, convex in (1 / temperature, correction), and half the squared distance from the prior."""
    from scipy.optimize import minimize

    scale = max(float(np.abs(logits).max()), 1e-12)  # the solver likes numbers near 1
    unit = logits / scale

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        scaled, away = unit * x[0] + x[1:], x[1:] - prior
        rest = (sigmoid if several else softmax)(scaled) - target
        value = _cross_entropy(scaled, target, several=several) + float(away @ away) / 2
        return value, np.concatenate([[(rest * unit).sum()], rest.sum(axis=0) + away])

    bounds = [(scale * np.exp(-_BOUNDS[1]), scale * np.exp(-_BOUNDS[0])), *[(None, None)] * len(prior)]
    begin = np.concatenate([np.clip([scale], *bounds[0]), prior])
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
    return float(scale / found[0]), np.asarray(found[1:])


def _least(loss: Callable[[float], float]) -> float:
    """The temperature at which a loss of its logarithm, which falls and then rises, is least."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(loss, bounds=_BOUNDS, method="bounded", options={"xatol": _RESOLUTION})
    return float(np.exp(found.x))
