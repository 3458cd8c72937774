"""Feed the workers of a cluster: hand out reservations, take reports, and replace who dies."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.errors import ClusterError, FeatxError
from featx.extraction.extraction import Extraction
from featx.extraction.job import Job
from featx.extraction.planning import Plan
from featx.extraction.ray.placement import Placement, reservation_size
from featx.extraction.ray.session import Cluster, WorkerDied, last_line
from featx.extraction.ray.worker import Assignment, Report, Reservation, Worker
from featx.extraction.reservations import Reservations
from featx.extraction.work import note_bad
from featx.io.progress import Progress
from featx.store.leases import Leases
from featx.store.table import identities

_IN_FLIGHT = 2  # reservations of a worker: one that it computes, one that waits, so that it never does
_LOOK = 1.0  # seconds between looks at what other processes have finished, while no report comes
_WIND_UP = 30.0  # seconds that workers get to write what they have when a run ends early
_DEATHS = 3  # of workers over the same images, or of one worker before its first report: then it is no accident
_PENDING = 60.0  # seconds after which a cluster without a free core is mentioned
_SHOWN = 4  # workers that have a count of their own in the progress
_VISIBLE = 120.0  # seconds after which a file server's cache of folders has to show what workers have written

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Seat:
    """A worker's place and the worker that has it now.

    flying : what it has been sent and not answered yet; deaths : on this place since the last report
    rate : images per second in its last report
    """

    placement: Placement
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
        return f"{self.placement.host}:{self.process}"


@dataclass(frozen=True)
class _Errand:
    """What a worker was asked for: to start (rows is None), or to compute these rows."""

    seat: _Seat
    rows: np.ndarray | None


class Coordinator:
    """One run on a cluster.

    At most two reservations are with a worker, so that memory stays flat and a death costs little. The leases name all
    that is handed out, and show signs of life as long as reports come in.
    """

    def __init__(
        self,
        cluster: Cluster,
        crew: Sequence[tuple[Placement, str]],
        assignment: Assignment,
        todo: Plan,
        job: Job,
        bad: dict[int, str],
        done: Extraction,
        leases: Leases,
        progress: Progress,
    ) -> None:
        self._cluster, self._assignment, self._todo, self._job = cluster, assignment, todo, job
        self._bad, self._done, self._leases, self._progress = bad, done, leases, progress
        self._seats = [_Seat(placement, engine) for placement, engine in crew]
        self._everyone = list(self._seats)
        self._tables = {output.name: job.store.table(output.layer, output.pooling) for output in todo.outputs}
        self._queue = Reservations(todo.rows, done, self._tables, leases)
        self._stock = np.empty(0, np.int64)  # reserved, and not handed out
        self._flying: dict[Any, _Errand] = {}  # by Ray's reference to the answer; of one worker in order
        self._deaths: Counter[int] = Counter()  # of workers, by the rows that they computed just then
        self._row_bytes = 0.0
        self._said: set[str] = set()

    def run(self) -> None:
        """Have all rows computed, by these workers or by others. What was finished is kept, however it ends.

        Raises
        ------
        ClusterError
            No worker is left, workers die over the same images, or one fails for a reason that others would share.
        FeatxError
            What a worker raised, with the name of its machine.
        """
        self._patience = time.monotonic() + _PENDING
        try:
            for seat in self._seats:
                self._start(seat)
            while self._remaining or self._computing:
                self._hand_out()
                self._wait()
                self._tell()
            self._dismiss_late()
        except BaseException:  # Ctrl-C too: what was computed is written down before it ends
            self._wind_up()
            raise
        finally:
            self._done.workers = [_as_json(seat) for seat in self._everyone if seat.process]
        self._await_parts()
        self._progress("extract", len(self._todo.rows), len(self._todo.rows))

    # --- handing out ---------------------------------------------------------------------------------------------

    @property
    def _remaining(self) -> int:
        return self._queue.remaining + len(self._stock)

    @property
    def _computing(self) -> bool:
        """Whether any worker has images that it has not reported on."""
        return any(errand.rows is not None for errand in self._flying.values())

    def _start(self, seat: _Seat) -> None:
        arguments = self._assignment, seat.placement, seat.engine
        seat.worker = self._cluster.hire(Worker, seat.placement, *arguments)
        seat.ready = False
        self._send(seat, None, "start")

    def _send(self, seat: _Seat, rows: np.ndarray | None, method: str, *arguments: Any) -> None:
        answer = self._cluster.call(seat.worker, method, *arguments)
        self._flying[answer] = _Errand(seat, rows)
        seat.flying += 1

    def _hand_out(self) -> None:
        """Give every worker its first reservation before any gets its second."""
        for flying in range(_IN_FLIGHT):
            for seat in self._seats:
                if seat.ready and seat.flying == flying:
                    rows = self._take(self._size(seat))
                    if not len(rows):
                        return
                    self._send(seat, rows, "compute", self._reservation(rows))

    def _size(self, seat: _Seat) -> int:
        known = [one.rate for one in self._seats if one.rate is not None]
        all_rates = sum(known) / len(known) * len(self._seats) if known else 0.0
        return reservation_size(self._remaining, seat.rate, all_rates, self._row_bytes)

    def _take(self, count: int) -> np.ndarray:
        """The next rows for a worker. They are leased for all workers at once: a lease writes all out that is held."""
        if len(self._stock) < count:
            more = self._queue.reserve(count * len(self._seats) - len(self._stock))
            self._stock = np.concatenate([self._stock, more])
        taken, self._stock = self._stock[:count], self._stock[count:]
        return taken

    def _reservation(self, rows: np.ndarray) -> Reservation:
        digests, views = self._done.digests[rows], self._done.view(rows)
        names = identities(digests, views)
        present = {name: names[~table.missing(digests, views)] for name, table in self._tables.items()}
        return Reservation(tuple(self._done.images.paths[row] for row in rows), digests, views, present)

    # --- taking reports ------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until a report comes, or what others work on is to be looked at again."""
        if not self._computing and not len(self._stock):  # others work on all that is left: lest they wait for ours
            self._queue.release()
        if not self._flying:
            time.sleep(_LOOK)
            self._queue.look_again()
            return
        answers = self._cluster.wait(list(self._flying), 1, _LOOK)
        for answer in answers:
            self._settle(answer)
        if not answers:
            self._queue.look_again()
            self._mention_pending()

    def _settle(self, answer: Any) -> None:
        if answer not in self._flying:  # its worker was buried meanwhile
            return
        seat = self._flying[answer].seat
        try:
            found = self._cluster.result(answer)
        except WorkerDied as error:
            self._bury(seat, str(error))
            return
        except Exception as error:  # whatever the worker raised, on another machine
            raise _explain(error, seat) from error
        errand = self._flying.pop(answer)
        seat.flying -= 1
        if errand.rows is None:
            seat.process, seat.ready = found[1], True
            _logger.info("worker %s is ready: %s, threads: %d", seat.name, seat.engine, seat.placement.threads)
        else:
            self._note(seat, errand.rows, found)

    def _note(self, seat: _Seat, rows: np.ndarray, report: Report) -> None:
        """Count what a worker has done."""
        self._leases.give_sign()
        self._queue.finish(rows)
        self._done.computed += report.computed
        faults = [(int(rows[position]), reason) for position, reason in report.bad]
        passing = frozenset(int(rows[position]) for position in report.passing)
        note_bad(faults, passing, self._job, self._bad, self._done)
        for stage, seconds in report.stages.items():
            self._done.stages[stage] += seconds / len(self._everyone)
        seat.images += report.computed
        seat.seconds += report.seconds
        seat.deaths = 0
        if report.computed:
            seat.rate = report.computed / report.seconds
            self._row_bytes = max(self._row_bytes, report.row_bytes)
        for line in report.warnings:
            if line not in self._said:
                self._said.add(line)
                _logger.warning("%s", line)
        _logger.info("worker %s: %d images in %.1f s", seat.name, report.computed, report.seconds)

    def _tell(self) -> None:
        others, bad = self._queue.done_by_others, len(self._bad)
        reused = self._todo.unique - len(self._todo.rows) + others
        counts = {seat.name: seat.images for seat in self._seats if seat.ready} if len(self._seats) <= _SHOWN else {}
        finished = self._done.computed + others
        workers = sum(seat.ready for seat in self._seats)
        self._progress("extract", finished, len(self._todo.rows), workers=workers, reused=reused, bad=bad, **counts)

    def _mention_pending(self) -> None:
        if time.monotonic() < self._patience:
            return
        self._patience = float("inf")
        waiting = sum(not seat.ready for seat in self._seats)
        if waiting:
            _logger.warning("%d of %d workers have not started: the cluster may be busy.", waiting, len(self._seats))

    # --- deaths --------------------------------------------------------------------------------------------------

    def _bury(self, seat: _Seat, reason: str) -> None:
        """Open what a dead worker had again, and put another in its place while its machine lives.

        Raises
        ------
        ClusterError
            Workers die over the same images, or no worker is left.
        """
        lost = [errand.rows for errand in self._flying.values() if errand.seat is seat and errand.rows is not None]
        self._flying = {answer: errand for answer, errand in self._flying.items() if errand.seat is not seat}
        self._cluster.dismiss(seat.worker)  # it may only be out of reach
        for rows in lost:
            self._queue.give_back(rows)
        seat.ready, seat.flying, seat.rate = False, 0, None
        seat.deaths += 1
        if lost:
            text = "A worker on %s has died (%s). Its %d images are computed again."
            _logger.warning(text, seat.placement.host, reason, sum(map(len, lost)))
            self._suspect(lost[0], reason)
        alive = any(machine.node == seat.placement.node for machine in self._cluster.machines())
        if alive and seat.deaths < _DEATHS:
            self._start(seat)
        else:
            self._seats.remove(seat)
        if not self._seats:
            raise ClusterError(
                f"No worker is left; the last one died on {seat.placement.host} ({reason}). What was finished is kept: "
                "run the same command again to go on."
            )

    def _suspect(self, rows: np.ndarray, reason: str) -> None:
        """Remember the images that a worker computed when it died."""
        self._deaths.update(rows.tolist())
        often = [row for row in rows.tolist() if self._deaths[row] >= _DEATHS]
        if often:
            paths = self._done.images.paths
            raise ClusterError(
                f"{_DEATHS} workers have died over the same {len(often)} images, between {paths[often[0]]} and "
                f"{paths[often[-1]]} ({reason}). Give workers more memory (fewer of them: --cluster-workers), or leave "
                "these images out. What was finished is kept."
            )

    # --- ending early --------------------------------------------------------------------------------------------

    def _wind_up(self) -> None:
        """Have the workers write what they have computed, and count it."""
        computing = {answer: errand for answer, errand in self._flying.items() if errand.rows is not None}
        if not computing:
            return
        with suppress(Exception):  # the cluster itself may be what has failed
            for seat in {errand.seat for errand in computing.values()}:
                self._cluster.interrupt(seat.worker, "stop")
            for answer in self._cluster.wait(list(computing), len(computing), _WIND_UP):
                with suppress(Exception):
                    seat, rows = computing[answer].seat, computing[answer].rows
                    self._note(seat, np.asarray(rows), self._cluster.result(answer))

    # --- the end -------------------------------------------------------------------------------------------------

    def _dismiss_late(self) -> None:
        """Let workers go that have not started when all is done: their cores may be taken for hours."""
        for errand in self._flying.values():
            self._cluster.dismiss(errand.seat.worker)
        self._flying = {}

    def _await_parts(self) -> None:
        """Until all that was reported is to be seen from here, too.

        Raises
        ------
        ClusterError
            It is not, after a time in which every file server should have told of it.
        """
        rows = np.setdiff1d(self._todo.rows, np.fromiter(self._bad, np.int64, len(self._bad)))
        give_up = time.monotonic() + _VISIBLE
        while lacking := self._count_lacking(rows):
            if time.monotonic() > give_up:
                raise ClusterError(
                    f"{lacking} of {len(rows)} images were computed, and their features are not to be seen in "
                    f"{self._job.store.directory}. Run the same command again; it computes what is missing."
                )
            time.sleep(_LOOK)

    def _count_lacking(self, rows: np.ndarray) -> int:
        digests, views = self._done.digests[rows], self._done.view(rows)
        for table in self._tables.values():
            table.refresh()
        return int(np.logical_or.reduce([table.missing(digests, views) for table in self._tables.values()]).sum())


def _explain(cause: Exception, seat: _Seat) -> FeatxError:
    """What a worker raised as an error of featx that names its machine."""
    if isinstance(cause, FeatxError):
        return type(cause)(f"On {seat.placement.host}: {cause}")
    return ClusterError(
        f"A worker on {seat.placement.host} failed: {type(cause).__name__}: {last_line(cause)}. What was finished is "
        "kept: run the same command again to go on."
    )


def _as_json(seat: _Seat) -> dict[str, Any]:
    return {
        "host": seat.placement.host,
        "pid": seat.process,
        "images": seat.images,
        "seconds": round(seat.seconds, 3),
    }
