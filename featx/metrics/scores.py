"""The scores that compare heads during a search: one number for the logits of left-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from featx.config import Metric
from featx.errors import HeadError
from featx.metrics.predictions import Target, target_of
from featx.metrics.probabilities import Weighing, fit_corrected, fit_temperature, sigmoid, softmax
from featx.metrics.table import DEFAULTS, METRICS, metric_form


@dataclass(frozen=True)
class ScoredLogits:
    """Logits (n, k) of rows that a fit left out: an outcome whose probabilities are made where they are asked for.

    labels : int64 (n,), columns of the logits, or bool (n, k)
    temperate : whether probabilities are those at the temperature that suits them best
    weighing : how classes were weighed in the fit, which probabilities are corrected for; None where they were not
    """

    labels: np.ndarray
    logits: np.ndarray
    temperate: bool = False
    weighing: Weighing | None = None
    groups: np.ndarray | None = None

    @cached_property
    def predicted(self) -> np.ndarray:
        """The likeliest class, int64 (n,), or the labels that are likelier than not, bool (n, k)."""
        return self.logits > 0 if self.labels.ndim == 2 else self.logits.argmax(axis=1)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float64 (n, k)."""
        link = sigmoid if self.labels.ndim == 2 else softmax
        if self.weighing is None:
            return link(self.logits, fit_temperature(self.logits, self.labels) if self.temperate else 1.0)
        margins = self.weighing.margins
        temperature, correction = fit_corrected(self.logits, self.labels, self.weighing.correction, margins=margins)
        return link(np.asarray(self.logits, np.float64) / temperature + correction)


def resolve_metric(metric: Metric, target: Target) -> Metric:
    """What `auto` stands for.

    Raises
    ------
    HeadError
        A metric that is not defined for this kind of target.
    """
    if metric == "auto":
        return cast("Metric", DEFAULTS[target])
    if metric_form(metric, target) is None:
        raise HeadError(f"--metric {metric} is {_DEFINED[target]} choose {_choices(target)}.")
    return metric


_DEFINED: dict[Target, str] = {
    "labels": "of one class per image. For several labels",
    "class": "of several labels per image. For one class",
}


def _choices(target: Target) -> str:
    """The metrics that can be chosen, as a sentence lists them; for several labels with what they mean there."""
    *names, last = [
        f"{name} ({spec.note})" if spec.note and target == "labels" else name
        for name, spec in METRICS.items()
        if spec.choosable and spec.form(target)
    ]
    return f"{', '.join(names)} or {last}"


def score(metric: str, logits: np.ndarray, index: np.ndarray, weighing: Weighing | None = None) -> float:
    """Judge logits (n, k) of rows whose columns are `index` (n,), or whose labels are bool (n, k).

    Metrics are those of the table; log loss is that at the temperature that suits it best. Where classes were weighed
    in the fit, probabilities are corrected for it. What is not defined counts as 0.
    """
    form = metric_form(metric, target_of(index))
    if form is None:
        raise HeadError(f"The metric {metric} is not defined for such labels.")
    value = form.compute(ScoredLogits(index, logits, METRICS[metric].temperate, weighing))
    return 0.0 if value is None else value
