"""Stored features: rows of parts, memory-mapped and widened block by block."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from featx.errors import StoreError
from featx.store.part import Part

_BLOCK_BYTES = 32_000_000
_AHEAD = 2  # batches read before they are asked for
LOADED_PARTS = 4  # compressed parts are held in memory instead
_CACHED = 65_536  # numbers that stay in the processor's cache between two steps
_EXPONENT = np.int16(0x7C00)  # of a float16; all of it set: infinity or NaN
_SIGN_AND_NUMBER = np.int32(-0x70002000)  # of a float16 carried to 32 bits and moved by 13
_SHIFT = np.float32(2.0**112)


class StoredFeatures:
    """Features in the store, in the order they were asked for; numbers are read only when they are needed.

    shape : (n, ...); dtype : float16, or float32 where any part holds that; outputs : (d,), one output's numbers
    """

    def __init__(
        self, parts: Sequence[Part], part: np.ndarray, row: np.ndarray, read: Callable[[int, np.ndarray], np.ndarray]
    ) -> None:
        """Nothing is read yet. read : the features of some rows (positions) of one of the parts (its number)."""
        self._parts, self._part, self._row, self._read = parts, part, row, read
        used = [parts[i] for i in np.unique(part)]
        shapes = {p.row_shape for p in used}
        if len(shapes) > 1:
            raise StoreError(f"Parts of one layer disagree on its shape: {sorted(shapes)}. Type: featx cache verify")
        self.shape = (len(row), *(shapes.pop() if shapes else (0,)))
        self.dtype: np.dtype[Any] = np.result_type(*[p.dtype for p in used]) if used else np.dtype(np.float32)
        self._width = int(np.prod(self.shape[1:]))
        self.outputs: tuple[int, ...] = (self._width,)

    def __len__(self) -> int:
        return len(self._row)

    def take(self, rows: np.ndarray) -> StoredFeatures:
        """Some of the rows, by position or mask."""
        return StoredFeatures(self._parts, self._part[rows], self._row[rows], self._read)

    def followed_by(self, other: StoredFeatures) -> StoredFeatures:
        """These rows, and below them those of `other`, which may lie in another table."""
        first = len(self._parts)
        parts = (*self._parts, *other._parts)
        part = np.concatenate([self._part, other._part + first])

        def read(number: int, rows: np.ndarray) -> np.ndarray:
            return self._read(number, rows) if number < first else other._read(number - first, rows)

        return StoredFeatures(parts, part, np.concatenate([self._row, other._row]), read)

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
            found = self._read(int(number), row[here]).reshape(len(here), -1)
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
