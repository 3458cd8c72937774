"""The labelled images most similar to the one to label, by their features."""

from __future__ import annotations

import numpy as np

from featx.config import FeaturesOptions
from featx.dataset import ImageSet, digest_images
from featx.errors import FeatxError
from featx.extraction.job import settle
from featx.features import Features, width
from featx.io.digest_arrays import has_digest
from featx.metrics.similarity import unit_rows
from featx.serve.label_types import Neighbours
from featx.store.cache import Cache

_MOST = 20_000  # labelled images that are compared with one, the latest
_BYTES = 128 << 20  # of their features, which are held
_FOUND = 6


class NearSearch:
    """Labelled rows with their directions in memory; of more than fit the latest.

    rows : int64 (m,), of the features, among n
    """

    def __init__(self, rows: np.ndarray, features: Features, n: int) -> None:
        self._features = features
        self._place = np.full(n, -1, np.int32)
        self._place[rows] = np.arange(len(rows))
        self._most = max(1, min(_MOST, _BYTES // (4 * max(1, width(features)))))
        self._held = np.empty((0, width(features)), np.float32)
        self._held_rows = np.empty(0, np.int64)

    def find(self, row: int, among: np.ndarray) -> list[tuple[int, float]]:
        """The rows among some that are most like a row, as in `Neighbours`."""
        wanted = among[self._place[among] >= 0][-self._most :]
        if self._place[row] < 0 or not len(wanted):
            return []
        self._hold(wanted)
        query = unit_rows(self._features.take(self._place[[row]]).asarray())[0]
        similarity = np.where(np.isin(self._held_rows, wanted), self._held @ query, -np.inf)
        best = np.argsort(-similarity, kind="stable")[:_FOUND]
        return [(int(self._held_rows[at]), float(similarity[at])) for at in best if similarity[at] > -np.inf]

    def _hold(self, wanted: np.ndarray) -> None:
        """Read what is not held; drop what is no longer wanted once there is too much of it."""
        new = wanted[~np.isin(wanted, self._held_rows)]
        if not len(new):
            return
        if len(self._held_rows) + len(new) > self._most + 1000:
            still = np.isin(self._held_rows, wanted)
            self._held, self._held_rows = self._held[still], self._held_rows[still]
        fresh = unit_rows(self._features.take(self._place[new]).asarray())
        self._held = np.concatenate([self._held, fresh])
        self._held_rows = np.concatenate([self._held_rows, new])


def search_near(rows: np.ndarray, features: Features, n: int) -> Neighbours:
    """Find rows that are alike by their features. rows : int64 (m,), of the features, among n"""
    return NearSearch(rows, features, n).find


def cached_near(images: ImageSet, options: FeaturesOptions, cache: Cache) -> Neighbours | None:
    """The same without a model, of the images whose features by these options are in the cache; none is computed."""
    if not cache.stores():
        return None
    try:
        job = settle(options, cache)
        rows = [output for output in job.outputs if output.pooling != "none"]
        if len(rows) != 1 or not any(store.key == job.store.key for store in cache.stores()):
            return None
        table = job.store.table(rows[0].layer, rows[0].pooling)
        digests = digest_images(images.paths, cache.index).digest
        here = np.flatnonzero(has_digest(digests))
        here = here[~table.missing(digests[here])]
        return search_near(here, table.read(digests[here]), len(images)) if len(here) else None
    except FeatxError:  # the pictures beside are a help, and labelling goes without
        return None
