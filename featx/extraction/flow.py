"""The heavy stage: images x backbone -> feature store, each image once.

`extract` reads as the flow: settle what features are made with and where they belong (`job`), digest the files
(`request`), see which rows are missing (`planning`), compute those (`dispatch`), here (`work`) or on a cluster (`ray`),
and say what there is now (`extraction`). Views of images (`views`) are a request like any other.
Nothing here imports TensorFlow when no row is missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from featx.config import FeaturesOptions
from featx.dataset import ImageSet, require_readable
from featx.extraction.calibrating import fix_calibration
from featx.extraction.computation import Computation
from featx.extraction.computed import Computed
from featx.extraction.dispatch import compute
from featx.extraction.extraction import Extraction
from featx.extraction.job import Job, make_key, settle
from featx.extraction.network import frozen_files, open_engine
from featx.extraction.planning import Plan, estimate, plan_rows, usual_rate
from featx.extraction.request import Request, request_images
from featx.io.digest_arrays import has_digest, is_among
from featx.io.filetypes import is_transient_reason
from featx.io.progress import Progress, no_progress
from featx.store.cache import Cache

__all__ = [
    "Extraction",
    "Plan",
    "Request",
    "extract",
    "frozen_files",
    "make_key",
    "open_engine",
    "plan",
    "serve_request",
    "usual_rate",
]

_logger = logging.getLogger(__name__)


def plan(images: ImageSet, options: FeaturesOptions, cache: Cache, progress: Progress = no_progress) -> Plan:
    """What `extract` would do; nothing is computed."""
    fix_calibration(images, options, cache, progress)
    job = settle(options, cache)
    return estimate(plan_rows(request_images(images, cache.index, progress), job), job)


def extract(images: ImageSet, options: FeaturesOptions, cache: Cache, progress: Progress = no_progress) -> Extraction:
    """Make sure that the store holds the features of every readable image.

    Raises
    ------
    DataError
        When no image can be read.
    """
    start = time.perf_counter()
    fix_calibration(images, options, cache, progress)
    job = settle(options, cache)
    done = serve_request(request_images(images, cache.index, progress), job, progress, start)
    _warn_of_missed(done)
    require_readable(images, done.readable)
    return done


def serve_request(request: Request, job: Job, progress: Progress, start: float) -> Extraction:
    """Make sure that the store holds the features of these rows, those that cannot be read left out.

    start : of the work, as `time.perf_counter` has it
    """
    todo = plan_rows(request, job)
    computed = compute(Computation(request, job, todo), progress)
    job.store.set_damaged_aside()  # not before its rows are there again: a kill in between would lose them
    done = _conclude(request, job, computed, time.perf_counter() - start)
    _logger.info("%s; computed %d, reused %d, bad %d", todo.reason, done.computed, done.reused, len(done.bad))
    if done.computed:
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in asdict(done.stages).items())
        _logger.info("%s: the bottleneck is %s", spent, done.stages.slowest)
    return done


def _conclude(request: Request, job: Job, computed: Computed, seconds: float) -> Extraction:
    unreadable = _with_copies(request, {**request.unreadable, **computed.unreadable})
    readable = np.ones(len(request), bool)
    readable[list(unreadable)] = False
    different = len(request.different(np.flatnonzero(readable)))
    return Extraction(
        request=request,
        readable=readable,
        bad=_describe(request, unreadable),
        outputs=job.outputs,
        options=job.options,
        store=job.store,
        spec=job.spec,
        engine=job.engine,
        duplicates=int(readable.sum()) - different,
        computed=computed.rows,
        reused=different - computed.rows,
        seconds=seconds,
        stages=computed.stages,
        workers=computed.workers,
        calibration=job.calibration,
    )


def _with_copies(request: Request, unreadable: Mapping[int, str]) -> dict[int, str]:
    """A copy of an unreadable image is unreadable for the same reason: only one of them was decoded."""
    rows = np.array(sorted(unreadable), np.int64)
    rows = rows[has_digest(request.digests[rows])]
    if not len(rows):
        return dict(unreadable)
    names = request.identities
    reasons = {names[row].tobytes(): unreadable[row] for row in rows.tolist()}
    copies = np.flatnonzero(is_among(names, names[rows])).tolist()
    return {row: reasons[names[row].tobytes()] for row in copies} | dict(unreadable)


def _describe(request: Request, unreadable: Mapping[int, str]) -> list[dict[str, str]]:
    """{"path", "reason"} of each image that cannot be read, however many of its views were asked for."""
    named: dict[tuple[int | None, str], str] = {}
    for row in sorted(unreadable):
        image = None if request.views[row] else row
        named[image, request.images.paths[row]] = unreadable[row]
    return [{"path": path, "reason": reason} for (_, path), reason in named.items()]


def _warn_of_missed(done: Extraction) -> None:
    """Tell broken files apart from what only a server or a disk failed to give."""
    missed = sum(is_transient_reason(one["reason"]) for one in done.bad)
    if missed:
        text = "%d of %d images could not be fetched, which says nothing of the images: run the same command again."
        _logger.warning(text, missed, len(done.images))
