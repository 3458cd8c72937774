"""The workers of a cluster run: their machines, the work each has, and replacements for dead ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.errors import ClusterError
from featx.extraction.computed import WorkerShare
from featx.extraction.ray.placement import WorkerPlacement
from featx.extraction.ray.session import Cluster
from featx.extraction.ray.worker import Assignment, Report, Reservation, Worker

DEATHS = 3  # of workers over the same images, or of one worker before its first report: then it is no accident


@dataclass(eq=False)
class Seat:
    """A worker's place and the worker that has it now.

    flying : what it has been sent and not answered yet; deaths : on this place since the last report
    rate : images per second in its last report
    """

    placement: WorkerPlacement
    engine: str
    worker: Any = None
    process: int = 0
    ready: bool = False
    flying: int = 0
    deaths: int = 0
    rate: float | None = None
    images: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Machine and process."""
        return f"{self.placement.host}:{self.process}"

    def count(self, report: Report) -> None:
        """Add what its worker has done."""
        self.images += report.computed
        self.seconds += report.seconds
        self.deaths = 0
        if report.computed:
            self.rate = report.computed / report.seconds

    @property
    def share(self) -> WorkerShare:
        """What was done on this place."""
        return WorkerShare(self.placement.host, self.process, self.images, self.seconds)


@dataclass(frozen=True)
class Errand:
    """What a worker was asked for: to start (rows is None), or to compute these rows."""

    seat: Seat
    rows: np.ndarray | None


class Crew:
    """The workers of a run.

    Attributes
    ----------
    seats : the places that have a worker; everyone : and those that have lost it for good
    """

    def __init__(self, cluster: Cluster, places: Sequence[tuple[WorkerPlacement, str]], assignment: Assignment) -> None:
        self._cluster, self._assignment = cluster, assignment
        self.everyone = [Seat(placement, engine) for placement, engine in places]
        self.seats = list(self.everyone)
        self._flying: dict[Any, Errand] = {}  # by Ray's reference to the answer; of one worker in order

    @property
    def computing(self) -> bool:
        """Whether any worker has images that it has not reported on."""
        return any(errand.rows is not None for errand in self._flying.values())

    @property
    def asked(self) -> bool:
        """Whether any worker owes an answer."""
        return bool(self._flying)

    @property
    def ready(self) -> int:
        """How many workers have started."""
        return sum(seat.ready for seat in self.seats)

    @property
    def shares(self) -> tuple[WorkerShare, ...]:
        """What each worker did that has started."""
        return tuple(seat.share for seat in self.everyone if seat.process)

    def start(self) -> None:
        """Start a worker on every place."""
        for seat in self.seats:
            self._start(seat)

    def _start(self, seat: Seat) -> None:
        seat.worker = self._cluster.hire(Worker, seat.placement, self._assignment, seat.placement, seat.engine)
        seat.ready = False
        self._send(seat, None, "start")

    def send(self, seat: Seat, rows: np.ndarray, reservation: Reservation) -> None:
        """Have a worker compute some rows, after what it has been sent before."""
        self._send(seat, rows, "compute", reservation)

    def _send(self, seat: Seat, rows: np.ndarray | None, method: str, *arguments: Any) -> None:
        self._flying[self._cluster.call(seat.worker, method, *arguments)] = Errand(seat, rows)
        seat.flying += 1

    def wait(self, seconds: float) -> list[Any]:
        """The next answers that are there, or none after some seconds."""
        return self._cluster.wait(list(self._flying), 1, seconds)

    def errand(self, answer: Any) -> Errand | None:
        """What an answer is to; None where its worker was buried meanwhile."""
        return self._flying.get(answer)

    def take(self, answer: Any) -> Any:
        """The answer itself.

        Raises
        ------
        WorkerDied
            Before it answered.
        Exception
            Whatever the worker raised.
        """
        found = self._cluster.result(answer)
        self._flying.pop(answer).seat.flying -= 1
        return found

    def bury(self, seat: Seat) -> list[np.ndarray]:
        """Forget a dead worker; returns the rows that it had been sent."""
        lost = [errand.rows for errand in self._flying.values() if errand.seat is seat and errand.rows is not None]
        self._flying = {answer: errand for answer, errand in self._flying.items() if errand.seat is not seat}
        self._cluster.dismiss(seat.worker)  # it may only be out of reach
        seat.ready, seat.flying, seat.rate = False, 0, None
        seat.deaths += 1
        return lost

    def replace(self, seat: Seat, reason: str) -> None:
        """Put another in the place of a dead worker while its machine lives, and not time after time.

        Raises
        ------
        ClusterError
            No worker is left.
        """
        alive = any(machine.node == seat.placement.node for machine in self._cluster.machines())
        if alive and seat.deaths < DEATHS:
            self._start(seat)
        else:
            self.seats.remove(seat)
        if not self.seats:
            raise ClusterError(
                f"No worker is left; the last one died on {seat.placement.host} ({reason}). What was finished is kept: "
                "run the same command again to go on."
            )

    def stop(self, seconds: float) -> list[tuple[Errand, Report]]:
        """Have all workers write what they have computed, and report within some seconds."""
        computing = {answer: errand for answer, errand in self._flying.items() if errand.rows is not None}
        reports: list[tuple[Errand, Report]] = []
        with suppress(Exception):  # the cluster itself may be what has failed
            for seat in {errand.seat for errand in computing.values()}:
                self._cluster.interrupt(seat.worker, "stop")
            for answer in self._cluster.wait(list(computing), len(computing), seconds) if computing else []:
                with suppress(Exception):
                    reports.append((computing[answer], self._cluster.result(answer)))
        return reports

    def dismiss_late(self) -> None:
        """Let workers go that have not started when all is done: their cores may be taken for hours."""
        for errand in self._flying.values():
            self._cluster.dismiss(errand.seat.worker)
        self._flying = {}
