"""Where results go."""

from __future__ import annotations

from pathlib import Path

from featx.config import Pipeline
from featx.dataset import ImageSet


def run_directory(pipeline: Pipeline, images: ImageSet | None = None) -> Path:
    """Where results go: `<runs>/<name of the pipeline or the data>`."""
    name = pipeline.report.name or (images.name if images else "default")
    return Path(pipeline.report.runs) / name
