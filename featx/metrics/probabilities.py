"""Logits to probabilities: softmax, sigmoid, and the temperature at which they are calibrated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_BOUNDS = (-7.0, 7.0)  # of log T: logits a thousand times too flat or too steep
_RESOLUTION = 1e-4


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


def _least(loss: Callable[[float], float]) -> float:
    """The temperature at which a loss of its logarithm, which falls and then rises, is least."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(loss, bounds=_BOUNDS, method="bounded", options={"xatol": _RESOLUTION})
    return float(np.exp(found.x))
