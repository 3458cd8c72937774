"""A pass over features: every core takes blocks of its own, from the disk to the last product.

The products of a pass have few columns, too few for the threads of a BLAS: these wait for each other after every block,
and where the machine has other work they do so by spinning. So BLAS keeps to one thread meanwhile, and reading and
widening are done by all cores as well. Blocks and the order of their results do not depend on how many cores there are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from featx.features import Features, block_rows, width
from featx.images.batches import usable_cores

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_T = TypeVar("_T")
_MOST_THREADS = 16  # each holds a block, and more do not read memory any faster


def map_blocks(features: Features, work: Callable[[slice, np.ndarray], _T]) -> Iterator[_T]:
    """Yield `work(rows, block)` for all blocks in the order of the rows; block: float32 (rows, d).

    Several are at work at the same time, in threads. A block may be a view of the features: `work` leaves it as it is.
    """
    n, step = features.shape[0], block_rows(width(features))
    blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def one(rows: slice) -> _T:
        found = list(features.take(np.arange(rows.start, rows.stop)).blocks(step))
        block = found[0] if len(found) == 1 else np.concatenate(found)
        return work(rows, block.astype(np.float32, copy=False))

    cores = min(usable_cores(), _MOST_THREADS, len(blocks))
    if cores < 2:
        yield from map(one, blocks)
        return
    waiting: deque[Future[_T]] = deque()
    with single_threaded_blas(), ThreadPoolExecutor(cores, thread_name_prefix="featx-pass") as pool:
        try:
            for rows in blocks:
                waiting.append(pool.submit(one, rows))
                if len(waiting) > cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def for_each_block(features: Features, work: Callable[[slice, np.ndarray], None]) -> None:
    """Do `work(rows, block)` for all blocks, as `map_blocks` does."""
    deque(map_blocks(features, work), maxlen=0)


def left_out_logits(
    features: Features, test_fold: np.ndarray, weights: np.ndarray, intercept: np.ndarray
) -> np.ndarray:
    """Return float32 (n, k): each row's logits by the fit that left it out; NaN where none did.

    weights : float32 (fits, columns, d) ; intercept : float64 (fits, columns)
    """
    columns = weights.shape[1]
    out = np.full((len(test_fold), columns), np.nan, np.float32)

    def fill(rows: slice, block: np.ndarray) -> None:
        mine = test_fold[rows]
        for f in np.unique(mine[mine >= 0]):
            out[rows][mine == f] = block[mine == f] @ weights[f].T + intercept[f].astype(np.float32)

    for_each_block(features, fill)
    return out if columns > 1 else np.hstack([out * 0, out])  # NaN stays NaN


class _Limit:
    """Keeps BLAS to one thread while anybody wants that: the first one sets it, the last one sets it back."""

    def __init__(self) -> None:
        self._alone, self._wanted, self._set = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self._alone:
            if not self._wanted:
                self._set.enter_context(_controller().limit(limits=1, user_api="blas"))
            self._wanted += 1

    def leave(self) -> None:
        with self._alone:
            self._wanted -= 1
            if not self._wanted:
                self._set.close()


_LIMIT = _Limit()


@lru_cache(1)
def _controller() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looks through all libraries that are loaded, which takes milliseconds


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Have matrix products computed by the thread that asks for them."""
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()
