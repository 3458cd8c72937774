"""Decode images ahead in threads, and yield them in batches."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np

from featx.errors import UsageError
from featx.images.decoder import load_image
from featx.images.fault import BadImage
from featx.images.resize import ResizeRule
from featx.images.sources import Hashed, Pinned, Source
from featx.io.compact import Paths
from featx.io.urls import AT_ONCE, is_url

Alter = Callable[[int, np.ndarray], np.ndarray]


def usable_cores() -> int:
    """How many threads can run at once in this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoding_threads(sources: Sequence[Source], cores: int = 0) -> int:
    """How many threads decode: one per core, and more where they wait for a server, as a few of the sources show.

    cores : of this process' own; 0: all that it may use
    """
    cores = cores or usable_cores()
    some = sources[:: 1 + len(sources) // 16] if isinstance(sources, list | tuple | Paths) else ()
    if any(isinstance(source, Pinned | Hashed) or is_url(source) for source in some):
        return max(AT_ONCE, cores)
    return cores


@dataclass(frozen=True)
class Decoding:
    """How images are decoded, resized and batched.

    size : (height, width) in pixels
    resize : as in `featx.images.decoder.load_image`
    batch_size : rows per batch
    workers : decoding threads; 0: as `decoding_threads` finds best
    alter : called in the decoding threads with (row, image uint8 (height, width, 3), not to be written to); what it
        returns, of the same shape and type, takes the image's place; it may raise BadImage
    """

    size: tuple[int, int]
    resize: str
    batch_size: int
    workers: int = 0
    alter: Alter | None = None


@dataclass(frozen=True)
class Batch:
    """Some decoded images.

    Attributes
    ----------
    rows : int64 (n,), the positions in `paths` of those that could be read, in the order asked for
    images : uint8 (n, height, width, 3), RGB
    unreadable : position and reason of those that could not
    transient : the positions among them that may be readable another time (as when a file server is down): these are
        not to be remembered
    seconds : what decoding took: the time of all threads, divided by their number
    """

    rows: np.ndarray
    images: np.ndarray
    unreadable: list[tuple[int, str]]
    transient: frozenset[int] = frozenset()
    seconds: float = 0.0


def iter_batches(paths: Sequence[Source], rows: Iterable[int], decoding: Decoding) -> Iterator[Batch]:
    """Decode and resize `paths[row]` for every row, in threads, a few batches ahead.

    Every `batch_size` rows make one batch, of fewer images where some cannot be read. `rows` is advanced by the thread
    that takes the batches, and only a few batches ahead of it. Closing the iterator stops the threads. A path that
    stands in consecutive rows of a batch is decoded once for all of them.

    Parameters
    ----------
    paths : paths, URLs, or the bytes of files
    rows : positions in `paths`
    decoding : how they are read

    Raises
    ------
    UsageError
        An unknown way to resize, or batches of no row.
    """
    size = decoding.batch_size
    ResizeRule.parse(decoding.resize)
    if size < 1:
        raise UsageError(f"A batch holds at least 1 image, got {size}.")
    claims = iter(rows)
    workers = decoding.workers or decoding_threads(paths)
    ahead = 2 + -(-2 * workers // size)  # enough that every thread has work while a batch is being used
    pool = ThreadPoolExecutor(workers, thread_name_prefix="featx-decode")
    started: deque[_Started] = deque()
    try:
        while True:
            while len(started) < ahead and (claimed := list(islice(claims, size))):
                started.append(_start(pool, paths, claimed, decoding))
            if not started:
                return
            yield _finish(started.popleft(), workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_Outcome = tuple[BadImage | None, float]


@dataclass(frozen=True)
class _Started:
    """A batch that threads are filling. tasks : rows of one source each, and what comes of it"""

    rows: list[int]
    images: np.ndarray
    tasks: list[tuple[list[int], Future[_Outcome]]]


def _start(pool: ThreadPoolExecutor, paths: Sequence[Source], rows: list[int], decoding: Decoding) -> _Started:
    images = np.empty((len(rows), *decoding.size, 3), np.uint8)
    tasks: list[tuple[list[int], Future[_Outcome]]] = []
    start = 0
    for source, some in groupby(rows, key=paths.__getitem__):
        same = list(some)
        places = images[start : start + len(same)]
        tasks.append((same, pool.submit(_fill, places, same, source, decoding)))
        start += len(same)
    return _Started(rows, images, tasks)


def _fill(places: np.ndarray, rows: list[int], source: Source, decoding: Decoding) -> _Outcome:
    """Decode one source into the places of the rows that it stands in."""
    start = time.perf_counter()
    fault = None
    try:
        image = load_image(source, decoding.size, decoding.resize)
        for place, row in zip(places, rows, strict=True):
            place[:] = image if decoding.alter is None else decoding.alter(row, image)
    except BadImage as error:
        fault = error
    return fault, time.perf_counter() - start


def _finish(started: _Started, workers: int) -> Batch:
    outcomes = [(rows, *future.result()) for rows, future in started.tasks]
    seconds = sum(spent for *_, spent in outcomes) / workers
    faults = [(row, fault) for rows, fault, _ in outcomes if fault is not None for row in rows]
    rows = np.array(started.rows, np.int64)
    if not faults:
        return Batch(rows, started.images, [], seconds=seconds)
    readable = np.concatenate([np.full(len(some), fault is None) for some, fault, _ in outcomes])
    unreadable = [(row, fault.reason) for row, fault in faults]
    transient = frozenset(row for row, fault in faults if fault.transient)
    return Batch(rows[readable], started.images[readable], unreadable, transient, seconds)
