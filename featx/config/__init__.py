"""Every option once: its section, name, type with bounds, default and help.

The command line (`featx.cli`) and pipeline files (`pipeline`) are both made from these dataclasses, so an
option of the one is a key of the other: `--input-size 150` is `features: {input_size: 150}`. `--set
features.input_size=150` overrides a key of any section. All of them reach the sections by `route`.

A module for each section holds its options; `bounds` and `texts` read their types, `values` what is written for them,
and `checks` says what contradicts what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.io.lazy import import_on_use

if TYPE_CHECKING:
    from featx.config.active import DriftOptions, EnoughOptions, MapOptions, NextOptions
    from featx.config.augment import OPERATIONS, AugmentOptions
    from featx.config.baseline import BaselineOptions
    from featx.config.checks import check_dense, check_options
    from featx.config.compare import CompareOptions, Stage
    from featx.config.data import DataOptions
    from featx.config.features import FeaturesOptions
    from featx.config.finetune import CheckpointKind, FinetuneOptions
    from featx.config.head import Clf, HeadOptions, Metric
    from featx.config.option import Keys, Section, check_bounds, help_of, types_of
    from featx.config.results import ExportFormat, ExportPrecision, ReportOptions, TrackingOptions
    from featx.config.sections import Pipeline
    from featx.config.table import SECTIONS, listed_options
    from featx.config.texts import ByteSize, ClusterAddress, DeviceChoice, HiddenLayers, MemoryShare
    from featx.config.training import Monitor, Optimizer, ScheduleKind, TrainingOptions

__all__ = [
    "OPERATIONS",
    "SECTIONS",
    "AugmentOptions",
    "BaselineOptions",
    "ByteSize",
    "CheckpointKind",
    "Clf",
    "ClusterAddress",
    "CompareOptions",
    "DataOptions",
    "DeviceChoice",
    "DriftOptions",
    "EnoughOptions",
    "ExportFormat",
    "ExportPrecision",
    "FeaturesOptions",
    "FinetuneOptions",
    "HeadOptions",
    "HiddenLayers",
    "Keys",
    "MapOptions",
    "MemoryShare",
    "Metric",
    "Monitor",
    "NextOptions",
    "Optimizer",
    "Pipeline",
    "ReportOptions",
    "ScheduleKind",
    "Section",
    "Stage",
    "TrackingOptions",
    "TrainingOptions",
    "check_bounds",
    "check_dense",
    "check_options",
    "help_of",
    "listed_options",
    "types_of",
]

__getattr__ = import_on_use(
    __name__,
    {
        "active": (
            "DriftOptions",
            "EnoughOptions",
            "MapOptions",
            "NextOptions",
        ),
        "augment": (
            "OPERATIONS",
            "AugmentOptions",
        ),
        "baseline": ("BaselineOptions",),
        "checks": (
            "check_dense",
            "check_options",
        ),
        "compare": (
            "CompareOptions",
            "Stage",
        ),
        "data": ("DataOptions",),
        "features": ("FeaturesOptions",),
        "finetune": (
            "CheckpointKind",
            "FinetuneOptions",
        ),
        "head": (
            "Clf",
            "HeadOptions",
            "Metric",
        ),
        "option": (
            "Keys",
            "Section",
            "check_bounds",
            "help_of",
            "types_of",
        ),
        "results": (
            "ExportFormat",
            "ExportPrecision",
            "ReportOptions",
            "TrackingOptions",
        ),
        "sections": ("Pipeline",),
        "table": (
            "SECTIONS",
            "listed_options",
        ),
        "texts": (
            "ByteSize",
            "ClusterAddress",
            "DeviceChoice",
            "HiddenLayers",
            "MemoryShare",
        ),
        "training": (
            "Monitor",
            "Optimizer",
            "ScheduleKind",
            "TrainingOptions",
        ),
    },
)
