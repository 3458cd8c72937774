"""A bundle's predictions of images with cached features: nothing is decoded and no network runs."""

from __future__ import annotations

import numpy as np

from featx.bundle.bundle import Bundle
from featx.dataset import SPLITS
from featx.extraction.sample import Sample
from featx.extraction.stale import require_current
from featx.heads.scaling import float_blocks
from featx.heads.transform import join
from featx.metrics.predictions import LabelledPredictions, align, group_codes
from featx.store.cache import Cache
from featx.store.store import FeatureStore


def stores_of(bundle: Bundle, cache: Cache) -> list[FeatureStore]:
    """The stores of a cache that hold the features which a bundle was fitted on: one at most, or none."""
    wanted = bundle.manifest.key.as_json()
    return [store for store in cache.stores() if store.key.as_json() == wanted]


def judge_cached(bundle: Bundle, sample: Sample, code: int, cache: Cache) -> LabelledPredictions | None:
    """One part of a sample by a bundle of one label per image, from features in the cache; None where some are not."""
    if bundle.manifest.backbone.finetuned:
        return None
    stores = stores_of(bundle, cache)
    rows = np.flatnonzero(sample.split == code)
    tables = [store.table(one.layer, one.pooling) for store in stores[:1] for one in bundle.outputs]
    sources = [sample.images.sources[row] for row in sample.rows[rows].tolist()]
    tables = [require_current(sources, sample.digests[rows], table, cache.index) for table in tables]
    if not tables or any(table.missing(sample.digests[rows]).any() for table in tables):
        return None
    features = join([table.read(sample.digests[rows]) for table in tables])
    probabilities = [np.empty((0, len(bundle.classes))), *map(bundle.probabilities, float_blocks(features))]
    labels, classes = align(sample.images.classes, sample.y[rows], bundle.classes)
    paths = tuple(sample.images.paths[row] for row in sample.rows[rows])
    groups = group_codes(sample.images.groups, sample.rows[rows])
    found = np.concatenate(probabilities)
    emphasis = bundle.calibration.emphasis
    return LabelledPredictions(labels, found, tuple(classes), None, SPLITS[code], paths, groups, emphasis)
