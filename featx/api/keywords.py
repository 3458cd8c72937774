"""The options of functions as keywords, for editors and type checkers.

Written by `python -m featx.api.generate` from `featx.config`. Do not edit.
"""

from __future__ import annotations

from featx.api.section_keywords import (
    AugmentKeywords,
    CompareKeywords,
    DataKeywords,
    DriftKeywords,
    EnoughKeywords,
    FeaturesKeywords,
    MapKeywords,
    NextKeywords,
    ReportKeywords,
    TrackingKeywords,
)
from featx.api.trained_keywords import FinetuneKeywords, HeadKeywords


class ExtractKeywords(DataKeywords, FeaturesKeywords, AugmentKeywords, total=False):
    """Options of the sections data, features and augment."""


class ReadFeaturesKeywords(DataKeywords, FeaturesKeywords, ReportKeywords, total=False):
    """Options of the sections data, features and report."""


class FitHeadKeywords(
    DataKeywords, FeaturesKeywords, AugmentKeywords, HeadKeywords, ReportKeywords, TrackingKeywords, total=False
):
    """Options of the sections data, features, augment, head, report and tracking."""


class TuneKeywords(
    DataKeywords, FeaturesKeywords, AugmentKeywords, FinetuneKeywords, ReportKeywords, TrackingKeywords, total=False
):
    """Options of the sections data, features, augment, finetune, report and tracking."""


class EvaluateKeywords(DataKeywords, total=False):
    """Options of the section data."""


class NextImagesKeywords(DataKeywords, FeaturesKeywords, NextKeywords, ReportKeywords, total=False):
    """Options of the sections data, features, next and report."""


class FindEnoughKeywords(DataKeywords, FeaturesKeywords, EnoughKeywords, ReportKeywords, total=False):
    """Options of the sections data, features, enough and report."""


class CompareModelsKeywords(CompareKeywords, ReportKeywords, total=False):
    """Options of the sections compare and report."""


class FindDriftKeywords(DataKeywords, FeaturesKeywords, DriftKeywords, ReportKeywords, total=False):
    """Options of the sections data, features, drift and report."""


class DrawMapKeywords(DataKeywords, FeaturesKeywords, MapKeywords, ReportKeywords, total=False):
    """Options of the sections data, features, map and report."""
