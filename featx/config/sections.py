"""The sections of a pipeline, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from featx.config.augment import AugmentOptions
from featx.config.baseline import BaselineOptions
from featx.config.compare import CompareOptions
from featx.config.data import DataOptions
from featx.config.features import FeaturesOptions
from featx.config.finetune import FinetuneOptions
from featx.config.head import HeadOptions
from featx.config.option import Section
from featx.config.results import ReportOptions, TrackingOptions
from featx.config.training import TrainingOptions


@dataclass(frozen=True)
class Pipeline:
    """The sections of a pipeline file. A stage is handed its section whole."""

    data: DataOptions = field(default_factory=DataOptions)
    features: FeaturesOptions = field(default_factory=FeaturesOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    head: HeadOptions = field(default_factory=HeadOptions)
    finetune: FinetuneOptions = field(default_factory=FinetuneOptions)
    baseline: BaselineOptions = field(default_factory=BaselineOptions)
    compare: CompareOptions = field(default_factory=CompareOptions)
    report: ReportOptions = field(default_factory=ReportOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)


SECTIONS: Mapping[str, type[Section]] = {
    "data": DataOptions,
    "features": FeaturesOptions,
    "augment": AugmentOptions,
    "head": HeadOptions,
    "finetune": FinetuneOptions,
    "baseline": BaselineOptions,
    "compare": CompareOptions,
    "report": ReportOptions,
    "tracking": TrackingOptions,
}


def listed_options(section: type[Section]) -> list[Field[Any]]:
    """The options of a section in the order people read them: its own, then those of training, which it shares."""
    shared = {entry.name for entry in fields(TrainingOptions)} if issubclass(section, TrainingOptions) else set()
    return sorted(fields(section), key=lambda entry: entry.name in shared)
