"""Estimate the class mix of unlabelled images from calibrated probabilities.

The model's own counts are biased towards what it knew: a class that became rare is still given where it errs. If only
the mix of classes changed, and not what images of a class look like, the likeliest mix is found by expectation and
maximisation (Saerens, Latinne and Decaestecker 2002), given calibrated probabilities (Alexandari, Kundaje and
Shrikumar 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_STEPS, _RESAMPLES = 200, 100
_ENOUGH = 1e-6
_MOST_CLASSES = 50  # beyond these a resample takes long, and says little


@dataclass(frozen=True)
class ClassMix:
    """Shares of classes. shares : float64 (classes,); low, high : 95 % of resamples, None of very many classes"""

    shares: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def estimate_mix(probabilities: np.ndarray, usual: np.ndarray, generator: np.random.Generator) -> ClassMix:
    """The likeliest mix of classes of images.

    probabilities : float (n, classes), calibrated for the usual mix
    usual : (classes,), the shares of that mix
    """
    odds = probabilities / np.maximum(usual, 1e-9)
    shares = _maximise(odds, np.ones(len(odds)), usual.astype(np.float64), _STEPS)
    if odds.shape[1] > _MOST_CLASSES:
        return ClassMix(shares, None, None)
    drawn = generator.multinomial(len(odds), np.full(len(odds), 1 / len(odds)), _RESAMPLES)
    found = np.stack([_maximise(odds, weight.astype(np.float64), shares, _STEPS // 4) for weight in drawn])
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return ClassMix(shares, low, high)


def _maximise(odds: np.ndarray, weight: np.ndarray, shares: np.ndarray, steps: int) -> np.ndarray:
    shares = np.maximum(shares, _ENOUGH)
    weight = weight / weight.sum()
    for _ in range(steps):
        likelihood = odds @ shares
        following = shares * ((weight / np.maximum(likelihood, 1e-300)) @ odds)
        following /= following.sum()
        if np.abs(following - shares).max() < _ENOUGH:
            return np.asarray(following)
        shares = following
    return np.asarray(shares)
