"""All metrics of a model on one part of the data, class by class, and its confusions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from featx.io.jsontypes import Json
from featx.metrics.cautions import cautions
from featx.metrics.formulas import ClassCounts, average_precisions, roc_areas
from featx.metrics.intervals import bootstrap_intervals
from featx.metrics.predictions import LabelledPredictions, Target
from featx.metrics.reliability import chance_range
from featx.metrics.shares import ClassIntervals, Interval, class_intervals, share_interval
from featx.metrics.table import forms_of, metric_form, resamplings_of


@dataclass(frozen=True)
class ClassMeasures:
    """One class or label.

    images : that have it
    values : precision, recall, f1, and of several labels roc_auc and average_precision; None where not defined: no
        prediction for precision, no image for recall, neither for f1
    bounds : their 95 % intervals, as far as they have one
    """

    label: str
    images: int
    values: Mapping[str, float | None]
    bounds: ClassIntervals

    @property
    def intervals(self) -> dict[str, Interval | None]:
        """The 95 % intervals of precision and recall; None where they are not defined."""
        return {"precision": self.bounds.precision, "recall": self.bounds.recall}

    def as_json(self) -> dict[str, Json]:
        """A row of `per_class` in JSON."""
        intervals = {name: None if one is None else list(one) for name, one in self.intervals.items()}
        return {
            "label": self.label,
            **self.values,
            "images": self.images,
            "intervals": intervals,
            "too_narrow": list(self.bounds.narrow),
        }


@dataclass(frozen=True)
class Measures:
    """What was measured of one part of the data.

    target : one class per image, or several labels
    images : measured; without any, all that follows is None or empty
    values : key of a metric -> its value, None where it is not defined
    intervals : key -> 95 % interval, of the metrics that have one; None where it is not defined
    per_class : in the order of the classes
    confusion : int64, images; of one class (k, k), rows: truth, columns: prediction; of several labels (k, 2, 2), rows:
        the label is not there, is there; columns: it is not given, is given
    groups : that the images belong to, which the intervals take as wholes; None where all are independent
    cautions : sentences that say which intervals are known to be too narrow, and why
    error_by_chance : 95 % of the calibration errors that these confidences give where every one is true
    """

    target: Target
    images: int
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None]
    per_class: tuple[ClassMeasures, ...]
    confusion: np.ndarray | None
    groups: int | None = None
    cautions: tuple[str, ...] = ()
    error_by_chance: Interval | None = None

    def value(self, metric: str) -> float | None:
        """The value of the option `--metric`."""
        form = metric_form(metric, self.target)
        return None if form is None else self.values[form.key]

    def summary(self) -> dict[str, Json]:
        """The single numbers, as a bundle keeps them."""
        intervals = {key: None if one is None else list(one) for key, one in self.intervals.items()}
        return {"images": self.images, **self.values, "intervals": intervals if self.images else None}

    def as_json(self) -> dict[str, Json]:
        """What `featx evaluate --json` and `Model.evaluate` give."""
        per_class = [one.as_json() for one in self.per_class] if self.images else None
        confusion = None if self.confusion is None else self.confusion.tolist()
        found = {
            **self.summary(),
            "per_class": per_class,
            "confusion": confusion,
            "cautions": list(self.cautions) if self.images else None,
            "calibration_error_by_chance": None if self.error_by_chance is None else list(self.error_by_chance),
        }
        return found if self.groups is None else {**found, "groups": self.groups}


def measure(predictions: LabelledPredictions) -> Measures:
    """Measure one part by every metric of its kind of target. What is not defined is None.

    A label past the columns of the probabilities is a class that the model does not know, and always wrong.
    """
    target, forms = predictions.target, tuple(forms_of(predictions.target))
    if not len(predictions):
        return Measures(target, 0, dict.fromkeys(form.key for form in forms), {}, (), None)
    known = predictions.probabilities.shape[1]
    counts = ClassCounts.of(predictions, len(predictions.classes))
    return Measures(
        target,
        len(predictions),
        {form.key: form.compute(predictions) if known >= form.least_classes else None for form in forms},
        intervals_of(predictions),
        _measure_classes(predictions, counts),
        _label_tables(counts, len(predictions)) if target == "labels" else _confusion(predictions),
        None if predictions.groups is None else len(np.unique(predictions.groups)),
        cautions(predictions),
        chance_range(
            predictions.labels, predictions.probabilities, predicted=predictions.predicted, groups=predictions.groups
        ),
    )


def intervals_of(predictions: LabelledPredictions) -> dict[str, Interval | None]:
    """The 95 % intervals by key: Wilson's of shares and means of shares, the bootstrap's of the others."""
    known, groups = predictions.probabilities.shape[1], predictions.groups
    found: dict[str, Interval | None] = {}
    for form in forms_of(predictions.target) if len(predictions) else ():
        if form.shares is not None and known >= form.least_classes:
            found[form.key] = share_interval(form.shares(predictions), groups)
    return found | bootstrap_intervals(predictions, resamplings_of(predictions.target))


def _measure_classes(predictions: LabelledPredictions, counts: ClassCounts) -> tuple[ClassMeasures, ...]:
    columns = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    bounds = class_intervals(predictions, len(predictions.classes), predictions.groups)
    if predictions.target == "labels":
        ranked = predictions.labels, predictions.probabilities
        columns |= {"roc_auc": roc_areas(*ranked), "average_precision": average_precisions(*ranked)}
    return tuple(
        ClassMeasures(
            label,
            int(counts.labelled[code]),
            {name: _defined(some[code]) for name, some in columns.items()},
            bounds[code],
        )
        for code, label in enumerate(predictions.classes)
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _confusion(predictions: LabelledPredictions) -> np.ndarray:
    k = len(predictions.classes)
    return np.bincount(predictions.labels * k + predictions.predicted, minlength=k * k).reshape(k, k)


def _label_tables(counts: ClassCounts, images: int) -> np.ndarray:
    missed, wrong = counts.labelled - counts.hits, counts.predicted - counts.hits
    neither = images - missed - wrong - counts.hits
    return np.stack([neither, wrong, missed, counts.hits], axis=1).reshape(-1, 2, 2)
