"""A person's answers as an append-only file: one JSON object per line, on disk before anything else happens.

Tabs and processes append to the same file, so that none loses what another has written; the last answer to an image
counts. A line that a killed process left half is skipped.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from featx.errors import StoreError
from featx.io.files import explain_os_error, flush, make_folder
from featx.io.jsontypes import Json, parse_json

CHECKED, TAKEN, CHOSEN, SKIPPED, UNDONE, CLASS = "right", "accepted", "labelled", "skipped", "undone", "class"
"""How an image was answered: its own label is right; the suggestion was accepted; another label; none; taken back.
And a line that names a new class"""
_KINDS = frozenset({CHECKED, TAKEN, CHOSEN, SKIPPED, UNDONE, CLASS})


@dataclass(frozen=True)
class LabelEntry:
    """A line.

    path : of the image, absolute or a URL; of a new class ""
    labels : that were given; suggestion : what was suggested then, None where nothing was
    tab : where it was answered; time : in seconds since 1970
    """

    path: str
    how: str
    labels: tuple[str, ...]
    suggestion: tuple[str, ...] | None
    tab: str
    time: float = field(default_factory=time.time)

    @property
    def is_label(self) -> bool:
        """Whether it says what the image shows."""
        return self.how in {CHECKED, TAKEN, CHOSEN}


class LabelJournal:
    """The answers in one file, which is made where it is not there.

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise explain_os_error(error, path) from error
        flush(path.parent)
        self._lock = threading.RLock()
        self._at = 0  # bytes that were read
        self._of_image: dict[str, list[LabelEntry]] = {}
        self._of_tab: dict[str, list[LabelEntry]] = {}
        self._classes: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._read()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def refresh(self) -> None:
        """Take in what other processes have appended."""
        with self._lock:
            self._read()

    def add(self, entry: LabelEntry) -> None:
        """Append a line; it is on the disk when this returns.

        Raises
        ------
        StoreError
            The disk is full, or fails.
        """
        line = json.dumps(asdict(entry), ensure_ascii=True).encode() + b"\n"
        with self._lock:
            try:
                size = os.fstat(self._file).st_size
                if size and os.pread(self._file, 1, size - 1) != b"\n":
                    line = b"\n" + line  # behind what a killed process left of its own
                written = os.write(self._file, line)
                os.fsync(self._file)
            except OSError as error:
                raise explain_os_error(error, self.path) from error
            if written < len(line):
                raise StoreError(
                    f"No space left on the disk that holds {self.path.parent}: free some, and answer again."
                )
            self._read()

    def undo(self, tab: str) -> LabelEntry | None:
        """Take back the last answer of a tab; None where it has none, or that image was answered elsewhere since."""
        with self._lock:
            self._read()
            mine = self._of_tab.get(tab)
            if not mine:
                return None
            last = mine[-1]
            if self._of_image[last.path][-1] is not last:
                return None
            self.add(LabelEntry(last.path, UNDONE, (), None, tab))
            return last

    def last(self, path: str) -> LabelEntry | None:
        """What counts of an image; None where it was not answered."""
        found = self._of_image.get(path)
        return found[-1] if found else None

    def answers(self) -> list[LabelEntry]:
        """What counts, of every image that was answered, in the order of the first answers."""
        with self._lock:
            return [found[-1] for found in self._of_image.values() if found]

    def changed(self) -> list[str]:
        """The paths of images of which something else counts than when this was asked last."""
        with self._lock:
            found = list(self._changed)
            self._changed.clear()
            return found

    @property
    def length(self) -> int:
        """The bytes that were read so far, all of whole lines."""
        return self._at

    def since(self, start: int) -> list[str]:
        """The paths of images that were answered in what was read from this byte on."""
        with self._lock:
            content = os.pread(self._file, max(0, self._at - start), start)
        return list(dict.fromkeys(entry.path for entry in _entries(content) if entry.how != CLASS))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that were added."""
        return tuple(self._classes)

    def _read(self) -> None:
        """Take in what was appended, here or by another process."""
        content = b""
        while block := os.pread(self._file, 1 << 20, self._at + len(content)):
            content += block
        whole = content.rfind(b"\n") + 1
        self._at += whole
        for entry in _entries(content[:whole]):
            self._take(entry)

    def _take(self, entry: LabelEntry) -> None:
        if entry.how == CLASS:
            self._classes.update(dict.fromkeys(entry.labels))
            return
        self._changed[entry.path] = None
        of_image = self._of_image.setdefault(entry.path, [])
        of_tab = self._of_tab.setdefault(entry.tab, [])
        if entry.how != UNDONE:
            of_image.append(entry)
            of_tab.append(entry)
        elif of_tab and of_tab[-1].path == entry.path:
            undone = of_tab.pop()
            of_image[:] = [one for one in of_image if one is not undone]


def _entries(content: bytes) -> Iterator[LabelEntry]:
    for line in content.split(b"\n"):
        try:
            found: Json = parse_json(line)
        except ValueError:  # half a line
            continue
        entry = _entry(found)
        if entry is not None:
            yield entry


def _entry(found: Json) -> LabelEntry | None:
    """A line as it was written; None for one that was not written here."""
    if not isinstance(found, dict) or found.get("how") not in _KINDS:
        return None
    labels, suggestion, when = found.get("labels"), found.get("suggestion"), found.get("time")
    if not isinstance(labels, list) or not isinstance(when, int | float):
        return None
    taken = tuple(map(str, suggestion)) if isinstance(suggestion, list) else None
    names = tuple(map(str, labels))
    return LabelEntry(str(found.get("path")), str(found["how"]), names, taken, str(found.get("tab")), float(when))
