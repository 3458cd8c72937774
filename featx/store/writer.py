"""Turn rows into parts: buffered, checked for float16 losses, and written atomically."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import TracebackType
from typing import Any

import numpy as np

from featx.images.classes import REVISION
from featx.store.part import PartRows, path_array, write_part
from featx.store.table import TableFolder

_logger = logging.getLogger(__name__)
PART_BYTES = 64_000_000
PART_SECONDS = 30.0
_FLOAT16_SMALLEST = 2.0**-14  # values below it are subnormal in float16 and may lose more than 1 part in 1,024
# Of the values of a batch that are not 0, this share may lose more than that. Of the layers and poolings of
# EfficientNetLite0 at most 0.13 % did, near zero by chance; of probabilities of 1,000 classes most do, and heads lost 2
# to 4 points.
_MOST_LOST = 0.01


@dataclass
class _Buffer:
    """Rows of one table that wait to become a part."""

    table: TableFolder
    dtype: np.dtype[Any]
    batches: list[tuple[np.ndarray, np.ndarray, Sequence[str], np.ndarray]] = field(default_factory=list)
    bytes: int = 0

    def add(self, digest: np.ndarray, view: np.ndarray, path: Sequence[str], features: np.ndarray) -> None:
        self.bytes += features.nbytes
        self.batches.append((digest, view, path, features))  # one step: Ctrl-C finds whole batches

    def drain(self) -> PartRows:
        digests, views, paths, features = zip(*self.batches, strict=True)
        rows = PartRows(
            np.concatenate(digests),
            np.concatenate(views),
            path_array(list(chain.from_iterable(paths))),
            np.concatenate(features),
            np.full(len(np.concatenate(digests)), REVISION, np.uint16),
        )
        self.batches, self.bytes = [], 0
        return rows


class TableWriter:
    """Collects rows of several tables and publishes them as parts from a thread, off the path of the computation.

    A part is handed to the thread after about 64 MB or 30 s of work, whichever comes first, and is visible when it is
    written; one more may wait for that, then `add` waits too. What a kill can cost is that: one part as a rule, three
    where the disk is slower than the network. Use as a context; leaving it, even by an error or Ctrl-C, publishes what
    was collected.

    Attributes
    ----------
    seconds : spent on encoding, writing and flushing to disk
    bytes : of the features that were added, by table
    """

    def __init__(self, tables: Mapping[str, TableFolder], storage: str, compression: str) -> None:
        self._buffers = {name: _Buffer(table, np.dtype(storage)) for name, table in tables.items()}
        self._compression = compression
        self._queue: queue.Queue[tuple[TableFolder, PartRows] | None] = queue.Queue(maxsize=1)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._publish_all, daemon=True)
        self._last = time.monotonic()
        self.seconds = 0.0
        self.bytes = dict.fromkeys(tables, 0)

    def __enter__(self) -> TableWriter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise_failure()

    def add(
        self, name: str, digest: np.ndarray, path: Sequence[str], features: np.ndarray, view: np.ndarray | int = 0
    ) -> None:
        """Add rows of the table `name`: digest V32 (n,), paths, features float32 (n, ...), view uint16 (n,)."""
        self._raise_failure()
        buffer = self._buffers[name]
        stored, lossless = _to_storage(features, buffer.dtype)
        if not lossless:
            _logger.warning(
                "%s does not fit float16 (values too large or too small for it): stored as float32 from here on.", name
            )
            self._send(buffer)
            buffer.dtype = np.dtype(np.float32)
            stored = features
        buffer.add(digest, np.broadcast_to(np.asarray(view, np.uint16), len(digest)), path, stored)
        self.bytes[name] += stored.nbytes
        if buffer.bytes >= PART_BYTES:
            self._send(buffer)
        if time.monotonic() - self._last > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Publish everything that was added."""
        for buffer in self._buffers.values():
            self._send(buffer)
        self._last = time.monotonic()

    def wait(self) -> None:
        """Publish everything and return when it is visible."""
        self.flush()
        self._queue.join()
        self._raise_failure()

    def _send(self, buffer: _Buffer) -> None:
        if buffer.batches:
            self._queue.put((buffer.table, buffer.drain()))

    def _publish_all(self) -> None:
        while (item := self._queue.get()) is not None:
            table, rows = item
            start = time.perf_counter()
            try:
                if self._failure is None:  # after a failure only drain the queue, so that no one blocks on it
                    write_part(table.directory, rows, table.attributes, self._compression)
            except Exception as error:  # whatever it is, it is raised where the features are computed
                self._failure = error
            finally:
                self.seconds += time.perf_counter() - start
                self._queue.task_done()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _to_storage(features: np.ndarray, dtype: np.dtype[Any]) -> tuple[np.ndarray, bool]:
    """Features in the storage type, and whether no row and next to no value was lost to overflow or underflow."""
    if dtype != np.float16:
        return np.ascontiguousarray(features, dtype), True
    with np.errstate(over="ignore", under="ignore"):
        stored = np.ascontiguousarray(features, np.float16)
    flat = np.abs(features.reshape(len(features), -1))
    largest = flat.max(axis=1, initial=0.0)
    if not np.isfinite(largest).all():  # NaN and infinity are the network's own and pass as they are
        flat = np.where(np.isfinite(flat), flat, 0.0)
        largest = flat.max(axis=1, initial=0.0)
    if bool(((largest > np.finfo(np.float16).max) | ((largest > 0) & (largest < _FLOAT16_SMALLEST))).any()):
        return stored, False
    small = np.flatnonzero((flat > 0) & (flat < _FLOAT16_SMALLEST))  # all others are within 1 part in 2,048
    if len(small) <= _MOST_LOST * np.count_nonzero(flat):
        return stored, True
    exact = flat.ravel()[small]
    lost = np.abs(np.abs(stored.ravel()[small].astype(np.float32)) - exact) > 2.0**-10 * exact
    return stored, bool(lost.sum() <= _MOST_LOST * np.count_nonzero(flat))
