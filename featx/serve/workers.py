"""One bundle served by one or several processes that share only a socket, and their supervisor.

Each worker has its own copy of the bundle, its network and its limits. Whichever is free first takes a connection from
the socket; where the system lets a process choose its cores, every worker has its share of them.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from featx.errors import FeatxError
from featx.io.modules import named_modules
from featx.serve.limits import Limits
from featx.serve.server import GRACE, make_server, run
from featx.serve.service import Service, Terms

_logger = logging.getLogger("featx.serve")
_SOON = 30.0  # seconds after its start in which the end of a worker counts as a failure to start
_FAILURES = 3  # of workers, one after the other, after which none would serve
_ENDING = GRACE + 3.0  # seconds for a worker to end by itself


@dataclass(frozen=True)
class Offer:
    """What is served, and how: all that a worker has to know.

    path, name : of the bundle, and what people call it
    key, host, access_log : as in `make_server`
    modules : that may be imported for it; prepare : called first in every worker
    cores : that a worker may use; none: all
    """

    path: Path
    name: str
    terms: Terms
    limits: Limits
    key: str | None
    host: str
    access_log: bool
    modules: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None
    cores: frozenset[int] = frozenset()


def serve_alone(offer: Offer, listener: socket.socket, ready: Callable[[], None], few: bool = False) -> None:
    """Serve from this process until it is ended.

    ready : called before the first request; few : whether others wait at the socket, too
    """
    from featx.bundle.bundle import load_bundle

    service = Service(load_bundle(offer.path), offer.name, offer.terms, offer.limits)
    service.start()
    server = make_server(service, listener, offer.key, offer.host, offer.access_log)
    if few:
        server.config.backlog = 1  # connections taken at once: the rest is for the others
    ready()
    run(server, listener)
    service.close()


@dataclass(frozen=True, eq=False)
class _ServingProcess:
    """A process, when it was started, and by what it reports that it is ready, or why it is not."""

    process: SpawnProcess
    started: float
    report: Connection


class Workers:
    """Worker processes: started together, replaced when one dies, ended together."""

    def __init__(self, offer: Offer, listener: socket.socket, count: int) -> None:
        self._offer, self._listener = offer, listener
        self._shares = _shares(count)
        self._workers: list[_ServingProcess] = []
        self._failures = 0

    def serve(self, ready: Callable[[], None]) -> None:
        """Serve until Ctrl-C or SIGTERM, which end every worker.

        ready : called when all of them are

        Raises
        ------
        FeatxError
            A worker cannot start, or workers end one after the other as soon as they have started.
        """
        try:
            self._workers = [self._start(share) for share in self._shares]
            for worker in self._workers:
                _await(worker)
            ready()
            while True:
                self._replace()
        except KeyboardInterrupt:  # the workers had it, too, where it came from a terminal
            pass
        finally:
            self._end()

    def _start(self, share: frozenset[int]) -> _ServingProcess:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        offer = replace(self._offer, cores=share)
        process = context.Process(target=_work, args=(offer, self._listener, sender), name="featx-serve")
        process.start()
        sender.close()
        return _ServingProcess(process, time.monotonic(), receiver)

    def _replace(self) -> None:
        """Wait until a worker ends, and put another in its place."""
        ended = wait([worker.process.sentinel for worker in self._workers])
        for place, worker in enumerate(self._workers):
            if worker.process.sentinel not in ended:
                continue
            worker.process.join()
            if reason := _failure_of(worker):
                raise FeatxError(reason)
            self._failures = self._failures + 1 if time.monotonic() - worker.started < _SOON else 1
            how = _describe_end(worker.process.exitcode)
            if self._failures >= _FAILURES:
                raise FeatxError(
                    f"{_FAILURES} workers have ended soon after their start, the last one {how}. Serve from one "
                    "process to see why: leave --workers out."
                )
            _logger.warning("A worker ended %s: another takes its place.", how)
            worker.report.close()
            self._workers[place] = self._start(self._shares[place])

    def _end(self) -> None:
        """End all workers: those that do not end by themselves are killed."""
        running = [worker.process for worker in self._workers if worker.process.is_alive()]
        for process in running:
            process.terminate()
        until = time.monotonic() + _ENDING
        try:
            for process in running:
                process.join(max(0.0, until - time.monotonic()))
        except KeyboardInterrupt:  # once more: at once
            pass
        for process in running:
            if process.is_alive():
                process.kill()
                process.join()


def _shares(count: int) -> list[frozenset[int]]:
    """Which cores each of the workers may use; of more workers than cores some have the same."""
    if not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * count
    cores = sorted(os.sched_getaffinity(0))
    return [frozenset(cores[place::count] or [cores[place % len(cores)]]) for place in range(count)]


def _await(worker: _ServingProcess) -> None:
    """Return when a worker is ready; raise what keeps it from that."""
    wait([worker.report, worker.process.sentinel])
    try:
        reason = worker.report.recv()
    except EOFError:
        worker.process.join()
        reason = f"A worker ended {_describe_end(worker.process.exitcode)} before it was ready."
    if reason:
        raise FeatxError(reason)


def _failure_of(worker: _ServingProcess) -> str:
    """Why a worker that has ended could not start; empty where it could."""
    reason = ""
    try:
        while worker.report.poll():
            reason = worker.report.recv()
    except EOFError:  # it has nothing more to report
        pass
    return reason


def _describe_end(status: int | None) -> str:
    if status is not None and status < 0:
        names = {one.value: one.name for one in signal.Signals}
        return f"by signal {names.get(-status, -status)}"
    return f"with status {status}"


def _work(offer: Offer, listener: socket.socket, report: Connection) -> None:
    """What a worker does."""
    try:
        threading.Thread(target=_end_with_parent, name="featx-parent", daemon=True).start()
        if offer.cores:
            os.sched_setaffinity(0, offer.cores)
        if offer.prepare is not None:
            offer.prepare()
        named_modules().allow(offer.modules)
        serve_alone(offer, listener, lambda: report.send(""), few=True)
    except FeatxError as error:
        report.send(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        pass


def _end_with_parent() -> None:
    """End this process when the one that started it was killed: nobody else could end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
