"""What counts of every image, brought up to date answer by answer, so that an answer costs the same in a large set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from featx.serve.label_journal import SKIPPED, LabelEntry, LabelJournal
from featx.serve.label_types import LabelSheet

OPEN, GIVEN, ANSWERED, SKIP, AGAIN = range(5)
"""Without a label; with one of the data that nobody has checked; labelled; skipped; named a second time, not shown"""
STATES = {"open": OPEN, "given": GIVEN, "answered": ANSWERED, "skipped": SKIP}


class LabelStates:
    """The state of each row of a sheet.

    kept : what was known of rows before anything was answered here
    labels : row -> its labels, of all that have any
    """

    def __init__(self, sheet: LabelSheet, journal: LabelJournal, kept: Mapping[int, LabelEntry]) -> None:
        self._sheet, self._journal, self._kept = sheet, journal, kept
        self._row_of: dict[str, int] = {}
        self._state = bytearray(len(sheet.paths))
        self._counts = [0] * (AGAIN + 1)
        self._judged, self._right = set[int](), set[int]()
        self.labels: dict[int, tuple[str, ...]] = {}
        for row, path in enumerate(sheet.paths):
            if self._row_of.setdefault(path, row) != row:
                self._state[row] = AGAIN
            self._counts[self._state[row]] += 1
            self._settle(row)
        journal.changed()

    def refresh(self) -> None:
        """Take in what was answered since, here or by other processes."""
        self._journal.refresh()
        for path in self._journal.changed():
            row = self._row_of.get(path)
            if row is not None:
                self._settle(row)

    def row(self, path: str) -> int | None:
        """The row of a path; None of one that is not here."""
        return self._row_of.get(path)

    def last(self, row: int) -> LabelEntry | None:
        """What was answered last of a row, or known of it before; None where nothing is."""
        return self._journal.last(self._sheet.paths[row]) or self._kept.get(row)

    def state(self, row: int) -> int:
        """One of `STATES`, or AGAIN."""
        return self._state[row]

    def rows(self, state: int) -> Iterator[int]:
        """The rows with a state, ascending."""
        row = self._state.find(state)
        while row >= 0:
            yield row
            row = self._state.find(state, row + 1)

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
        names = given if last is None else last.labels
        self.labels.pop(row, None)  # so that the latest come last
        if names:
            self.labels[row] = names
        judged = last is not None and last.is_label and last.suggestion is not None
        right = judged and last is not None and set(last.labels) == set(last.suggestion or ())
        (self._judged.add if judged else self._judged.discard)(row)
        (self._right.add if right else self._right.discard)(row)
