"""Plan an extraction before it starts."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.backbones import Output
from featx.errors import StoreError
from featx.extraction.job import Job
from featx.extraction.request import Request
from featx.extraction.stale import stale_images
from featx.io.compact import Picked
from featx.io.counting import agreeing, counted, counted_of
from featx.io.index import StatIndex
from featx.io.jsontypes import Json
from featx.io.progress import Progress
from featx.store.store import FeatureStore
from featx.store.table import FeatureTable

_KEPT_EVERY = 10.0  # seconds between notes of the rate of what has not ended
_RATES = {False: "images_per_second", True: "images_per_second of a cluster"}


@dataclass(frozen=True)
class Plan:
    """What a run would do, decided before anything is computed.

    rows : of the request to compute, one per digest and view; outputs : the layers and poolings that miss any
    unique : different readable ones; bytes : that the new features will take on disk (0 while a shape is unknown)
    seconds : it will take at the rate of the last run (None before one); free_bytes : on the cache's disk
    """

    rows: np.ndarray
    outputs: tuple[Output, ...]
    unique: int
    duplicates: int
    bytes: int
    reason: str
    seconds: float | None = None
    free_bytes: int = 0

    @property
    def known_bytes(self) -> int | None:
        """`bytes`; None where only a first run can show it."""
        return self.bytes if self.bytes > 0 or not len(self.rows) else None

    def as_json(self) -> dict[str, Json]:
        """What `featx extract --dry-run --json` prints of it; what only a first run can show is None."""
        return {
            "reason": self.reason,
            "rows": len(self.rows),
            "reused": self.unique - len(self.rows),
            "duplicates": self.duplicates,
            "seconds": self.seconds,
            "bytes": self.known_bytes,
            "free_bytes": self.free_bytes,
        }


@dataclass(frozen=True)
class ExtractionPlan:
    """What an extraction would do: to the images, and to views of the training images where such are asked for."""

    images: Plan
    views: Plan | None = None

    @property
    def parts(self) -> tuple[Plan, ...]:
        """The plan of the images, and that of the views where there is one."""
        return (self.images,) if self.views is None else (self.images, self.views)

    @property
    def is_most(self) -> bool:
        """Whether fewer rows may be computed: no image that turns out to be unreadable has views."""
        return self.views is not None and len(self.images.rows) > 0

    def as_json(self) -> dict[str, Json]:
        """What `featx extract --dry-run --json` prints."""
        return self.images.as_json() | ({} if self.views is None else {"views": self.views.as_json()})


def plan_rows(request: Request, job: Job) -> Plan:
    """Decide which rows to compute: of every different readable image and view, those that any output misses."""
    readable = np.ones(len(request), bool)
    readable[list(request.unreadable)] = False
    rows = np.flatnonzero(readable)
    first = request.different(rows)  # in the order of the files, which the disk likes
    whole = len(first) == len(request)  # mostly: then it takes no copy
    digests, views = (request.digests, request.views) if whole else (request.digests[first], request.views[first])
    there = [job.store.table(output.layer, output.pooling) for output in job.outputs]
    if any(table.parts for table in there):
        job.store.require(stale_images(Picked(request.sources, first), digests, views, there, job.cache.index))
    tables = {output: job.store.table(output.layer, output.pooling) for output in job.outputs}
    absent = {output: table.missing(digests, views) for output, table in tables.items()}
    wanted = tuple(output for output in job.outputs if absent[output].any())
    missing = np.logical_or.reduce([absent[output] for output in job.outputs])
    size = sum(int(absent[output].sum()) * _row_bytes(tables[output]) for output in wanted)
    reason = (
        f"{counted_of(int(missing.sum()), len(first), request.noun)} {agreeing(int(missing.sum()), 'lacks', 'lack')} "
        f"{', '.join(one.name for one in wanted)}"
        if wanted
        else agreeing(
            len(first),
            f"the {request.noun} has its features",
            f"all {len(first):,} {request.noun}s have their features",
        )
    )
    return Plan(first[missing], wanted, len(first), len(rows) - len(first), size, reason)


def _row_bytes(table: FeatureTable) -> int:
    if not table.parts:
        return 0
    part = table.parts[-1]
    return int(np.prod(part.row_shape)) * part.dtype.itemsize


def usual_rate(index: StatIndex, store: FeatureStore, cluster: bool = False) -> float | None:
    """Images per second of the last extraction into a store, by this machine's memory; None before one.

    cluster : of the last one on a cluster; else of the last one in one process
    """
    rate: float | None = index.recall(_RATES[cluster], store.key.digest)
    return rate


def remember_rate(job: Job, rate: float) -> None:
    """Keep the images per second of an extraction for `usual_rate`."""
    job.cache.index.remember(_RATES[bool(job.options.cluster)], job.store.key.digest, rate)


class PacedProgress:
    """A progress that keeps the images per second on the way, so that they are known after an interruption as well."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job, self._progress = job, progress
        self._start = self._noted = time.perf_counter()
        self._done = 0

    def __call__(self, stage: str, done: int, total: int, /, **counts: int) -> None:
        """Show it, and note the rate every ten seconds."""
        if stage == "extract":
            self._done = done
            if time.perf_counter() - self._noted > _KEPT_EVERY:
                self.note(done)
        self._progress(stage, done, total, **counts)

    def note(self, rows: int | None = None) -> None:
        """Remember the rate of so many rows, or of those that were shown to be done."""
        self._noted = time.perf_counter()
        rows = self._done if rows is None else rows
        if rows:
            remember_rate(self._job, rows / (self._noted - self._start))


def estimate(found: Plan, job: Job) -> Plan:
    """A plan with the seconds that it will take and the space that there is."""
    rate = usual_rate(job.cache.index, job.store, bool(job.options.cluster))
    seconds = len(found.rows) / rate if rate else None if len(found.rows) else 0.0
    return replace(found, seconds=seconds, free_bytes=_free_bytes(job.store.directory))


def _free_bytes(directory: Path) -> int:
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free


def check_space(plan: Plan, directory: Path) -> None:
    """Refuse to begin what does not fit on the disk: `StoreError`."""
    free = _free_bytes(directory)
    if plan.bytes > free:
        raise StoreError(
            f"The features of {counted(len(plan.rows), 'image')} take {plan.bytes / 1e9:.1f} GB and the disk of "
            f"{directory} has {free / 1e9:.1f} GB free. Free some space, or choose another folder with --cache."
        )
