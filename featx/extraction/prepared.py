"""Images with features and a split: what every later stage starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featx.config import Pipeline
from featx.extraction.flow import Extraction
from featx.extraction.sample import Sample


@dataclass(frozen=True)
class Prepared:
    """Images with features and a split: what every later stage starts from."""

    pipeline: Pipeline
    extraction: Extraction
    sample: Sample
    run: Path
