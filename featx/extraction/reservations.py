"""Rows still to compute, handed out in reservations that other processes respect."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from featx.extraction.request import Request
from featx.io.digest_arrays import DIGEST
from featx.store.leases import Leases
from featx.store.table import FeatureTable


class Reservations:
    """What is left of a plan, and what of it this process has reserved.

    A row is open, then reserved, and at last finished: it is in a part, or no image. Open rows that another process
    works on are set aside until `look_again`. Rows are those of a request.

    Attributes
    ----------
    done_by_others : rows that were in a part already when it was their turn
    """

    def __init__(self, rows: np.ndarray, request: Request, tables: Mapping[str, FeatureTable], leases: Leases) -> None:
        self._request, self._tables, self._leases = request, tables, leases
        self._open = deque([rows])
        self._aside: list[np.ndarray] = []
        self._held = np.empty(0, np.int64)
        self._finished: list[np.ndarray] = []
        self.done_by_others = 0

    @property
    def remaining(self) -> int:
        """Rows that are neither reserved nor finished."""
        return sum(map(len, self._open)) + sum(map(len, self._aside))

    def reserve(self, count: int) -> np.ndarray:
        """Up to `count` open rows, which others leave alone from now on; none when others work on all that is left."""
        while self._open:
            chunk = self._open.popleft()
            if len(chunk) > count:
                self._open.appendleft(chunk[count:])
            mine = self._lease(chunk[:count])
            if len(mine):
                return mine
        return np.empty(0, np.int64)

    def finish(self, rows: np.ndarray) -> None:
        """Free reserved rows with the next reservation: they are visible, or of images that cannot be read."""
        self._finished.append(rows)

    def give_back(self, rows: np.ndarray) -> None:
        """Open reserved rows again, last of all: whoever had them is gone. What is in a part by then stays done."""
        self.finish(rows)
        self._open.append(rows)

    def look_again(self) -> None:
        """Open what was set aside: the others may have finished, or gone."""
        self._open.extend(self._aside)
        self._aside = []

    def release(self) -> None:
        """End the own reservations: all of their rows are visible, or of images that cannot be read."""
        self._held, self._finished = np.empty(0, np.int64), []
        self._leases.claim(np.empty(0, DIGEST))

    def _lease(self, chunk: np.ndarray) -> np.ndarray:
        with self._leases.exclusive():
            for table in self._tables.values():
                table.refresh()
            names, views = self._request.digests[chunk], self._request.views[chunk]
            absent = np.logical_or.reduce([table.missing(names, views) for table in self._tables.values()])
            others = np.isin(names, self._leases.of_others())
            mine: np.ndarray = chunk[absent & ~others]
            self._hold(mine)
        self.done_by_others += int((~absent).sum())
        if (absent & others).any():
            self._aside.append(chunk[absent & others])
        return mine

    def _hold(self, rows: np.ndarray) -> None:
        if self._finished:
            self._held = self._held[~np.isin(self._held, np.concatenate(self._finished))]
            self._finished = []
        self._held = np.concatenate([self._held, rows])
        self._leases.claim(self._request.digests[self._held])
