"""Damaged parts: what counts as damage, and how readers find it.

A part is read whole and compared with its checksums the first time that any process reads of it. That it was sound is
remembered in the index by its size and time, so that it costs nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featx.errors import StoreError
from featx.io.index import StatIndex
from featx.store.part import DamagedPart, RemovedPart, read_rows

_SOUND = "sound part"


@dataclass(frozen=True)
class Damage:
    """Rows of a part that do not hold their checksum; `rows` is empty where the whole file is unreadable.

    images, views : of each of the rows, where its image was first seen, and which view of it the row is
    """

    part: str
    rows: list[int]
    images: list[str]
    reason: str
    views: list[int] = field(default_factory=list)


def find_damage(path: Path) -> Damage | None:
    """Read every row of a part and compare its checksum. Raises StoreError where the part cannot be looked at."""
    try:
        rows, good = read_rows(path)
    except DamagedPart as error:
        return Damage(str(path), [], [], str(error))
    bad = np.flatnonzero(~good)
    if not len(bad):
        return None
    images = [bytes(name).decode("utf-8", "surrogateescape") for name in rows.path[bad]]
    return Damage(str(path), bad.tolist(), images, "checksum mismatch", rows.view[bad].tolist())


class Checks:
    """Compares parts with their checksums, each once while it stays as it is."""

    def __init__(self, index: Callable[[], StatIndex | None] = lambda: None) -> None:
        """Cheap to make. index : gives where it is remembered which parts are sound; None where that is closed."""
        self._index = index

    def find_damage(self, path: Path) -> Damage | None:
        """What is wrong with a part; None where nothing is, or where it cannot be looked at now.

        Raises
        ------
        RemovedPart
            A prune has taken it away.
        """
        try:
            status = path.stat()
        except FileNotFoundError:
            raise RemovedPart(path) from None
        name, now, index = str(path.absolute()), [status.st_size, status.st_mtime_ns], self._index()
        if index is not None and index.recall(_SOUND, name) == now:
            return None
        try:
            damage = find_damage(path)
        except RemovedPart:
            raise
        except StoreError:  # too many open files, or no plugin: reading the rows reports it
            return None
        if damage is None and index is not None:
            index.remember(_SOUND, name, now)
        return damage

    def forget(self, path: Path) -> None:
        """Read a part again the next time: damage that leaves size and time as they were was found otherwise."""
        index = self._index()
        if index is not None:
            index.remember(_SOUND, str(path.absolute()), None)
