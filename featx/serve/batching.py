"""Micro-batching: concurrent requests pass the network together.

Two stages, so that images are decoded while a batch is computed: a pool of threads makes items of what comes in, one
thread works on as many items as are there. An item that stands alone is not kept waiting; while others are being made
ready, a batch that is not full waits for them, no longer than the last batch took.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")
Result = TypeVar("Result")

_LONGEST_WAIT = 0.1  # seconds for a batch to fill
_LONGEST_END = 2.0  # seconds for the batch that is being worked on when all ends


@dataclass(frozen=True)
class _Job(Generic[Item, Result]):
    item: Item
    answer: Future[Result]


class Batcher(Generic[Source, Item, Result]):
    """Answers single questions in batches.

    prepare : makes an item of a source; runs in several threads
    work : gives a result for each of up to `size` items; runs in one thread, always the same
    threads : that prepare
    heavy : whether a source takes so much that it is prepared one at a time, beside the others, and in nobody's way
    """

    def __init__(
        self,
        prepare: Callable[[Source], Item],
        work: Callable[[Sequence[Item]], Sequence[Result]],
        size: int,
        threads: int,
        heavy: Callable[[Source], bool] | None = None,
    ) -> None:
        self._prepare, self._work, self._size, self._heavy = prepare, work, size, heavy
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="featx-prepare")
        self._slow_pool = ThreadPoolExecutor(1, thread_name_prefix="featx-prepare-large")
        # a daemon, so that a map that takes a minute does not keep a server from ending
        self._thread = threading.Thread(target=self._run, name="featx-batches", daemon=True)
        self._changed = threading.Condition()
        self._waiting: deque[_Job[Item, Result]] = deque()
        self._coming = 0  # sources that are being prepared
        self._closed = False
        self._pace = 0.0  # seconds that the last batch took

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """End; what has not been begun is cancelled."""
        with self._changed:
            self._closed = True
            for job in self._waiting:
                job.answer.cancel()
            self._waiting.clear()
            self._changed.notify_all()
        for pool in (self._pool, self._slow_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(_LONGEST_END)

    def submit(self, source: Source) -> Future[Result]:
        """Ask; the future fails with what `prepare` or `work` raises on this source alone.

        A future that is cancelled in time costs nothing.
        """
        answer: Future[Result] = Future()
        with self._changed:
            self._coming += 1
        self._pool.submit(self._bring, source, answer)
        return answer

    def _bring(self, source: Source, answer: Future[Result]) -> None:
        job = None
        try:
            if not answer.cancelled():
                if self._heavy is not None and self._heavy(source):
                    self._slow_pool.submit(self._bring_heavy, source, answer)
                else:
                    job = _Job(self._prepare(source), answer)
        except Exception as error:  # whatever it is, it belongs to who waits for this answer
            _fail(answer, error)
        finally:
            self._add(job, came=1)

    def _bring_heavy(self, source: Source, answer: Future[Result]) -> None:
        """As `_bring`; no batch waits for it."""
        try:
            if not answer.cancelled():
                self._add(_Job(self._prepare(source), answer))
        except Exception as error:  # likewise
            _fail(answer, error)

    def _add(self, job: _Job[Item, Result] | None, came: int = 0) -> None:
        with self._changed:
            self._coming -= came
            if job is not None:
                self._waiting.append(job)
            self._changed.notify_all()

    def _run(self) -> None:
        while jobs := self._gather():
            start = time.perf_counter()
            self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])
            self._pace = time.perf_counter() - start

    def _gather(self) -> list[_Job[Item, Result]]:
        """The next batch; empty when it is time to end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            until = time.perf_counter() + min(self._pace, _LONGEST_WAIT)
            while len(self._waiting) < self._size and self._coming and not self._closed:
                left = until - time.perf_counter()
                if left <= 0:
                    break
                self._changed.wait(left)
            return [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]

    def _answer(self, jobs: Sequence[_Job[Item, Result]]) -> None:
        if not jobs:
            return
        try:
            results = self._work([job.item for job in jobs])
        except Exception as error:  # likewise
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            for job in jobs:  # one of them is to blame, and only that one shall fail
                self._answer([job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.answer.set_result(result)


def _fail(answer: Future[Result], error: Exception) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(error)
