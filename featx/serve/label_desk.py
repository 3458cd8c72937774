"""The images to label: the next one, its suggestion, the answers, and the CSV of all of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from featx.errors import DataError, FeatxError
from featx.io.csvtext import csv_line
from featx.io.files import atomic_path
from featx.io.shown import as_utf8
from featx.io.urls import plain
from featx.serve.label_journal import CHECKED, CHOSEN, CLASS, SKIPPED, TAKEN, LabelEntry, LabelJournal
from featx.serve.label_states import AGAIN, ANSWERED, GIVEN, OPEN, SKIP, STATES, LabelStates
from featx.serve.label_types import (
    NOWHERE,
    Beside,
    Labels,
    LabelSheet,
    LabelStanding,
    LabelStore,
    Neighbours,
    ToLabel,
    Wanted,
)

_LEASE = 120.0  # seconds for which an image that one tab shows is not shown by another
_LONGEST = 100  # characters of a class
_ORDERS = frozenset({"unsure", "wrong"})
_NEAR = 6  # labelled images beside the one to label
_UNCHECKED = "given"  # how a label of the data came to be that nobody has looked at
_MANY = 100_000  # images of more than this are written later than at the start
_LONG = 1.0  # seconds; a writing that takes longer is not waited for
_LINES, _ENDS = 4096, 1024
_CALM = 20.0  # the CSV is written when so many times the seconds have passed that the last writing took


class LabelDesk:
    """The state of all tabs; safe for several threads.

    sheet : the images; journal : the answers; out : the CSV; classes : in their order
    separator : between several labels of an image, None where each has one
    """

    def __init__(
        self,
        sheet: LabelSheet,
        journal: LabelJournal,
        out: Path,
        classes: Iterable[str],
        separator: str | None = None,
        store: LabelStore = NOWHERE,
    ) -> None:
        self.sheet, self.journal, self.out, self.separator = sheet, journal, out, separator
        self.neighbours: Neighbours | None = None
        self._store = store
        self._states = LabelStates(sheet, journal, store.kept)
        self._orders: dict[str, np.ndarray] = {}
        self._scored = _is_scored(sheet)
        self._known = dict.fromkeys(classes)
        self._shown: dict[int, tuple[str, float]] = {}
        self._lock, self._writing = threading.RLock(), threading.Lock()  # the second is taken first
        self._written, self._took = time.monotonic(), _LONG
        self._timer: threading.Timer | None = None
        self._closed = False
        if len(sheet.paths) <= _MANY:
            self.write()
        else:  # the page does not wait for it
            self._write_soon()

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the data, the model, and those that were added."""
        return tuple(dict.fromkeys([*self._known, *self.journal.classes]))

    def renew(self, sheet: LabelSheet, classes: Iterable[str], neighbours: Neighbours | None) -> None:
        """Go on with new suggestions. sheet : begins with the rows that there are, so that their numbers stay."""
        with self._lock:
            self._known.update(dict.fromkeys(classes))
            self.sheet, self.neighbours = sheet, neighbours
            self._states = LabelStates(sheet, self.journal, self._store.kept)
            self._scored = _is_scored(sheet)
            self._orders.clear()
            self._shown.clear()

    def next(self, tab: str, wanted: Wanted, but: int | None = None) -> ToLabel | None:
        """The first image that is wanted and that no other tab shows; None where none is left.

        but : an image that comes last, since it has just been seen
        """
        with self._lock:
            self._states.refresh()
            now, chosen = time.monotonic(), None
            for row in self._wanted_rows(wanted):
                if row != but and self._is_free(row, tab, now):
                    chosen = row
                    break
                chosen = row if chosen is None else chosen
            if chosen is None:
                return None
            self._shown = {row: lease for row, lease in self._shown.items() if lease[0] != tab}
            self._shown[chosen] = (tab, now)
            return self.show(chosen)

    def show(self, row: int) -> ToLabel:
        """An image by its number."""
        sheet, path = self.sheet, self.sheet.paths[row]
        last = self._states.last(row)
        now = last.labels if last is not None and last.is_label else sheet.given[row]
        return ToLabel(
            row,
            plain(path).rpartition("/")[2],
            sheet.given[row],
            now,
            last.how if last else "",
            sheet.suggestion[row],
            _or_none(sheet.confidence[row]),
            sheet.reason[row],
            _or_none(sheet.wrong[row]),
            self._beside(row),
        )

    def answer(self, row: int, labels: Sequence[str] | None, tab: str) -> None:
        """Keep an answer; it is on the disk when this returns. labels : None to skip the image

        Raises
        ------
        DataError
            A label that is not a class, or none or several where an image has one.
        StoreError
            The disk is full.
        """
        with self._lock:
            suggestion = self.sheet.suggestion[row]
            names = () if labels is None else self._names(labels)
            how = SKIPPED if labels is None else _how(names, self.sheet.given[row], suggestion)
            self.journal.add(LabelEntry(self.sheet.paths[row], how, names, suggestion, tab))
            self._shown.pop(row, None)
        self._write_soon()

    def undo(self, tab: str) -> ToLabel | None:
        """Take back the last answer of a tab; None where there is none that can be."""
        with self._lock:
            entry = self.journal.undo(tab)
            row = None if entry is None else self._states.row(entry.path)
            if row is None:
                return None
            self._states.refresh()
            self._shown[row] = (tab, time.monotonic())
            shown = self.show(row)
        self._write_soon(even_now=True)
        return shown

    def add_class(self, name: str, tab: str) -> str:
        """Add a class; returns its name.

        Raises
        ------
        DataError
            A name that cannot be one, or that there is.
        """
        name = " ".join(name.split())
        with self._lock:
            if not name or len(name) > _LONGEST or not name.isprintable():
                raise DataError(f"A class needs a name of 1 to {_LONGEST} printable characters.")
            if self.separator and self.separator != "json" and self.separator in name:
                raise DataError(f"{name!r} holds {self.separator!r}, which stands between labels. Choose another name.")
            if name.casefold() in {one.casefold() for one in self.classes}:
                raise DataError(f"There is a class {name!r} already.")
            self.journal.add(LabelEntry("", CLASS, (name,), None, tab))
            return name

    def standing(self) -> LabelStanding:
        """How far it has come."""
        with self._lock:
            states = self._states
            states.refresh()
            judged, right = states.judged
            return LabelStanding(
                self.classes,
                self.separator is not None,
                self._scored,
                len(self.sheet.paths) - states.count(AGAIN),
                states.count(OPEN),
                states.count(GIVEN),
                states.count(ANSWERED),
                states.count(SKIP),
                judged,
                right,
                str(self.out),
            )

    def write(self) -> None:
        """Write the CSV, what was answered and the labels of the data that nobody has changed, and keep the answers.

        Of a large set this takes seconds, for which answers do not wait.
        """
        with self._writing:
            if self._closed:
                return
            start = time.monotonic()
            with self._lock:
                self._states.refresh()
                lines = self._lines(self.sheet, *self._states.snapshot(), self._strangers())
            with atomic_path(self.out) as temporary, temporary.open("wb") as file:
                while some := "".join(islice(lines, _LINES)):
                    file.write(as_utf8(some).encode())
            self._store.keep(self.journal)
            self._written = time.monotonic()
            self._took = self._written - start

    def _strangers(self) -> list[LabelEntry]:
        """The answers to images that are not in this set."""
        return [one for one in self.journal.answers() if one.is_label and self._states.row(one.path) is None]

    def _lines(
        self, sheet: LabelSheet, states: bytes, entries: dict[int, LabelEntry], strangers: Sequence[LabelEntry]
    ) -> Iterator[str]:
        """The CSV line by line; the cells behind the path, of which few are different, are made once."""
        split = any(sheet.split.values)
        yield csv_line(["path", "label", "how", "right", *(["split"] if split else [])])

        @lru_cache(_ENDS)
        def end(labels: Labels, how: str, part: str) -> str:
            right = "" if how == _UNCHECKED else "yes"
            return csv_line([self._join(labels), how, right, *([part] if split else [])])

        for row, (path, given, part) in enumerate(zip(sheet.paths, sheet.given, sheet.split, strict=True)):
            if row in entries:
                yield f"{csv_line([path], '')},{end(entries[row].labels, entries[row].how, part)}"
            elif states[row] == GIVEN:
                yield f"{csv_line([path], '')},{end(given, _UNCHECKED, part)}"
        for entry in strangers:
            yield f"{csv_line([entry.path], '')},{end(entry.labels, entry.how, '')}"

    def close(self) -> None:
        """Write the CSV for the last time, and let go of the journal, which stays."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self.write()
        with self._writing, self._lock:
            self._closed = True
            self.journal.close()

    def _write_soon(self, even_now: bool = False) -> None:
        """Write the CSV now where that is quick and was not just done, else in a while, whether or not more follows.

        even_now : where it was just done as well
        """
        with self._lock:
            left = self._written + _CALM * self._took - time.monotonic()
            now = (even_now or left <= 0) and self._took < _LONG
            if not now and self._timer is None:
                self._timer = threading.Timer(max(0.0, left), self._write_late)
                self._timer.daemon = True
                self._timer.start()
        if now:
            self.write()

    def _write_late(self) -> None:
        with self._lock:
            self._timer = None
        with suppress(FeatxError):  # the answers are in the journal, and the next writing says what is wrong
            self.write()

    def _wanted_rows(self, wanted: Wanted) -> Iterator[int]:
        state = STATES.get(wanted.show, -1)
        rows = self._candidates(wanted, state) if state >= 0 else ()
        return (row for row in rows if self._states.state(row) == state and self._passes(row, wanted))

    def _candidates(self, wanted: Wanted, state: int) -> Iterator[int]:
        """The rows with a state in the order that is wanted, but for those that arrays show not to pass."""
        order = self._order(wanted.order) if wanted.order in _ORDERS else None
        if wanted.is_filtered:  # the labels of other states are those of answers
            few = self.sheet.matching(wanted, state in {OPEN, GIVEN}) & self._states.marked(state)
            order = np.flatnonzero(few) if order is None else order[few[order]]
        if wanted.order not in _ORDERS:
            yield from self.sheet.first
        yield from self._states.rows(state) if order is None else _stepwise(order)

    def _order(self, name: str) -> np.ndarray:
        """All rows by one of `_ORDERS`, int32 (n,); sorted once for a sheet."""
        if name not in self._orders:
            keys = self.sheet.confidence if name == "unsure" else -self.sheet.wrong
            self._orders[name] = np.argsort(keys, kind="stable").astype(np.int32)  # NaN, of what is not known, last
        return self._orders[name]

    def _passes(self, row: int, wanted: Wanted) -> bool:
        if wanted.label and wanted.label not in {*self._states.labels(row), *(self.sheet.suggestion[row] or ())}:
            return False
        if wanted.doubt > 0 and not self.sheet.wrong[row] >= wanted.doubt:
            return False
        confidence = self.sheet.confidence[row]
        return bool(np.isnan(confidence) or wanted.least <= confidence <= wanted.most)

    def _is_free(self, row: int, tab: str, now: float) -> bool:
        lease = self._shown.get(row)
        return lease is None or lease[0] == tab or now - lease[1] > _LEASE

    def _beside(self, row: int) -> tuple[Beside, ...]:
        if self.neighbours is None:
            return ()
        labelled = self._states.labelled()
        found = self.neighbours(row, labelled[labelled != row])[:_NEAR]
        return tuple(Beside(other, self._states.labels(other), round(value, 4)) for other, value in found)

    def _names(self, labels: Sequence[str]) -> tuple[str, ...]:
        known = self.classes
        unknown = [name for name in labels if name not in known]
        if unknown:
            raise DataError(f"{unknown[0]!r} is not a class. Add it first, with the key n.")
        if self.separator is None and len(labels) != 1:
            raise DataError("An image has one label here. To give several, start with --label-separator '|'.")
        return tuple(name for name in known if name in set(labels))

    def _join(self, labels: Sequence[str]) -> str:
        return json.dumps(labels) if self.separator == "json" else (self.separator or "").join(labels)


def _how(labels: tuple[str, ...], given: tuple[str, ...], suggestion: tuple[str, ...] | None) -> str:
    if given and set(labels) == set(given):
        return CHECKED
    return TAKEN if suggestion is not None and set(labels) == set(suggestion) else CHOSEN


def _stepwise(rows: np.ndarray) -> Iterator[int]:
    for start in range(0, len(rows), _LINES):
        yield from rows[start : start + _LINES].tolist()


def _is_scored(sheet: LabelSheet) -> bool:
    return not bool(np.isnan(sheet.wrong).all())


def _or_none(value: np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)
