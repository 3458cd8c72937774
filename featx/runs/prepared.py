"""Images with features and a split: the starting point of every later stage."""

from __future__ import annotations

from dataclasses import dataclass

from featx.config import Pipeline
from featx.extraction.flow import Extraction
from featx.extraction.sample import Sample
from featx.runs.run import Run
from featx.store.cache import Cache


@dataclass(frozen=True)
class Prepared:
    """Images with features and a split: what every later stage starts from.

    cache : where the features are, for stages that need more of them
    run : where results go
    """

    pipeline: Pipeline
    cache: Cache
    extraction: Extraction
    sample: Sample
    run: Run
