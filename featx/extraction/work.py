"""Decode, infer and write what is missing, beside other processes that may do the same."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np

from featx.augment import Augmenter
from featx.dataset.digests import whole
from featx.engines import Engine
from featx.extraction.job import Job
from featx.extraction.network import open_engine
from featx.extraction.outcome import Extraction
from featx.extraction.planning import Plan, check_space
from featx.files import MTIME_TRUST_NS, digest_file
from featx.images import REPLACED, Alter, Batch, Pinned, Source, iter_batches
from featx.progress import Progress
from featx.remote import is_url
from featx.store import FeatureTable, Leases, TableWriter

_CLAIM = 512  # images a process reserves at a time
_WAIT = 0.5  # seconds between looks at what other processes have finished


def compute(todo: Plan, job: Job, bad: dict[int, str], done: Extraction, progress: Progress) -> None:
    """Compute and write the planned rows of `done`, if there are any, and count them there.

    bad : rows that cannot be read, and why; those that show it now are added
    """
    if not len(todo.rows):
        return
    start = time.perf_counter()
    check_space(todo, job.store.directory)
    made_of = {**asdict(job.spec), "engine": job.engine, "resize": job.options.resize}
    job.store.open(made_of | ({"augment": job.augmenter.as_json()} if job.augmenter else {}))
    _compute(todo, job, bad, done, progress)
    if done.computed:
        rate = done.computed / (time.perf_counter() - start)
        job.index.remember("images_per_second", job.store.key.digest, rate)


def _compute(todo: Plan, job: Job, bad: dict[int, str], done: Extraction, progress: Progress) -> None:
    """Decode, infer and write the planned rows; others may share the work, and what they finish counts as reused."""
    tables = {output.name: job.store.table(output.layer, output.pooling) for output in todo.outputs}
    engine = open_engine(todo.outputs, job.spec, job.options, job.store.graph)
    writer = TableWriter(tables, job.options.storage, job.options.compression)
    total, size, resize = len(todo.rows), job.spec.input_size, job.options.resize
    alter, sources = _alter(job.augmenter, done), _pin(done)
    with job.store.leases() as leases, writer:
        queue = _WorkQueue(todo.rows, done, tables, leases)
        while queue.remaining:
            claims, workers = queue.claim(), job.options.workers
            for decoded in iter_batches(sources, claims, size, resize, engine.handover, workers, alter):
                leases.give_sign()
                batch = _leave_changed(decoded, job, done)
                _note_bad(batch, job, bad, done)
                _infer(batch, engine, tables, writer, done)
                reused = todo.unique - total + queue.done_by_others
                progress("extract", done.computed + queue.done_by_others, total, reused=reused, bad=len(bad))
            if queue.remaining:  # all of it is leased by others: show them ours, then look again
                writer.wait()
                queue.release()
                time.sleep(_WAIT)
        progress("extract", total, total)
    done.stages["write"] = writer.seconds


def _alter(augmenter: Augmenter | None, done: Extraction) -> Alter | None:
    if augmenter is None:
        return None
    views = done.view(np.arange(len(done.digests)))
    return lambda row, image: augmenter(image, bytes(done.digests[row]), int(views[row]))


def _pin(done: Extraction) -> Sequence[Source]:
    """What to decode; a URL with its digest, which is cheaper than to ask a server whether the file has changed."""
    images = done.images
    if images.contents is not None or not any(map(is_url, images.paths)):
        return images.sources
    pairs = zip(images.paths, done.digests, strict=True)
    return [Pinned(path, whole(digest)) if is_url(path) else path for path, digest in pairs]


def _leave_changed(batch: Batch, job: Job, done: Extraction) -> Batch:
    """Take out images whose file was replaced since it was hashed: their pixels are not those of their digest."""
    if done.images.contents is not None:
        return batch
    rows = [*batch.rows.tolist(), *(row for row, _ in batch.bad)]
    changed = {row for row in rows if _has_changed(done.images.paths[row], done.digests[row], job.began)}
    if not changed:
        return batch
    keep = ~np.isin(batch.rows, list(changed))
    bad = [(row, reason) for row, reason in batch.bad if row not in changed]
    bad += [(row, REPLACED) for row in sorted(changed)]
    return replace(batch, rows=batch.rows[keep], images=batch.images[keep], bad=bad, passing=batch.passing | changed)


def _has_changed(path: str, digest: bytes, began: int) -> bool:
    if is_url(path):  # it was compared with its digest when it was read
        return False
    try:
        status = os.stat(path)
        if max(status.st_mtime_ns, status.st_ctime_ns) < began - MTIME_TRUST_NS:
            return False
        return digest_file(path) != whole(digest)
    except OSError:  # gone, which decoding has noticed if it mattered
        return False


def _note_bad(batch: Batch, job: Job, bad: dict[int, str], done: Extraction) -> None:
    bad |= dict(batch.bad)
    lasting = [(whole(done.digests[row]), reason) for row, reason in batch.bad if row not in batch.passing]
    job.index.remember_bad(job.decoder, lasting)


def _infer(
    batch: Batch, engine: Engine, tables: dict[str, FeatureTable], writer: TableWriter, done: Extraction
) -> None:
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


class _WorkQueue:
    """Rows still to compute, handed out in reservations that other processes respect."""

    def __init__(self, rows: np.ndarray, done: Extraction, tables: dict[str, FeatureTable], leases: Leases) -> None:
        self._done, self._tables, self._leases = done, tables, leases
        self._open = deque(rows[start : start + _CLAIM] for start in range(0, len(rows), _CLAIM))
        self._mine = deque[np.ndarray](maxlen=64)  # enough to cover what is not yet in a part
        self.done_by_others = 0

    @property
    def remaining(self) -> int:
        """Reservations not yet handed out."""
        return len(self._open)

    def claim(self) -> Iterator[int]:
        """Rows to compute now. Ends when nothing is left, or when others work on all that is left."""
        for _ in range(len(self._open)):
            chunk, leased = self._reserve(self._open.popleft())
            if len(leased):
                self._open.append(leased)
            yield from chunk.tolist()

    def release(self) -> None:
        """End the own reservations: all of their rows are visible, or of images that cannot be read."""
        self._mine.clear()
        self._leases.claim(np.empty(0, "S32"))

    def _reserve(self, chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._leases.exclusive():
            for table in self._tables.values():
                table.refresh()
            names, views = self._done.digests[chunk], self._done.view(chunk)
            absent = np.logical_or.reduce([table.missing(names, views) for table in self._tables.values()])
            self.done_by_others += int((~absent).sum())
            others = np.isin(names, self._leases.of_others())
            self._mine.append(names[absent & ~others])
            self._leases.claim(np.concatenate(self._mine))
        return chunk[absent & ~others], chunk[absent & others]
