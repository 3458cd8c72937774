"""The stages that read a cache, each with a cache that is open as long as the call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featx.bundle.bundle import Bundle
from featx.config import FeaturesOptions, Pipeline
from featx.dataset import ImageSet
from featx.extraction import flow, repair, views
from featx.extraction.extraction import Extraction
from featx.extraction.planning import Plan
from featx.extraction.views import ViewPolicy, Views
from featx.images.augment import Augmenter
from featx.io.progress import Progress, no_progress
from featx.runs.prepared import Prepared
from featx.store.cache import Cache
from featx.store.damage import Damage
from featx.store.store import FeatureStore
from featx.workflow import prepare as workflow

_handed_out: list[Cache] = []


def close_all() -> None:
    """Close what `prepare` has handed out, which is opened again by stages that need more features."""
    while _handed_out:
        _handed_out.pop().close()


def extract(images: ImageSet, options: FeaturesOptions, progress: Progress = no_progress) -> Extraction:
    with Cache(options.cache) as cache:
        return flow.extract(images, options, cache, progress)


def plan(images: ImageSet, options: FeaturesOptions) -> Plan:
    with Cache(options.cache) as cache:
        return flow.plan(images, options, cache)


def extract_views(
    known: Extraction, rows: np.ndarray, augmenter: Augmenter, each: int, progress: Progress = no_progress
) -> Views:
    with Cache(known.options.cache) as cache:
        return views.extract_views(known, rows, ViewPolicy(augmenter, each), cache, progress)


def repair_store(store: FeatureStore, damages: Sequence[Damage]) -> tuple[int, int]:
    with Cache(store.directory.parent) as cache:
        return repair.repair_store(store, damages, cache, no_progress)


def prepare(pipeline: Pipeline, progress: Progress = no_progress, views: bool = True) -> Prepared:
    with Cache(pipeline.features.cache) as cache:
        _handed_out.append(cache)
        return workflow.prepare(pipeline, cache, progress, views)


def images_of_part(pipeline: Pipeline, bundle: Bundle, part: str) -> tuple[ImageSet, list[str]]:
    with Cache(pipeline.features.cache) as cache:
        return workflow.images_of_part(pipeline, bundle, part, cache)[:2]


def list_stores(cache: Path) -> list[FeatureStore]:
    return Cache(cache).stores()


def fresh(store: FeatureStore) -> FeatureStore:
    """The same store as another process sees it."""
    return Cache(store.directory.parent).store(store.key)
