"""Cached views: features of augmented images, beside those of the images themselves.

Views are extracted as images are, into a store of their own: its key names the policy and the seed, its rows are
(digest, view). Images stay where they are, so that asking for views computes views alone, asking for more of them
computes only the ones that are new, and another policy begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.backbones import Output
from featx.config import FeaturesOptions
from featx.dataset import ImageSet, digest_images
from featx.dataset.folders import read_files
from featx.extraction.extraction import Extraction
from featx.extraction.flow import serve_request
from featx.extraction.job import settle
from featx.extraction.planning import Plan, estimate, plan_rows
from featx.extraction.request import Request, request_views
from featx.images.augment import Augmenter
from featx.io.digest_arrays import has_digest
from featx.io.progress import Progress, no_progress
from featx.store.cache import Cache
from featx.store.stored import StoredFeatures


@dataclass(frozen=True)
class Views:
    """The views of some images.

    augmenter : what made them
    each : views of every image, numbered from 1 on
    images : of how many images
    extraction : its rows are views; all views of an image follow each other
    rows : int64 (m,), the positions in `extraction` of the views that could be made
    of : int64 (m,), of which of the images each of these is a view
    """

    augmenter: Augmenter
    each: int
    images: int
    extraction: Extraction
    rows: np.ndarray
    of: np.ndarray

    @property
    def identity(self) -> dict[str, Any]:
        """What a fit on them depends on, as JSON."""
        return {"key": self.extraction.store.key.digest, "each": self.each, "views": len(self.rows)}

    def features(self, output: Output) -> StoredFeatures:
        """The stored features of the views in `rows`, not yet read."""
        return self.extraction.features(output, self.rows)

    def as_json(self) -> dict[str, Any]:
        """What `featx extract --json` prints of them."""
        done = self.extraction
        return {
            "each": self.each,
            "images": self.images,
            "computed": done.computed,
            "reused": done.reused,
            "bad": done.bad,
            "seconds": round(done.seconds, 3),
            "store": str(done.store.directory),
        }


@dataclass(frozen=True)
class ViewPolicy:
    """Which views: what makes them, and how many of each image."""

    augmenter: Augmenter
    each: int


def plan_views(
    images: ImageSet, digests: np.ndarray, options: FeaturesOptions, policy: ViewPolicy, cache: Cache
) -> Plan:
    """What `extract_views` would compute of these different images; nothing is computed.

    digests : V32 (n,), of the images
    """
    job = settle(options, cache, policy.augmenter)
    return estimate(plan_rows(request_views(images, digests, policy.each), job), job)


def extract_views(
    known: Extraction, rows: np.ndarray, policy: ViewPolicy, cache: Cache, progress: Progress = no_progress
) -> Views:
    """Make sure that a store holds the features of views of some images.

    A view that cannot be made, since its image is gone or was replaced meanwhile, is left out and listed in `bad`.

    Parameters
    ----------
    known : the features of the images themselves
    rows : positions in `known.images` of different images that could be read
    """
    start = time.perf_counter()
    request = request_views(known.images.take(rows), known.digests[rows], policy.each)
    done = serve_request(request, settle(known.options, cache, policy.augmenter), progress, start)
    made = np.flatnonzero(done.readable)
    return Views(policy.augmenter, policy.each, len(rows), done, made, made // policy.each)


def repair_views(
    wanted: Sequence[tuple[str, int]],
    options: FeaturesOptions,
    augmenter: Augmenter,
    cache: Cache,
    progress: Progress,
) -> None:
    """Compute single views (path, number) where they are missing."""
    images = read_files([path for path, _ in wanted])
    place = {path: row for row, path in enumerate(images.paths)}
    digests = digest_images(images.paths, cache.index).digest
    rows, views = np.array([place[path] for path, _ in wanted]), np.array([view for _, view in wanted], np.uint16)
    there = has_digest(digests[rows])
    rows, views = rows[there], views[there]
    request = Request(images.take(rows), digests[rows], views)
    serve_request(request, settle(options, cache, augmenter), progress, time.perf_counter())
