"""The features of one layer and pooling: its parts on disk, read as one table and written part by part."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from featx.errors import StoreError
from featx.store.part import SUFFIX, DamagedPart, Part, Rows, open_part, path_array, write_part

PART_BYTES = 64_000_000
PART_SECONDS = 30.0
# Below this the largest value of a row is subnormal in float16 and has lost more than 1 part in 1,024.
_FLOAT16_SMALLEST = 2.0**-14
_BLOCK_BYTES = 32_000_000
_OPEN_PARTS = 2  # mapped at once per table: a map is an open file, and what was read of it counts as memory
_AHEAD = 2  # batches read before they are asked for
_LOADED_PARTS = 4  # compressed parts are held in memory instead
_CACHED = 65_536  # numbers that stay in the processor's cache between two steps
_EXPONENT = np.int16(0x7C00)  # of a float16; all of it set: infinity or NaN
_SIGN_AND_NUMBER = np.int32(-0x70002000)  # of a float16 carried to 32 bits and moved by 13
_SHIFT = np.float32(2.0**112)
_logger = logging.getLogger(__name__)


def identities(digest: np.ndarray, view: np.ndarray | int = 0) -> np.ndarray:
    """Digest and view as one comparable value, 'S34' (n,). Equal length makes comparison of 'S' exact."""
    joined = np.zeros((len(digest), 34), np.uint8)
    joined[:, :32] = np.ascontiguousarray(digest.astype("S32")).view(np.uint8).reshape(-1, 32)
    joined[:, 32:] = np.broadcast_to(np.asarray(view, ">u2"), len(digest)).copy().view(np.uint8).reshape(-1, 2)
    return joined.view("S34").ravel()


@dataclass
class _Lookup:
    """Sorted identities and the (part, row) of each; where an identity comes twice, the first."""

    names: np.ndarray
    part: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[tuple[int, Part]]) -> _Lookup:
        if not parts:
            return cls(np.empty(0, "S34"), np.empty(0, np.int64), np.empty(0, np.int64))
        names = np.concatenate([identities(part.digest, part.view) for _, part in parts])
        unique, first = np.unique(names, return_index=True)
        number = np.concatenate([np.full(len(part), n, np.int64) for n, part in parts])
        row = np.concatenate([np.arange(len(part)) for _, part in parts])
        return cls(unique, number[first], row[first])

    def find(self, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(part, row) of each name, both int64 (n,), -1 where it is absent."""
        if not len(self.names):
            return np.full(len(names), -1), np.full(len(names), -1)
        at = np.minimum(np.searchsorted(self.names, names), len(self.names) - 1)
        here = self.names[at] == names
        return np.where(here, self.part[at], -1), np.where(here, self.row[at], -1)


@dataclass(eq=False)
class TableFolder:
    """Where the parts of one layer and pooling lie, and what every one of them says of itself. Enough to write one."""

    directory: Path
    attributes: dict[str, str]


class FeatureTable(TableFolder):
    """All rows of one layer and pooling. The listing of the parts is the truth; there is no other index.

    Attributes
    ----------
    parts : the readable parts, oldest first; damaged : path -> reason of those that are not
    """

    def __init__(self, directory: Path, attributes: dict[str, str]) -> None:
        super().__init__(directory, attributes)
        self.parts: list[Part] = []
        self.damaged: dict[Path, str] = {}
        self._seen: set[str] = set()
        self._lookups: list[_Lookup] = []
        parts = self.parts  # not self: no cycle may keep files open
        self._mapped = lru_cache(_OPEN_PARTS)(lambda number: _map(parts[number]))
        self._loaded = lru_cache(_LOADED_PARTS)(lambda number: _map(parts[number]))
        self.refresh()

    def refresh(self) -> None:
        """Take notice of parts that have appeared since the last look."""
        if not self.directory.is_dir():
            return
        names = sorted(path.name for path in self.directory.iterdir() if path.suffix == SUFFIX and path.name[0] != ".")
        fresh: list[tuple[int, Part]] = []
        for name in names:
            if name in self._seen:
                continue
            self._seen.add(name)
            try:
                part = open_part(self.directory / name, self.attributes)
            except FileNotFoundError:  # pruned between listing and opening
                continue
            except DamagedPart as error:
                self.damaged[self.directory / name] = str(error)
                _logger.warning("Left aside: %s Its rows will be computed again.", error)
                continue
            fresh.append((len(self.parts), part))
            self.parts.append(part)
        if fresh:
            self._lookups.append(_Lookup.of(fresh))

    def find(self, digest: np.ndarray, view: np.ndarray | int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(part, row) of each digest 'S32', both int64 (n,), -1 where it has no row."""
        names = identities(digest, view)
        part, row = np.full(len(names), -1), np.full(len(names), -1)
        for lookup in self._lookups:
            absent = np.flatnonzero(part < 0)
            if not len(absent):
                break
            part[absent], row[absent] = lookup.find(names[absent])
        return part, row

    def missing(self, digest: np.ndarray, view: np.ndarray | int = 0) -> np.ndarray:
        """Mask (n,) of the digests that have no row."""
        return np.asarray(self.find(digest, view)[0] < 0)

    def read(self, digest: np.ndarray, view: np.ndarray | int = 0) -> StoredFeatures:
        """The features of these digests, in this order, without reading them yet.

        Raises
        ------
        StoreError
            When one of them has no row.
        """
        part, row = self.find(digest, view)
        if (part < 0).any():
            raise StoreError(
                f"{int((part < 0).sum())} of {len(digest)} images have no features in {self.directory}. "
                "Run featx extract with the same options first."
            )
        return StoredFeatures(self.parts, part, row, self._numbers)

    def _numbers(self, number: int) -> np.ndarray:
        compressed = self.parts[number].offset is None
        return self._loaded(number) if compressed else self._mapped(number)

    @property
    def rows(self) -> int:
        """Rows in readable parts, doubles included."""
        return sum(len(part) for part in self.parts)

    @property
    def bytes_on_disk(self) -> int:
        """Size of all readable parts."""
        return sum(part.path.stat().st_size for part in self.parts if part.path.exists())


class StoredFeatures:
    """Features in the store, in the order they were asked for; numbers are read only when they are needed.

    shape : (n, ...); dtype : float16, or float32 where any part holds that
    """

    def __init__(
        self, parts: Sequence[Part], part: np.ndarray, row: np.ndarray, numbers: Callable[[int], np.ndarray]
    ) -> None:
        self._parts, self._part, self._row, self._numbers = parts, part, row, numbers
        used = [parts[i] for i in np.unique(part)]
        shapes = {p.row_shape for p in used}
        if len(shapes) > 1:
            raise StoreError(f"Parts of one layer disagree on its shape: {sorted(shapes)}. Type: featx cache verify")
        self.shape = (len(row), *(shapes.pop() if shapes else (0,)))
        self.dtype: np.dtype[Any] = np.result_type(*[p.dtype for p in used]) if used else np.dtype(np.float32)
        self._width = int(np.prod(self.shape[1:]))

    def __len__(self) -> int:
        return len(self._row)

    def take(self, rows: np.ndarray) -> StoredFeatures:
        """Some of the rows, by position or mask."""
        return StoredFeatures(self._parts, self._part[rows], self._row[rows], self._numbers)

    def followed_by(self, other: StoredFeatures) -> StoredFeatures:
        """These rows, and below them those of `other`, which may lie in another table."""
        first = len(self._parts)
        parts = (*self._parts, *other._parts)
        part = np.concatenate([self._part, other._part + first])

        def numbers(number: int) -> np.ndarray:
            return self._numbers(number) if number < first else other._numbers(number - first)

        return StoredFeatures(parts, part, np.concatenate([self._row, other._row]), numbers)

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        """Consecutive float32 arrays (at most `rows`, d), maps flattened; 0: about 32 MB each."""
        step = rows or max(1, _BLOCK_BYTES // (4 * max(1, self._width)))
        for start in range(0, len(self), step):
            yield self._gather(slice(start, start + step))

    def asarray(self) -> np.ndarray:
        """Everything, float32 (n, d) in C order, maps flattened."""
        out = np.empty((len(self), self._width), np.float32)
        start = 0
        for block in self.blocks():
            out[start : start + len(block)] = block
            start += len(block)
        return out

    def batches(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the rows of each batch of positions, in its order: (n, ...) in their own shape, `dtype` as stored.

        A thread reads the next batches while one is used. Rows far apart are read as cheaply as neighbours where parts
        are mapped; of compressed ones whole parts are read for it.
        """
        pool, reading = ThreadPoolExecutor(1, thread_name_prefix="featx-read"), deque[Future[np.ndarray]]()
        try:
            for rows in batches:
                reading.append(pool.submit(self._gather, rows, self.dtype))
                if len(reading) > _AHEAD:
                    yield self._in_shape(reading.popleft().result())
            while reading:
                yield self._in_shape(reading.popleft().result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _in_shape(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(len(flat), *self.shape[1:])

    def _gather(self, some: slice | np.ndarray, dtype: np.dtype[Any] | type[np.float32] = np.float32) -> np.ndarray:
        part, row = self._part[some], self._row[some]
        out = np.empty((len(row), self._width), dtype)
        for number in np.unique(part):
            here = np.flatnonzero(part == number)
            found = self._numbers(int(number))[row[here]].reshape(len(here), -1)
            if here[-1] - here[0] == len(here) - 1:  # neighbours, as they mostly are
                _convert(found, out[here[0] : here[-1] + 1])
            else:
                out[here] = found
        return out


def _convert(found: np.ndarray, out: np.ndarray) -> None:
    """Like `out[:] = found`, but faster from float16 to float32, which is most of what a pass over stored rows takes.

    The bits of a float16, moved to where a float32 has its own, are the number divided by 2**112; multiplying is exact
    for subnormal numbers, too. Infinity and NaN, which would become finite, are left to NumPy.
    """
    if found.dtype != np.float16 or out.dtype != np.float32:
        out[:] = found
        return
    step = max(1, _CACHED // max(1, found.shape[1]))
    for start in range(0, len(found), step):
        half, whole = found[start : start + step], out[start : start + step]
        bits = half.view(np.int16)
        if np.bitwise_and(bits, _EXPONENT).max(initial=0) == _EXPONENT:
            whole[:] = half
            continue
        moved = whole.view(np.int32)
        moved[:] = bits  # the sign is carried into all bits above
        moved <<= 13
        moved &= _SIGN_AND_NUMBER
        whole *= _SHIFT


def _map(part: Part) -> np.ndarray:
    try:
        return part.map()
    except FileNotFoundError:
        raise StoreError(f"{part.path} was removed while it was read (a prune?). Run the same command again.") from None


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

    def drain(self) -> Rows:
        digests, views, paths, features = zip(*self.batches, strict=True)
        rows = Rows(
            np.concatenate(digests),
            np.concatenate(views),
            path_array(list(chain.from_iterable(paths))),
            np.concatenate(features),
        )
        self.batches, self.bytes = [], 0
        return rows


class TableWriter:
    """Collects rows of several tables and publishes them as parts from a thread, off the path of the computation.

    A part becomes visible after about 64 MB or 30 s of work, whichever comes first: what a kill can cost. Use as a
    context; leaving it, even by an error or Ctrl-C, publishes what was collected.

    Attributes
    ----------
    seconds : spent on encoding, writing and flushing to disk
    bytes : of the features that were added, by table
    """

    def __init__(self, tables: Mapping[str, TableFolder], storage: str, compression: str) -> None:
        self._buffers = {name: _Buffer(table, np.dtype(storage)) for name, table in tables.items()}
        self._compression = compression
        self._queue: queue.Queue[tuple[TableFolder, Rows] | None] = queue.Queue(maxsize=1)
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
        """Add rows of the table `name`: digest 'S32' (n,), paths, features float32 (n, ...), view uint16 (n,)."""
        self._raise_failure()
        buffer = self._buffers[name]
        stored, lossless = _to_storage(features, buffer.dtype)
        if not lossless:
            _logger.warning("%s does not fit float16 (values beyond its range): stored as float32 from here on.", name)
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
    """Features in the storage type, and whether no row was lost to overflow or underflow."""
    if dtype != np.float16:
        return np.ascontiguousarray(features, dtype), True
    with np.errstate(over="ignore", under="ignore"):
        stored = np.ascontiguousarray(features, np.float16)
    flat = np.abs(features.reshape(len(features), -1))
    largest = flat.max(axis=1, initial=0.0)
    if not np.isfinite(largest).all():  # NaN and infinity are the network's own and pass as they are
        largest = np.where(np.isfinite(flat), flat, 0.0).max(axis=1, initial=0.0)
    lost = (largest > np.finfo(np.float16).max) | ((largest > 0) & (largest < _FLOAT16_SMALLEST))
    return stored, not lost.any()
