"""The p-value and interval of a difference between two models on the same images, by one method.

Were the models equally good, the two predictions of an image, or of a group of images, could be exchanged: p is the
share of exchanges that give a difference as large (Fisher's randomisation; of right and wrong McNemar's exact test).
The interval is that of the differences which a score test does not refuse, moved where it contradicts p.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from featx.metrics.exchange import EDGE, EXCHANGES, SharesApart, draw_signs
from featx.metrics.formulas import log_losses
from featx.metrics.intervals import LabelDraws, draw_labels
from featx.metrics.predictions import LabelledPredictions, indicators
from featx.metrics.shares import wilson
from featx.metrics.specs import MetricForm
from featx.metrics.verdict import SURE

_DEVIATIONS = 1.959964
_RESAMPLES = 2_000  # of ranked images, which take longer
_MOST_EXCHANGED = 500  # images or groups that differ; what more of them add together is normal to two digits
_LIGHT = 0.01  # of all squares: where one has more, as in a class of a few images, it is exchanged however many differ
_AREAS = {
    "roc_auc_macro": LabelDraws.macro_roc_auc,
    "average_precision_macro": LabelDraws.macro_average_precision,
}


@dataclass(frozen=True)
class Paired:
    """The p-value of a difference, and its interval of 95 %, in which 0 is where p is 0.05 or more, and only there."""

    p_value: float
    interval: tuple[float, float]


def judge_images(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> Paired:
    """The difference between two shares of right images, bool (n,) each, at least one image."""
    from scipy.stats import binomtest

    difference, exact = (first.astype(np.float64) - second) / len(first), None
    units = len(first) if groups is None else len(np.unique(groups))
    if groups is None:
        only, other = int((first & ~second).sum()), int((second & ~first).sum())
        exact = float(binomtest(only, only + other).pvalue) if only + other else 1.0
    # as if one more differed, half in favour of each: without it intervals hold the truth in 93 % where few differ
    found = _judge(difference, groups, exact, more=1 / units**2)
    if (first == second).all():  # none of so many images differs
        bound = wilson(0.0, units, _DEVIATIONS)[1]
        return Paired(1.0, (-bound, bound))
    low, high = found.interval
    return Paired(found.p_value, (max(low, -1.0), min(high, 1.0)))


def paired_difference(form: MetricForm, first: LabelledPredictions, second: LabelledPredictions) -> Paired | None:
    """The difference between two models by a metric; None where it is not defined.

    A mean over images is split up into what each adds; shares are computed anew in every exchange; areas are
    resampled, the same images for both models, and p is taken from the same resamples as the interval.
    """
    if form.shares is not None:
        found = SharesApart.of(form.shares(first), form.shares(second), first.groups)
        few = len(np.unique(found.units)) <= _MOST_EXCHANGED
        return _judge(found.parts, None, found.p_value() if few else None)
    if form.key == "log_loss":
        losses = log_losses(first), log_losses(second)
        if losses[0] is None or losses[1] is None:
            return None
        difference = (losses[0] - losses[1]).reshape(len(first), -1).mean(axis=1)
        return _judge(difference / len(first), first.groups)
    return _resample(form, first, second)


def _judge(parts: np.ndarray, groups: np.ndarray | None, p_value: float | None = None, more: float = 0.0) -> Paired:
    """A difference that is the sum of what images add to it, float64 (n,). more : added to the sum of their squares"""
    if groups is not None:
        parts = np.bincount(np.unique(groups, return_inverse=True)[1], parts)
    total, squares, units = float(parts.sum()), float((parts**2).sum()), len(parts)
    p_value = _exchange(parts) if p_value is None else p_value
    spread = max(squares + more - total**2 / units, 0.0)
    half = _DEVIATIONS * np.sqrt(spread / max(1 - _DEVIATIONS**2 / units, 0.1))
    half = max(half, abs(total)) if p_value >= SURE else min(half, EDGE * abs(total))
    return Paired(p_value, (float(total - half), float(total + half)))


def _exchange(parts: np.ndarray) -> float:
    """The share of exchanges between the models whose difference is as large, two-sided."""
    from scipy.special import ndtr

    parts = parts[np.abs(parts) > 1e-15]
    total, squares = abs(float(parts.sum())), float((parts**2).sum())
    if not len(parts):
        return 1.0
    heaviest, others = np.split(parts[np.argsort(-np.abs(parts))], [_MOST_EXCHANGED])
    if len(others) and heaviest[0] ** 2 <= _LIGHT * squares:
        return float(2 * ndtr(-total / np.sqrt(squares)))
    found = draw_signs(len(heaviest)) @ heaviest
    if len(others):
        found += np.sqrt((others**2).sum()) * np.random.default_rng(1).normal(size=EXCHANGES)
    return (1 + int((np.abs(found) >= total * EDGE).sum())) / (1 + EXCHANGES)


def _resample(form: MetricForm, first: LabelledPredictions, second: LabelledPredictions) -> Paired | None:
    """The difference between two areas, by the same resamples of images or groups."""
    score = _AREAS.get(form.key)
    if score is None:
        return None
    values = []
    for one in (first, second):
        ranked = replace(one, labels=indicators(one), thresholds=None)
        drawn = draw_labels(ranked, _RESAMPLES, np.random.default_rng(0))
        values.append(np.concatenate([score(some) for some in drawn]))
    difference = values[0] - values[1]
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        return None
    below, above = int((difference <= 0).sum()), int((difference >= 0).sum())
    p_value = min(1.0, 2 * (1 + min(below, above)) / (1 + len(difference)))
    low, high = np.quantile(difference, [0.025, 0.975])
    if p_value >= SURE:
        low, high = min(low, 0.0), max(high, 0.0)
    return Paired(p_value, (float(low), float(high)))
