"""The state of every image, updated answer by answer, so that an answer costs the same in a large set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from featx.io.compact import RowLookup
from featx.serve.label_journal import SKIPPED, LabelEntry, LabelJournal
from featx.serve.label_types import LabelSheet

OPEN, GIVEN, ANSWERED, SKIP, AGAIN = range(5)
"""Without a label; with one of the data that nobody has checked; labelled; skipped; named a second time, not shown"""
STATES = {"open": OPEN, "given": GIVEN, "answered": ANSWERED, "skipped": SKIP}
_MOST = 20_000  # labelled images of before that others are compared with, drawn at random


class LabelStates:
    """The state of each row of a sheet, one byte for each.

    kept : what was known of rows before anything was answered here
    """

    def __init__(self, sheet: LabelSheet, journal: LabelJournal, kept: Mapping[int, LabelEntry]) -> None:
        self._sheet, self._journal, self._kept = sheet, journal, kept
        self._lookup = RowLookup(sheet.paths)
        has_label = sheet.given.marked({labels: bool(labels) for labels in sheet.given.values})
        state = np.where(has_label, GIVEN, OPEN).astype(np.uint8)
        state[self._lookup.repeated] = AGAIN
        self._state = bytearray(state)
        self._has_label = has_label & (state != AGAIN)
        self._counts: list[int] = np.bincount(state, minlength=AGAIN + 1).tolist()
        self._judged, self._right = set[int](), set[int]()
        self._late: dict[int, None] = {}  # rows that were answered since, the latest last
        answered = [self._lookup.find(entry.path) for entry in journal.answers()]
        for row in sorted({*kept, *(row for row in answered if row is not None)}):
            self._settle(row)
        self._early = self._draw()
        self._late.clear()
        journal.changed()

    def _draw(self) -> np.ndarray:
        """Rows with a label, of very many some at random: int64 (m,)"""
        rows = np.flatnonzero(self._has_label)
        return rows if len(rows) <= _MOST else np.sort(np.random.default_rng(0).permutation(rows)[:_MOST])

    def refresh(self) -> None:
        """Take in what was answered since, here or by other processes."""
        self._journal.refresh()
        for path in self._journal.changed():
            row = self._lookup.find(path)
            if row is not None:
                self._settle(row)

    def row(self, path: str) -> int | None:
        """The row of a path; None of one that is not here."""
        return self._lookup.find(path)

    def last(self, row: int) -> LabelEntry | None:
        """What was answered last of a row, or known of it before; None where nothing is."""
        return self._journal.last(self._sheet.paths[row]) or self._kept.get(row)

    def labels(self, row: int) -> tuple[str, ...]:
        """The labels of a row, the answered ones where there are any."""
        last = self.last(row)
        return self._sheet.given[row] if last is None else last.labels

    def labelled(self) -> np.ndarray:
        """Rows that have a label, of those of before some at random; then those that were answered here: int64 (m,)."""
        late = np.fromiter(self._late, np.int64, len(self._late))
        rows = np.concatenate([self._early[~np.isin(self._early, late)], late])
        return np.asarray(rows[self._has_label[rows]])

    def state(self, row: int) -> int:
        """One of `STATES`, or AGAIN."""
        return self._state[row]

    def snapshot(self) -> tuple[bytes, dict[int, LabelEntry]]:
        """The states of all rows, and the entries of those that are labelled."""
        entries = {row: last for row in self.rows(ANSWERED) if (last := self.last(row)) is not None}
        return bytes(self._state), entries

    def rows(self, state: int) -> Iterator[int]:
        """The rows with a state, ascending."""
        row = self._state.find(state)
        while row >= 0:
            yield row
            row = self._state.find(state, row + 1)

    def marked(self, state: int) -> np.ndarray:
        """Which rows have a state: bool (n,)."""
        return np.asarray(np.frombuffer(self._state, np.uint8) == state)

    def count(self, state: int) -> int:
        """How many rows have a state."""
        return self._counts[state]

    @property
    def judged(self) -> tuple[int, int]:
        """How many answers there are to images with a suggestion, and how many of the suggestions were right."""
        return len(self._judged), len(self._right)

    def _settle(self, row: int) -> None:
        if self._state[row] == AGAIN:
            return
        last, given = self.last(row), self._sheet.given[row]
        state = (GIVEN if given else OPEN) if last is None else SKIP if last.how == SKIPPED else ANSWERED
        self._counts[self._state[row]] -= 1
        self._counts[state] += 1
        self._state[row] = state
        self._has_label[row] = bool(given if last is None else last.labels)
        self._late.pop(row, None)  # so that the latest come last
        self._late[row] = None
        judged = last is not None and last.is_label and last.suggestion is not None
        right = judged and last is not None and set(last.labels) == set(last.suggestion or ())
        (self._judged.add if judged else self._judged.discard)(row)
        (self._right.add if right else self._right.discard)(row)
