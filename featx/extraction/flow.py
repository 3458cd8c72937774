"""The heavy stage: images x backbone -> feature store, each image once.

`extract` reads as the flow: digest the files, open the store that belongs to these settings (`job`), see which rows are
missing (`planning`), compute those (`dispatch`), here (`work`) or on a cluster (`cluster`), and tell it (`outcome`).
Nothing here imports TensorFlow when no row is missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from featx.config import FeaturesOptions
from featx.dataset import Digests, ImageSet, digest_images, require_usable
from featx.dataset.digests import digest_contents
from featx.extraction.dispatch import compute
from featx.extraction.extraction import Extraction
from featx.extraction.job import Job, make_key, settle
from featx.extraction.network import frozen_files, open_engine
from featx.extraction.planning import Plan, estimate, plan_extraction, usual_rate
from featx.io.digest_arrays import NO_DIGEST, digest_array
from featx.io.filetypes import is_transient_reason
from featx.io.index import StatIndex
from featx.io.progress import Progress, no_progress

__all__ = [
    "Extraction",
    "Job",
    "Plan",
    "compute",
    "estimate",
    "extract",
    "frozen_files",
    "make_key",
    "open_engine",
    "plan",
    "plan_extraction",
    "settle",
    "usual_rate",
]

_logger = logging.getLogger(__name__)


def plan(images: ImageSet, options: FeaturesOptions, progress: Progress = no_progress) -> Plan:
    """What `extract` would do; nothing is computed."""
    job = settle(options)
    digests, bad = _digest(images, job, progress)
    return estimate(plan_extraction(job.store, job.outputs, digests, bad), job)


def extract(images: ImageSet, options: FeaturesOptions, progress: Progress = no_progress) -> Extraction:
    """Make sure that the store holds the features of every readable image.

    Raises
    ------
    DataError
        When no image can be read, or a class is left without one.
    """
    start = time.perf_counter()
    job = settle(options)
    digests, bad = _digest(images, job, progress)
    todo = plan_extraction(job.store, job.outputs, digests, bad)
    done = Extraction(
        images, digests, np.ones(len(images), bool), [], job.outputs, options, job.store, job.spec, job.engine
    )
    compute(todo, job, bad, done, progress)
    _conclude(done, bad, todo)
    done.seconds = time.perf_counter() - start
    return done


def _digest(images: ImageSet, job: Job, progress: Progress) -> tuple[np.ndarray, dict[int, str]]:
    """Digests V32 (n,) of all files, and the rows already known to be unreadable with the reason."""
    found = _digest_sources(images, job.index, lambda done: progress("hash", done, len(images)))
    bad = dict(found.bad)
    known = job.index.known_bad(job.decoder)
    if known:
        for row in np.flatnonzero(np.isin(found.digest, digest_array(known))):
            bad.setdefault(int(row), known[found.digest[row].tobytes()])
    return found.digest, bad


def _digest_sources(images: ImageSet, index: StatIndex, progress: Callable[[int], None]) -> Digests:
    if images.contents is not None:
        return digest_contents(images.contents, progress)
    return digest_images(images.paths, index, progress)


def _conclude(done: Extraction, bad: dict[int, str], todo: Plan) -> None:
    _spread_bad(done.digests, bad)
    done.readable[list(bad)] = False
    done.bad = [{"path": done.images.paths[row], "reason": bad[row]} for row in sorted(bad)]
    _tell_missed(done)
    require_usable(done.images, done.readable)
    unique = len(np.unique(done.digests[done.readable]))
    done.duplicates = int(done.readable.sum()) - unique
    done.reused = unique - done.computed
    _logger.info("%s; computed %d, reused %d, bad %d", todo.reason, done.computed, done.reused, len(bad))
    if done.computed:
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in done.stages.items())
        slowest = max(done.stages, key=lambda stage: done.stages[stage])
        _logger.info("%s: the bottleneck is %s", spent, slowest)


def _tell_missed(done: Extraction) -> None:
    """Say apart from broken files what only a server or a disk failed to give."""
    missed = sum(is_transient_reason(one["reason"]) for one in done.bad)
    if missed:
        text = "%d of %d images could not be fetched, which says nothing of the images: run the same command again."
        _logger.warning(text, missed, len(done.images))


def _spread_bad(digests: np.ndarray, bad: dict[int, str]) -> None:
    """A copy of a bad image is bad for the same reason: only one of them was decoded."""
    reasons = {digests[row].tobytes(): reason for row, reason in bad.items() if digests[row] != NO_DIGEST}
    if reasons:
        for row in np.flatnonzero(np.isin(digests, digest_array(reasons))):
            bad.setdefault(int(row), reasons[digests[row].tobytes()])
