"""Cached views: the features of altered versions of images, beside those of the images themselves.

Views are extracted as images are, by the same loop, into a store of their own: its key names the policy and the seed,
its rows are (digest, view). Images stay where they are, so that asking for views computes views alone, asking for more
of them computes only the ones that are new, and another policy begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones import Output
from featx.config import FeaturesOptions
from featx.dataset import ImageSet, digest_images
from featx.dataset.folders import read_files
from featx.extraction.flow import Extraction, Job, Plan, compute, estimate, plan_extraction, settle
from featx.images.augment import Augmenter
from featx.io.digest_arrays import has_digest
from featx.io.index import StatIndex
from featx.io.progress import Progress, no_progress
from featx.store.store import FeatureStore
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


def plan_views(
    images: ImageSet, digests: np.ndarray, options: FeaturesOptions, augmenter: Augmenter, each: int
) -> Plan:
    """What `extract_views` would compute of these different images; nothing is computed.

    digests : V32 (n,), of the images
    """
    job = _settle(options, augmenter)
    plan = plan_extraction(job.store, job.outputs, np.repeat(digests, each), {}, _numbers(len(images), each))
    return estimate(plan, job)


def extract_views(
    known: Extraction, rows: np.ndarray, augmenter: Augmenter, each: int, progress: Progress = no_progress
) -> Views:
    """Make sure that a store holds the features of the first `each` views of some images.

    A view that cannot be made, since its image is gone or was replaced meanwhile, is left out and listed in `bad`.

    Parameters
    ----------
    known : the features of the images themselves
    rows : positions in `known.images` of different images that could be read
    """
    of = np.repeat(np.arange(len(rows)), each)
    numbers = _numbers(len(rows), each)
    done = _extract(known.images.take(rows[of]), known.digests[rows[of]], numbers, known.options, augmenter, progress)
    made = np.flatnonzero(done.readable)
    return Views(augmenter, each, len(rows), done, made, of[made])


def repair_views(
    wanted: Sequence[tuple[str, int]], options: FeaturesOptions, augmenter: Augmenter, progress: Progress
) -> None:
    """Compute single views (path, number) where they are missing."""
    images = read_files([path for path, _ in wanted])
    place = {path: i for i, path in enumerate(images.paths)}
    digests = digest_images(images.paths, StatIndex(Path(options.cache) / "index.sqlite")).digest
    rows = np.array([place[path] for path, _ in wanted])
    there = has_digest(digests[rows])
    rows, views = rows[there], np.array([view for _, view in wanted])[there]
    _extract(images.take(rows), digests[rows], views, options, augmenter, progress)


def _extract(
    images: ImageSet,
    digests: np.ndarray,
    views: np.ndarray,
    options: FeaturesOptions,
    augmenter: Augmenter,
    progress: Progress,
) -> Extraction:
    """The features of these views of these images, row by row; an image comes as often as it has views."""
    start = time.perf_counter()
    job = _settle(options, augmenter)
    done = Extraction(
        images, digests, np.ones(len(images), bool), [], job.outputs, options, job.store, job.spec, job.engine
    )
    done.views = views.astype(np.uint16)
    todo = plan_extraction(job.store, job.outputs, digests, {}, done.views)
    bad: dict[int, str] = {}
    compute(todo, job, bad, done, progress)
    done.readable[list(bad)] = False
    reasons = {images.paths[row]: reason for row, reason in sorted(bad.items())}
    done.bad = [{"path": path, "reason": reason} for path, reason in reasons.items()]
    done.reused = int(done.readable.sum()) - done.computed
    done.seconds = time.perf_counter() - start
    return done


def _settle(options: FeaturesOptions, augmenter: Augmenter) -> Job:
    """The job of the images, with a store of the policy's own; the cut network is shared with theirs."""
    job = settle(options)
    store = FeatureStore(Path(options.cache), replace(job.store.key, views=augmenter.identity))
    store.graph = job.store.graph
    return replace(job, store=store, augmenter=augmenter)


def _numbers(images: int, each: int) -> np.ndarray:
    """The views 1 to `each` of every image, uint16 (images * each,)."""
    return np.tile(np.arange(1, each + 1, dtype=np.uint16), images)
