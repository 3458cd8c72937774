"""Feed the workers of a cluster: hand out reservations, take reports, and compute again what was lost."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

import numpy as np

from featx.errors import ClusterError, FeatxError
from featx.extraction.computation import Computation
from featx.extraction.computed import Computed
from featx.extraction.ray.crew import DEATHS, Crew, Seat
from featx.extraction.ray.placement import reservation_size
from featx.extraction.ray.session import WorkerDied, last_line
from featx.extraction.ray.worker import Report, Reservation
from featx.extraction.reservations import Reservations
from featx.extraction.work import Tally, remember_unreadable
from featx.io.counting import agreeing, counted, counted_of
from featx.io.progress import Progress
from featx.store.leases import Leases
from featx.store.table import identities

_IN_FLIGHT = 2  # reservations of a worker: one that it computes, one that waits, so that it never does
_LOOK = 1.0  # seconds between looks at what other processes have finished, while no report comes
_WIND_UP = 30.0  # seconds that workers get to write what they have when a run ends early
_PENDING = 60.0  # seconds after which a cluster without a free core is mentioned
_SHOWN = 4  # workers that have a count of their own in the progress
_VISIBLE = 120.0  # seconds after which a file server's cache of folders has to show what workers have written

_logger = logging.getLogger(__name__)


class Coordinator:
    """One run on a cluster.

    At most two reservations are with a worker, so that memory stays flat and a death costs little. The leases name all
    that is handed out, and show signs of life as long as reports come in.
    """

    def __init__(self, work: Computation, crew: Crew, leases: Leases, progress: Progress) -> None:
        self._work, self._crew, self._leases, self._progress = work, crew, leases, progress
        store, todo = work.job.store, work.plan
        self._tables = {output.name: store.table(output.layer, output.pooling) for output in todo.outputs}
        self._queue = Reservations(todo.rows, work.request, self._tables, leases)
        self._stock = np.empty(0, np.int64)  # reserved, and not handed out
        self._tally = Tally()
        self._deaths: Counter[int] = Counter()  # of workers, by the rows that they computed just then
        self._row_bytes = 0.0
        self._warned: set[str] = set()
        self._patience = float("inf")

    def run(self) -> Computed:
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
            self._crew.start()
            while self._remaining or self._crew.computing:
                self._hand_out()
                self._wait()
                self._show_progress()
            self._crew.dismiss_late()
        except BaseException:  # Ctrl-C too: what was computed is written down before it ends
            self._wind_up()
            raise
        self._await_parts()
        self._progress("extract", len(self._work.plan.rows), len(self._work.plan.rows))
        return Computed(self._tally.rows, self._tally.unreadable, self._tally.stages, self._crew.shares)

    # --- handing out ---------------------------------------------------------------------------------------------

    @property
    def _remaining(self) -> int:
        return self._queue.remaining + len(self._stock)

    def _hand_out(self) -> None:
        """Give every worker its first reservation before any gets its second."""
        for flying in range(_IN_FLIGHT):
            for seat in self._crew.seats:
                if seat.ready and seat.flying == flying:
                    rows = self._take(self._size(seat))
                    if not len(rows):
                        return
                    self._crew.send(seat, rows, self._reservation(rows))

    def _size(self, seat: Seat) -> int:
        seats = self._crew.seats
        known = [one.rate for one in seats if one.rate is not None]
        all_rates = sum(known) / len(known) * len(seats) if known else 0.0
        return reservation_size(self._remaining, seat.rate, all_rates, self._row_bytes)

    def _take(self, count: int) -> np.ndarray:
        """The next rows for a worker. They are leased for all workers at once: a lease writes all out that is held."""
        if len(self._stock) < count:
            more = self._queue.reserve(count * len(self._crew.seats) - len(self._stock))
            self._stock = np.concatenate([self._stock, more])
        taken, self._stock = self._stock[:count], self._stock[count:]
        return taken

    def _reservation(self, rows: np.ndarray) -> Reservation:
        request = self._work.request
        digests, views = request.digests[rows], request.views[rows]
        names = identities(digests, views)
        present = {name: names[~table.missing(digests, views)] for name, table in self._tables.items()}
        return Reservation(tuple(request.images.paths[row] for row in rows), digests, views, present)

    # --- taking reports ------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until a report comes, or what others work on is to be looked at again."""
        if not self._crew.computing and not len(self._stock):
            self._queue.release()  # others work on all that is left: lest they wait for ours
        if not self._crew.asked:
            time.sleep(_LOOK)
            self._queue.look_again()
            return
        answers = self._crew.wait(_LOOK)
        for answer in answers:
            self._settle(answer)
        if not answers:
            self._queue.look_again()
            self._mention_pending()

    def _settle(self, answer: Any) -> None:
        errand = self._crew.errand(answer)
        if errand is None:
            return
        seat = errand.seat
        try:
            found = self._crew.take(answer)
        except WorkerDied as error:
            self._mourn(seat, str(error))
            return
        except Exception as error:  # whatever the worker raised, on another machine
            raise _explain(error, seat) from error
        if errand.rows is None:
            seat.process, seat.ready = found[1], True
            _logger.info("worker %s is ready: %s, threads: %d", seat.name, seat.engine, seat.placement.threads)
        else:
            self._note(seat, errand.rows, found)

    def _note(self, seat: Seat, rows: np.ndarray, report: Report) -> None:
        """Count what a worker has done."""
        self._leases.give_sign()
        self._queue.finish(rows)
        unreadable = [(int(rows[position]), reason) for position, reason in report.unreadable]
        transient = frozenset(int(rows[position]) for position in report.transient)
        remember_unreadable(unreadable, transient, self._work.request, self._work.job)
        self._tally.rows += report.computed
        self._tally.unreadable.update(unreadable)
        self._tally.stages += report.stages / len(self._crew.everyone)
        self._row_bytes = max(self._row_bytes, report.row_bytes if report.computed else 0.0)
        seat.count(report)
        for line in set(report.warnings) - self._warned:
            self._warned.add(line)
            _logger.warning("%s", line)
        _logger.info("worker %s: %d images in %.1f s", seat.name, report.computed, report.seconds)

    def _show_progress(self) -> None:
        work, seats, others = self._work, self._crew.seats, self._queue.done_by_others
        total = len(work.plan.rows)
        counts = {
            "workers": self._crew.ready,
            "reused": work.plan.unique - total + others,
            "bad": len(work.request.unreadable) + len(self._tally.unreadable),
            **({seat.name: seat.images for seat in seats if seat.ready} if len(seats) <= _SHOWN else {}),
        }
        self._progress("extract", self._tally.rows + others, total, **counts)

    def _mention_pending(self) -> None:
        if time.monotonic() < self._patience:
            return
        self._patience = float("inf")
        waiting = len(self._crew.seats) - self._crew.ready
        if waiting:
            text = "%d of %d workers have not started: the cluster may be busy."
            _logger.warning(text, waiting, len(self._crew.seats))

    # --- deaths --------------------------------------------------------------------------------------------------

    def _mourn(self, seat: Seat, reason: str) -> None:
        """Open what a dead worker had again, and have another take its place.

        Raises
        ------
        ClusterError
            Workers die over the same images, or no worker is left.
        """
        lost = self._crew.bury(seat)
        for rows in lost:
            self._queue.give_back(rows)
        if lost:
            text = "A worker on %s has died (%s). Its %d images are computed again."
            _logger.warning(text, seat.placement.host, reason, sum(map(len, lost)))
            self._suspect(lost[0], reason)
        self._crew.replace(seat, reason)

    def _suspect(self, rows: np.ndarray, reason: str) -> None:
        """Remember the images that a worker computed when it died."""
        self._deaths.update(rows.tolist())
        often = [row for row in rows.tolist() if self._deaths[row] >= DEATHS]
        if often:
            paths = self._work.request.images.paths
            raise ClusterError(
                f"{DEATHS} workers have died over the same {counted(len(often), 'image')}, between {paths[often[0]]} "
                f"and {paths[often[-1]]} ({reason}). Give workers more memory (fewer of them: --cluster-workers), or "
                "leave these images out. What was finished is kept."
            )

    # --- the end -------------------------------------------------------------------------------------------------

    def _wind_up(self) -> None:
        """Have the workers write what they have computed, and remember what cannot be read."""
        for errand, report in self._crew.stop(_WIND_UP):
            self._note(errand.seat, np.asarray(errand.rows), report)

    def _await_parts(self) -> None:
        """Until all that was reported is to be seen from here, too.

        Raises
        ------
        ClusterError
            It is not, after a time in which every file server should have shown it.
        """
        unreadable = np.fromiter(self._tally.unreadable, np.int64, len(self._tally.unreadable))
        rows = np.setdiff1d(self._work.plan.rows, unreadable)
        give_up = time.monotonic() + _VISIBLE
        while lacking := self._count_lacking(rows):
            if time.monotonic() > give_up:
                raise ClusterError(
                    f"{counted_of(lacking, len(rows), 'image')} {agreeing(lacking, 'was', 'were')} computed, and their "
                    f"features are not to be seen in {self._work.job.store.directory}. Run the same command again; it "
                    "computes what is missing."
                )
            time.sleep(_LOOK)

    def _count_lacking(self, rows: np.ndarray) -> int:
        digests, views = self._work.request.digests[rows], self._work.request.views[rows]
        for table in self._tables.values():
            table.refresh()
        return int(np.logical_or.reduce([table.missing(digests, views) for table in self._tables.values()]).sum())


def _explain(cause: Exception, seat: Seat) -> FeatxError:
    """What a worker raised as an error of featx that names its machine."""
    if isinstance(cause, FeatxError):
        return type(cause)(f"On {seat.placement.host}: {cause}")
    return ClusterError(
        f"A worker on {seat.placement.host} failed: {type(cause).__name__}: {last_line(cause)}. What was finished is "
        "kept: run the same command again to go on."
    )
