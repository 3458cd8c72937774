"""Metrics and training epochs of a model as sections of its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featx.bundle.fields import read_record
from featx.bundle.records import ClassRecord, EpochRecord, MetricsRecord
from featx.heads.calibration import Calibration
from featx.metrics.measures import Measures, measure
from featx.metrics.predictions import LabelledPredictions
from featx.training.log import TrainingLog


@dataclass(frozen=True)
class MeasuredParts:
    """What was measured of each part, by its name."""

    parts: Mapping[str, Measures]

    @classmethod
    def of(cls, predictions: Sequence[LabelledPredictions]) -> MeasuredParts:
        """Measure the predictions of each part."""
        return cls({one.part: measure(one) for one in predictions})

    @property
    def metrics(self) -> dict[str, MetricsRecord]:
        """The figures of each part."""
        return {part: _figures(measured) for part, measured in self.parts.items()}

    @property
    def per_class(self) -> dict[str, tuple[ClassRecord, ...] | None]:
        """The figures of every class of each part; None without images."""
        return {part: _classes(measured) if measured.images else None for part, measured in self.parts.items()}


def _figures(measured: Measures) -> MetricsRecord:
    intervals = measured.intervals if measured.images else None
    return MetricsRecord(
        measured.images, measured.values, intervals, measured.error_by_chance, measured.groups, measured.cautions
    )


def _classes(measured: Measures) -> tuple[ClassRecord, ...]:
    return tuple(ClassRecord(one.label, one.values, one.images, one.intervals) for one in measured.per_class)


def correction_record(calibration: Calibration) -> tuple[float, ...] | None:
    """What the confidence of weighed classes is corrected by; None where none were weighed."""
    return None if calibration.correction is None else tuple(calibration.correction.tolist())


def epoch_records(log: TrainingLog) -> tuple[EpochRecord, ...]:
    """The epochs of a training; none of what was not trained by epochs."""
    return tuple(read_record(EpochRecord, row) for row in log.as_json())
