"""Every option once: its section, name, type, default and help.

The command line (`featx.cli`) and pipeline files (`pipeline`) are both made from these dataclasses, so an
option of the one is a key of the other: `--input-size 150` is `features: {input_size: 150}`. `--set
features.input_size=150` overrides a key of any section.

`sections` holds them, `values` reads what is written in them, `checks` says what contradicts what.
"""

from __future__ import annotations

from featx.config.checks import check_dense, check_options
from featx.config.sections import (
    OPERATIONS,
    SECTIONS,
    AugmentOptions,
    BaselineOptions,
    CheckpointKind,
    Clf,
    CompareOptions,
    DataOptions,
    ExportFormat,
    ExportPrecision,
    FeaturesOptions,
    FinetuneOptions,
    HeadOptions,
    Metric,
    Monitor,
    Optimizer,
    Pipeline,
    ReportOptions,
    ScheduleKind,
    Stage,
    TrackingOptions,
    TrainingOptions,
    help_of,
    listed_options,
)
from featx.config.values import parse_bytes, parse_hidden, parse_share, with_preset

__all__ = [
    "OPERATIONS",
    "SECTIONS",
    "AugmentOptions",
    "BaselineOptions",
    "CheckpointKind",
    "Clf",
    "CompareOptions",
    "DataOptions",
    "ExportFormat",
    "ExportPrecision",
    "FeaturesOptions",
    "FinetuneOptions",
    "HeadOptions",
    "Metric",
    "Monitor",
    "Optimizer",
    "Pipeline",
    "ReportOptions",
    "ScheduleKind",
    "Stage",
    "TrackingOptions",
    "TrainingOptions",
    "check_dense",
    "check_options",
    "help_of",
    "listed_options",
    "parse_bytes",
    "parse_hidden",
    "parse_share",
    "with_preset",
]
