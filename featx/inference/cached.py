"""A bundle's predictions of images with cached features: nothing is decoded and no network runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np

from featx.bundle.bundle import Bundle
from featx.dataset import SPLITS, digest_images
from featx.errors import UsageError
from featx.extraction.sample import Sample
from featx.extraction.stale import require_current
from featx.heads.scaling import float_blocks
from featx.heads.transform import join
from featx.io.digests import digest_json
from featx.io.index import INDEX_FILE
from featx.io.urls import is_url
from featx.metrics.predictions import LabelledPredictions, align, group_codes
from featx.store.cache import Cache
from featx.store.part import RemovedPart
from featx.store.store import KEY_FILE, FeatureStore

_HELD = 256_000_000  # bytes of files on servers


def stores_of(bundle: Bundle, cache: Cache) -> list[FeatureStore]:
    """The stores of a cache that hold the features which a bundle was fitted on: one at most, or none."""
    wanted = bundle.manifest.key.as_json()
    return [store for store in cache.stores(digest_json(wanted)) if store.key.as_json() == wanted]


class CachedFeatures:
    """The features that a cache has of a bundle's network, by the contents of image files.

    They are those that `featx fit-head` fits on: float16 unless `--storage` was float32, so that confidences differ in
    the fourth digit or so from those of an image whose features are computed anew.

    Attributes
    ----------
    found : how many images had features in the cache so far
    """

    def __init__(self, bundle: Bundle, cache: Cache) -> None:
        own_network = bundle.manifest.backbone.finetuned or bundle.manifest.baseline
        stores = [] if own_network else stores_of(bundle, cache)
        self.found = 0
        self._tables = [store.table(one.layer, one.pooling) for store in stores for one in bundle.outputs]
        self._cache = cache

    def __bool__(self) -> bool:
        """Whether there are any."""
        return any(table.parts for table in self._tables)

    def read(self, paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray, Mapping[str, bytes]]:
        """Return positions int64 (n,) in `paths`, rising, and features float32 (n, d) of the images that it has.

        And the contents of URLs that were read for their digests, as far as memory was set aside: of the others, that
        are to be decoded, a server need not be asked again.
        """
        held = _Held()
        nothing = np.empty(0, np.int64), np.empty((0, 0), np.float32), held.contents
        paths, index = [path if is_url(path) else os.path.abspath(path) for path in paths], self._cache.index
        known = digest_images(paths, index, keep=held.keep)
        rows = np.flatnonzero(known.usable)
        digests, sources = known.digest[rows], [paths[row] for row in rows.tolist()]
        absent = np.zeros(len(rows), bool)
        for table in self._tables:
            absent |= require_current(sources, digests, table, index).missing(digests)
        if absent.all():
            return nothing
        try:
            features = join([table.read(digests[~absent]) for table in self._tables]).asarray()
        except RemovedPart:  # by another process, just now
            return nothing
        self.found += len(features)
        return rows[~absent], features, held.contents


class _Held:
    """The contents of the first URLs that were read, up to `_HELD` bytes in all."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._left, self._lock = _HELD, Lock()

    def keep(self, url: str, content: bytes) -> None:
        with self._lock:
            if len(content) <= self._left:
                self._left -= len(content)
                self.contents[url] = content


@contextmanager
def open_cached(folder: str | Path, bundle: Bundle) -> Iterator[CachedFeatures]:
    """The features of a bundle's network in a cache folder.

    Raises
    ------
    UsageError
        The folder is no cache: nothing is written into it.
    """
    place = Path(folder)
    if not str(folder) or not ((place / INDEX_FILE).exists() or any(place.glob(f"*/{KEY_FILE}"))):
        raise UsageError(f"{str(folder)!r} is not a cache. Name the folder that featx extract or fit-head has made.")
    with Cache(folder) as cache:
        yield CachedFeatures(bundle, cache)


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
