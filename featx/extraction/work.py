"""Decode, infer and write what is missing, in this process, beside other processes that may do the same.

`compute_rows` is what every process does with the rows it has reserved, on a cluster as well as here.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from featx.engines.protocol import Engine
from featx.extraction.extraction import Extraction
from featx.extraction.job import Job
from featx.extraction.network import open_engine
from featx.extraction.planning import Plan
from featx.extraction.reservations import Reservations
from featx.images.augment import Augmenter
from featx.images.batches import Alter, Batch, Reading, iter_batches
from featx.images.decoder import REPLACED
from featx.images.sources import Pinned, Source
from featx.io.digests import digest_file
from featx.io.index import MTIME_TRUST_NS
from featx.io.progress import Progress
from featx.io.urls import is_url
from featx.store.writer import TableWriter

_CLAIM = 512  # images a process reserves at a time
_COVER = 64  # reservations that are kept: enough to cover what is not yet in a part
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
    sources : what to decode, by row, as `pin` gives it
    began : when the run began, in nanoseconds: a file that changed since may not be the one that was hashed
    """

    engine: Engine
    tables: Mapping[str, Lacking]
    writer: TableWriter
    sources: Sequence[Source]
    augmenter: Augmenter | None
    began: int


def compute_here(todo: Plan, job: Job, bad: dict[int, str], done: Extraction, progress: Progress) -> None:
    """Compute and write the planned rows; others may share the work, and what they finish counts as reused.

    bad : rows that cannot be read, and why; those that show it now are added
    """
    tables = {output.name: job.store.table(output.layer, output.pooling) for output in todo.outputs}
    engine = open_engine(todo.outputs, job.spec, job.options, job.store.graph)
    writer = TableWriter(tables, job.options.storage, job.options.compression)
    tools = Tools(engine, tables, writer, pin(done), job.augmenter, job.began)
    total = len(todo.rows)
    with job.store.leases() as leases, writer:
        queue = Reservations(todo.rows, done, tables, leases)
        while queue.remaining:
            for batch in compute_rows(_claim(queue), done, tools):
                leases.give_sign()
                note_bad(batch.unreadable, batch.transient, job, bad, done)
                reused = todo.unique - total + queue.done_by_others
                progress("extract", done.computed + queue.done_by_others, total, reused=reused, bad=len(bad))
            if queue.remaining:  # all of it is leased by others: show them ours, then look again
                writer.wait()
                queue.release()
                time.sleep(_WAIT)
                queue.look_again()
        progress("extract", total, total)
    done.stages["write"] = writer.seconds


def _claim(queue: Reservations) -> Iterator[int]:
    """Rows to compute now. Ends when nothing is left, or when others work on all that is left."""
    recent: deque[np.ndarray] = deque()
    while len(rows := queue.reserve(_CLAIM)):
        recent.append(rows)
        if len(recent) > _COVER:
            queue.finish(recent.popleft())
        yield from rows.tolist()


def compute_rows(rows: Iterable[int], done: Extraction, tools: Tools) -> Iterator[Batch]:
    """Decode and infer these rows of `done`, hand them to the writer and count them; yields every batch afterwards.

    `rows` is advanced only a few batches ahead.
    """
    size, resize, workers = done.spec.input_size, done.options.resize, done.options.workers
    alter, handover = _alter(tools.augmenter, done), tools.engine.handover
    for decoded in iter_batches(tools.sources, rows, Reading(size, resize, handover, workers, alter)):
        batch = _leave_changed(decoded, done, tools.began)
        _infer(batch, tools.engine, tools.tables, tools.writer, done)
        yield batch


def _alter(augmenter: Augmenter | None, done: Extraction) -> Alter | None:
    if augmenter is None:
        return None
    views = done.view(np.arange(len(done.digests)))
    return lambda row, image: augmenter(image, done.digests[row].tobytes(), int(views[row]))


def pin(done: Extraction) -> Sequence[Source]:
    """What to decode; a URL with its digest, which is cheaper than to ask a server whether the file has changed."""
    images = done.images
    if images.contents is not None or not any(map(is_url, images.paths)):
        return images.sources
    pairs = zip(images.paths, done.digests.tolist(), strict=True)
    return [Pinned(path, digest) if is_url(path) else path for path, digest in pairs]


def _leave_changed(batch: Batch, done: Extraction, began: int) -> Batch:
    """Take out images whose file was replaced since it was hashed: their pixels are not those of their digest."""
    if done.images.contents is not None:
        return batch
    rows = [*batch.rows.tolist(), *(row for row, _ in batch.unreadable)]
    changed = {row for row in rows if _has_changed(done.images.paths[row], done.digests[row].tobytes(), began)}
    if not changed:
        return batch
    keep = ~np.isin(batch.rows, list(changed))
    bad = [(row, reason) for row, reason in batch.unreadable if row not in changed]
    bad += [(row, REPLACED) for row in sorted(changed)]
    return replace(
        batch, rows=batch.rows[keep], images=batch.images[keep], unreadable=bad, transient=batch.transient | changed
    )


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


def note_bad(
    faults: Sequence[tuple[int, str]], passing: frozenset[int], job: Job, bad: dict[int, str], done: Extraction
) -> None:
    """Add rows that cannot be read to `bad`, and remember those whose fault will last."""
    bad |= dict(faults)
    lasting = [(done.digests[row].tobytes(), reason) for row, reason in faults if row not in passing]
    job.index.remember_bad(job.decoder, lasting)


def _infer(batch: Batch, engine: Engine, tables: Mapping[str, Lacking], writer: TableWriter, done: Extraction) -> None:
    """Features of a batch, of which each table takes the rows that it misses."""
    done.stages["decode"] += batch.seconds
    if not len(batch.rows):
        return
    start = time.perf_counter()
    features = engine.infer(batch.images)
    done.stages["infer"] += time.perf_counter() - start
    digests, views = done.digests[batch.rows], done.view(batch.rows)
    for name, table in tables.items():
        new = np.flatnonzero(table.missing(digests, views))
        if len(new):
            paths = [done.images.paths[row] for row in batch.rows[new]]
            writer.add(name, digests[new], paths, features[name][new], views[new])
    done.computed += len(batch.rows)
