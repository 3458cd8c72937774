"""The columns of the table of metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from featx.metrics.intervals import Resampling
from featx.metrics.predictions import MetricInput, Target
from featx.metrics.shares import Shares

Shown = Literal["nowhere", "page", "everywhere"]
"""Where people see a metric: in JSON alone, in reports and cards, or in the tables of the terminal as well"""


@dataclass(frozen=True)
class MetricForm:
    """A metric of one kind of target.

    target : one class per image, or several labels
    key : its name in JSON and in bundles
    label : its name for people; meaning : what it is, in words
    compute : from labels and predictions of at least one image; None where it is not defined
    shares : the shares whose mean it is, so that its interval is Wilson's
    resampling : what its interval is made by otherwise; None of both: it has none
    shown : where people see it
    least_classes : with fewer it is not defined
    """

    target: Target
    key: str
    label: str
    meaning: str
    compute: Callable[[MetricInput], float | None]
    resampling: Resampling | None = None
    shares: Callable[[MetricInput], Shares] | None = None
    shown: Shown = "everywhere"
    least_classes: int = 2


@dataclass(frozen=True)
class MetricSpec:
    """A row of the table.

    label : its name for people, where the kind of target is not known
    forms : one for each kind of target that it is defined for
    lower_is_better : its direction
    choosable : whether `--metric` takes it, so that heads are compared and the best bundle is chosen by it
    temperate : whether logits are judged at the temperature that suits them best
    note : what `--metric` means for several labels, where that is not plain
    """

    label: str
    forms: tuple[MetricForm, ...]
    lower_is_better: bool = False
    choosable: bool = False
    temperate: bool = False
    note: str = ""

    def form(self, target: Target) -> MetricForm | None:
        """The metric of a kind of target, None where it is not defined for it."""
        return next((form for form in self.forms if form.target == target), None)
