"""The images that a person labels: which comes next, what is suggested, what was answered, and the CSV of all of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featx.errors import DataError
from featx.io.csvtext import csv_text
from featx.io.files import write_atomic
from featx.io.urls import plain
from featx.serve.label_journal import CHECKED, CHOSEN, CLASS, SKIPPED, TAKEN, LabelEntry, LabelJournal

_LEASE = 120.0  # seconds for which an image that one tab shows is not shown by another
_LONGEST = 100  # characters of a class
_NEAR = 6  # labelled images beside the one to label
_CALM = 20.0  # the CSV is written when so many times the seconds have passed that the last writing took

Neighbours = Callable[[int, Sequence[int]], list[tuple[int, float]]]
"""The rows among some that are most like a row, the most similar first, with their similarity"""


@dataclass
class LabelSheet:
    """What is known of the images, in the order in which they are shown; rows are only ever added.

    given : the labels that they have in the data, () for none; split : the part that the data declares, "" for none
    suggestion, confidence, reason : of a model, or of the list that was named; None and "" where there is none
    wrong : how likely the label in the data is wrong, None where that is not known
    """

    paths: list[str]
    given: list[tuple[str, ...]]
    split: list[str]
    suggestion: list[tuple[str, ...] | None] = field(default_factory=list)
    confidence: list[float | None] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    wrong: list[float | None] = field(default_factory=list)
    first: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.paths)
        self.suggestion = self.suggestion or [None] * n
        self.confidence = self.confidence or [None] * n
        self.reason = self.reason or [""] * n
        self.wrong = self.wrong or [None] * n


@dataclass(frozen=True)
class Wanted:
    """Which images a tab shows.

    show : "open": without a label; "given": with one of the data that nobody has checked; "answered", "skipped"
    label : only those with this label, or suggestion; least, most : of the suggestion's confidence, in [0, 1]
    order : "list", "unsure": the least confident first, or "wrong": labels first that are likely wrong
    """

    show: str = "open"
    label: str = ""
    least: float = 0.0
    most: float = 1.0
    order: str = "list"


@dataclass(frozen=True)
class Beside:
    """A labelled image that is like another one."""

    number: int
    labels: tuple[str, ...]
    similarity: float


@dataclass(frozen=True)
class ToLabel:
    """An image as a tab shows it. number : by which its pixels are asked for; now : its label, where it has one"""

    number: int
    name: str
    given: tuple[str, ...]
    now: tuple[str, ...]
    how: str
    suggestion: tuple[str, ...] | None
    confidence: float | None
    reason: str
    wrong: float | None
    near: tuple[Beside, ...]


@dataclass(frozen=True)
class LabelStanding:
    """How far it has come. judged : answers to images with a suggestion; right : of these, where it was right"""

    classes: tuple[str, ...]
    several: bool
    images: int
    open: int
    given: int
    answered: int
    skipped: int
    judged: int
    right: int
    csv: str


class LabelDesk:
    """The state of all tabs; safe for several threads.

    sheet : the images; journal : the answers; out : the CSV; classes : in their order
    separator : between several labels of an image, None where each has one
    neighbours : finds labelled images that are alike; None where there are no features
    """

    def __init__(
        self,
        sheet: LabelSheet,
        journal: LabelJournal,
        out: Path,
        classes: Iterable[str],
        separator: str | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.sheet, self.journal, self.out, self.separator = sheet, journal, out, separator
        self.neighbours = neighbours
        self._known = dict.fromkeys(classes)
        self._shown: dict[int, tuple[str, float]] = {}
        self._lock = threading.RLock()
        self._written, self._took = 0.0, 0.0
        self.write()

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the data, the model, and those that were added."""
        return tuple(dict.fromkeys([*self._known, *self.journal.classes]))

    def renew(self, sheet: LabelSheet, classes: Iterable[str], neighbours: Neighbours | None) -> None:
        """Go on with new suggestions. sheet : begins with the rows that there are, so that their numbers stay."""
        with self._lock:
            self._known.update(dict.fromkeys(classes))
            self.sheet, self.neighbours = sheet, neighbours
            self._shown.clear()

    def next(self, tab: str, wanted: Wanted, but: int | None = None) -> ToLabel | None:
        """The first image that is wanted and that no other tab shows; None where none is left.

        but : an image that comes last, since it has just been seen
        """
        with self._lock:
            self.journal.refresh()
            now = time.monotonic()
            rows = [row for row in self._ordered(wanted) if self._is_wanted(row, wanted)]
            free = [row for row in rows if row != but and self._is_free(row, tab, now)] or rows
            if not free:
                return None
            self._shown = {row: lease for row, lease in self._shown.items() if lease[0] != tab}
            self._shown[free[0]] = (tab, now)
            return self.show(free[0])

    def show(self, row: int) -> ToLabel:
        """An image by its number."""
        sheet, path = self.sheet, self.sheet.paths[row]
        last = self.journal.last(path)
        now = last.labels if last is not None and last.is_label else sheet.given[row]
        return ToLabel(
            row,
            plain(path).rpartition("/")[2],
            sheet.given[row],
            now,
            last.how if last else "",
            sheet.suggestion[row],
            sheet.confidence[row],
            sheet.reason[row],
            sheet.wrong[row],
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
            if time.monotonic() - self._written > _CALM * self._took:
                self.write()

    def undo(self, tab: str) -> ToLabel | None:
        """Take back the last answer of a tab; None where there is none that can be."""
        with self._lock:
            entry = self.journal.undo(tab)
            if entry is None or entry.path not in self.sheet.paths:
                return None
            row = self.sheet.paths.index(entry.path)
            self._shown[row] = (tab, time.monotonic())
            self.write()
            return self.show(row)

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
            self.journal.refresh()
            last = [self.journal.last(path) for path in self.sheet.paths]
            labelled = [one for one in last if one is not None and one.is_label]
            judged = [one for one in labelled if one.suggestion is not None]
            fresh = [given for one, given in zip(last, self.sheet.given, strict=True) if one is None]
            return LabelStanding(
                self.classes,
                self.separator is not None,
                len(last),
                sum(not given for given in fresh),
                sum(bool(given) for given in fresh),
                len(labelled),
                sum(one is not None and one.how == SKIPPED for one in last),
                len(judged),
                sum(set(one.labels) == set(one.suggestion or ()) for one in judged),
                str(self.out),
            )

    def write(self) -> None:
        """Write the CSV: what was answered, and the labels of the data that nobody has changed."""
        with self._lock:
            self.journal.refresh()
            start = time.monotonic()
            rows, seen = list[list[str]](), set[str]()
            split = any(self.sheet.split)
            for path, given, part in zip(self.sheet.paths, self.sheet.given, self.sheet.split, strict=True):
                last = self.journal.last(path)
                seen.add(path)
                if last is not None and last.is_label:
                    rows.append([path, self._join(last.labels), last.how, "yes", *([part] if split else [])])
                elif given and last is None:
                    rows.append([path, self._join(given), "given", "", *([part] if split else [])])
            for entry in self.journal.answers():
                if entry.path not in seen and entry.is_label:  # of images that are not in this set
                    rows.append([entry.path, self._join(entry.labels), entry.how, "yes", *([""] if split else [])])
            header = ["path", "label", "how", "right", *(["split"] if split else [])]
            write_atomic(self.out, csv_text([header, *rows]))
            self._written = time.monotonic()
            self._took = self._written - start

    def close(self) -> None:
        """Write the CSV for the last time, and let go of the journal, which stays."""
        with self._lock:
            self.write()
            self.journal.close()

    def _ordered(self, wanted: Wanted) -> Sequence[int]:
        rows = range(len(self.sheet.paths))
        if wanted.order == "unsure":
            return sorted(rows, key=lambda row: _or(self.sheet.confidence[row], 2.0))
        if wanted.order == "wrong":
            return sorted(rows, key=lambda row: -_or(self.sheet.wrong[row], -1.0))
        return [*self.sheet.first, *rows]

    def _is_wanted(self, row: int, wanted: Wanted) -> bool:
        last, given = self.journal.last(self.sheet.paths[row]), self.sheet.given[row]
        state = ("given" if given else "open") if last is None else "skipped" if last.how == SKIPPED else "answered"
        if state != wanted.show:
            return False
        if wanted.label:
            now = last.labels if last is not None else given
            if wanted.label not in {*now, *(self.sheet.suggestion[row] or ())}:
                return False
        confidence = self.sheet.confidence[row]
        return confidence is None or wanted.least <= confidence <= wanted.most

    def _is_free(self, row: int, tab: str, now: float) -> bool:
        lease = self._shown.get(row)
        return lease is None or lease[0] == tab or now - lease[1] > _LEASE

    def _beside(self, row: int) -> tuple[Beside, ...]:
        if self.neighbours is None:
            return ()
        labels = {}
        for other, (path, given) in enumerate(zip(self.sheet.paths, self.sheet.given, strict=True)):
            last = self.journal.last(path)
            names = given if last is None else last.labels
            if names and other != row:
                labels[other] = names
        found = self.neighbours(row, list(labels))[:_NEAR] if labels else []
        return tuple(Beside(other, labels[other], round(value, 4)) for other, value in found)

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


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
