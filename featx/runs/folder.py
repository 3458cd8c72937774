"""Where results go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.images.augment import Augmenter
from featx.backbones.runtime import limit_gpu_memory
from featx.bundle.bundle import Bundle, load_bundle
from featx.runs.bundles import best_bundle, list_bundles
from featx.bundle.split import read_split, write_split
from featx.dataset import NONE, SPLITS, TRAIN, ImageSet, conflicts, digest_images, read_images, split_images
from featx.dataset.digests import whole
from featx.errors import DataError, UsageError
from featx.extraction.flow import Extraction, extract, plan
from featx.io.index import StatIndex
from featx.io.digests import digest_json
from featx.io.files import write_json
from featx.config import DataOptions, Pipeline, parse_share
from featx.io.progress import Progress, Tell, no_progress, say_nothing
from featx.report.occasions import report_of
from featx.store.export import export_features
from featx.workflow.tracking import require_tracker
from featx.extraction.sample import Sample, require_fittable
from featx.workflow.fit import fingerprint, fit_head
from featx.extraction.views import Views, extract_views, plan_views


def run_directory(pipeline: Pipeline, images: ImageSet | None = None) -> Path:
    """Where results go: `<runs>/<name of the pipeline or the data>`."""
    name = pipeline.report.name or (images.name if images else "default")
    return Path(pipeline.report.runs) / name
