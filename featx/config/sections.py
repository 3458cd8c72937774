"""The sections of a pipeline, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

from featx.config.active import DriftOptions, EnoughOptions, MapOptions, NextOptions
from featx.config.augment import AugmentOptions
from featx.config.baseline import BaselineOptions
from featx.config.compare import CompareOptions
from featx.config.data import DataOptions
from featx.config.features import FeaturesOptions
from featx.config.finetune import FinetuneOptions
from featx.config.head import HeadOptions
from featx.config.results import ReportOptions, TrackingOptions


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
    next: NextOptions = field(default_factory=NextOptions)
    enough: EnoughOptions = field(default_factory=EnoughOptions)
    drift: DriftOptions = field(default_factory=DriftOptions)
    map: MapOptions = field(default_factory=MapOptions)
    report: ReportOptions = field(default_factory=ReportOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
