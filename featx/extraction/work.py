"""Decode, infer and write missing rows in this process, alongside others that may do the same.

`compute_rows` is what every process does with the rows it has reserved, on a cluster as well as here.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from featx.backbones import BackboneSpec
from featx.config import FeaturesOptions
from featx.engines.protocol import Engine
from featx.extraction.computation import Computation
from featx.extraction.computed import Computed, Stages
from featx.extraction.job import Job
from featx.extraction.network import open_engine
from featx.extraction.precision_trial import Pace, advise, try_shorter
from featx.extraction.quantising import quantising_of
from featx.extraction.request import Request
from featx.extraction.reservations import Reservations
from featx.images.augment import Augmenter
from featx.images.batches import Alter, Batch, Decoding, iter_batches
from featx.images.decoder import REPLACED, decoder_version
from featx.io.digests import digest_file
from featx.io.index import MTIME_TRUST_NS
from featx.io.progress import Progress
from featx.io.urls import is_url
from featx.store.writer import TableWriter

_logger = logging.getLogger(__name__)
_CLAIM = 512  # images a process reserves at a time
_COVER = 64  # reservations that are kept: enough to cover what is not yet in a part
_SETTLED = 3.0  # seconds after which the rate of a run shows how long it will take
_WAIT = 0.5  # seconds between looks at what other processes have finished


class Lacking(Protocol):
    """Knows which rows one layer and pooling lacks."""

    def missing(self, digest: np.ndarray, view: np.ndarray | int = 0) -> np.ndarray:
        """Mask (n,) of the digests V32 (n,) that have no row."""
        ...


@dataclass(frozen=True)
class Tools:
    """What a process computes rows with.

    tables : by the names of the outputs, which of the rows each lacks
    began : when the run began, in nanoseconds: a file that changed since may not be the one that was hashed
    """

    engine: Engine
    tables: Mapping[str, Lacking]
    writer: TableWriter
    spec: BackboneSpec
    options: FeaturesOptions
    augmenter: Augmenter | None
    began: int


@dataclass(frozen=True)
class Done:
    """What became of some rows.

    rows : that were computed; decode, infer : the seconds that they took
    unreadable : row and reason of the others; transient : those of them whose fault may pass
    """

    rows: int
    unreadable: Sequence[tuple[int, str]]
    transient: frozenset[int]
    decode: float
    infer: float


@dataclass
class Tally:
    """What was done so far."""

    rows: int = 0
    unreadable: dict[int, str] = field(default_factory=dict)
    stages: Stages = Stages()

    def add(self, done: Done) -> None:
        """Count some more rows."""
        self.rows += done.rows
        self.unreadable.update(done.unreadable)
        self.stages += Stages(done.decode, done.infer)


def compute_here(work: Computation, progress: Progress) -> Computed:
    """Compute and write the planned rows; others may share the work, and what they finish counts as reused."""
    request, job, todo = work.request, work.job, work.plan
    tables = {output.name: job.store.table(output.layer, output.pooling) for output in todo.outputs}
    quantising = quantising_of(job.calibration, request, job.spec)
    engine = open_engine(todo.outputs, job.spec, job.options, job.store.graphs, quantising=quantising)
    writer = TableWriter(tables, job.options.storage, job.options.compression)
    tools = Tools(engine, tables, writer, job.spec, job.options, job.augmenter, job.began)
    tally, total = Tally(), len(todo.rows)
    advice = _PrecisionAdvice(work, engine)
    with job.store.leases() as leases, writer:
        queue = Reservations(todo.rows, request, tables, leases)
        while queue.remaining:
            for done in compute_rows(_claim(queue), request, tools):
                leases.give_sign()
                tally.add(done)
                remember_unreadable(done.unreadable, done.transient, request, job)
                reused = todo.unique - total + queue.done_by_others
                unreadable = len(request.unreadable) + len(tally.unreadable)
                progress("extract", tally.rows + queue.done_by_others, total, reused=reused, bad=unreadable)
                advice.look(tally)
            if queue.remaining:
                _wait_for_others(queue, writer)
        progress("extract", total, total)
    return Computed(tally.rows, tally.unreadable, tally.stages + Stages(write=writer.seconds))


class _PrecisionAdvice:
    """Shows once, early in a long extraction, what another precision would save and cost."""

    def __init__(self, work: Computation, engine: Engine) -> None:
        self._work, self._engine = work, engine
        self._start = time.perf_counter()
        self._open = True

    def look(self, tally: Tally) -> None:
        """Look at what was done so far; only what is long is worth a trial, which takes a small share of it."""
        elapsed = time.perf_counter() - self._start
        if not self._open or not tally.rows or elapsed < _SETTLED:
            return
        self._open, plan = False, self._work.plan
        pace = Pace(len(plan.rows), tally.rows, elapsed, tally.stages.infer)
        rows = plan.rows[: pace.images_to_try].tolist()
        trial = try_shorter(self._work.job, self._work.request, rows, plan.outputs, self._engine)
        if trial is not None and (line := advise(trial, pace)):
            _logger.warning("%s", line)


def _wait_for_others(queue: Reservations, writer: TableWriter) -> None:
    """All that is left is leased by others: show them what is done here, then look again."""
    writer.wait()
    queue.release()
    time.sleep(_WAIT)
    queue.look_again()


def _claim(queue: Reservations) -> Iterator[int]:
    """Rows to compute now. Ends when nothing is left, or when others work on all that is left."""
    recent: deque[np.ndarray] = deque()
    while len(rows := queue.reserve(_CLAIM)):
        recent.append(rows)
        if len(recent) > _COVER:
            queue.finish(recent.popleft())
        yield from rows.tolist()


def compute_rows(rows: Iterable[int], request: Request, tools: Tools) -> Iterator[Done]:
    """Decode and infer these rows of a request and hand them to the writer; yields what became of every batch.

    `rows` is advanced only a few batches ahead.
    """
    options, alter = tools.options, _alter(tools.augmenter, request)
    reading = Decoding(tools.spec.input_size, tools.spec.resize, tools.engine.handover, options.workers, alter)
    for decoded in iter_batches(request.sources, rows, reading):
        batch = _leave_changed(decoded, request, tools.began)
        seconds = _infer(batch, request, tools) if len(batch.rows) else 0.0
        yield Done(len(batch.rows), batch.unreadable, batch.transient, batch.seconds, seconds)


def _alter(augmenter: Augmenter | None, request: Request) -> Alter | None:
    if augmenter is None:
        return None
    return lambda row, image: augmenter(image, request.digests[row].tobytes(), int(request.views[row]))


def _leave_changed(batch: Batch, request: Request, began: int) -> Batch:
    """Take out images whose file was replaced since it was hashed: their pixels are not those of their digest."""
    images = request.images
    if images.contents is not None:
        return batch
    rows = [*batch.rows.tolist(), *(row for row, _ in batch.unreadable)]
    changed = {row for row in rows if _has_changed(images.paths[row], request.digests[row].tobytes(), began)}
    if not changed:
        return batch
    keep = ~np.isin(batch.rows, list(changed))
    unreadable = [(row, reason) for row, reason in batch.unreadable if row not in changed]
    unreadable += [(row, REPLACED) for row in sorted(changed)]
    return Batch(batch.rows[keep], batch.images[keep], unreadable, batch.transient | changed, batch.seconds)


def _has_changed(path: str, digest: bytes, began: int) -> bool:
    if is_url(path):  # it was compared with its digest when it was read
        return False
    try:
        status = os.stat(path)
        if max(status.st_mtime_ns, status.st_ctime_ns) < began - MTIME_TRUST_NS:
            return False
        return digest_file(path) != digest
    except OSError:  # gone, which decoding has noticed if it mattered
        return False


def _infer(batch: Batch, request: Request, tools: Tools) -> float:
    """Features of a batch, of which each table takes the rows that it misses; returns the seconds of inference."""
    start = time.perf_counter()
    features = tools.engine.infer(batch.images)
    seconds = time.perf_counter() - start
    digests, views = request.digests[batch.rows], request.views[batch.rows]
    for name, table in tools.tables.items():
        new = np.flatnonzero(table.missing(digests, views))
        if len(new):
            paths = [request.images.paths[row] for row in batch.rows[new]]
            tools.writer.add(name, digests[new], paths, features[name][new], views[new])
    return seconds


def remember_unreadable(
    faults: Sequence[tuple[int, str]], transient: frozenset[int], request: Request, job: Job
) -> None:
    """Remember rows that cannot be read, but for those whose fault may pass."""
    lasting = [(request.digests[row].tobytes(), reason) for row, reason in faults if row not in transient]
    job.cache.index.remember_unreadable(decoder_version(), lasting)
