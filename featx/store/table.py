"""The features of one layer and pooling: its parts on disk, read as one table and written part by part."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from featx.errors import StoreError
from featx.io.counting import agreeing, counted_of
from featx.io.digest_arrays import DIGEST_BYTES, as_bytes, digest_array, prefixes
from featx.store.damage import Checks, Damage
from featx.store.part import SUFFIX, DamagedPart, Part, RemovedPart, open_part
from featx.store.stored import LOADED_PARTS, StoredFeatures

IDENTITY = np.dtype("V34")  # a digest, and which view of its image
_TOGETHER = 1 << 16  # digests that are looked up together
_OPEN_PARTS = 2  # mapped at once per table: a map is an open file, and what was read of it counts as memory
_logger = logging.getLogger(__name__)


def identities(digest: np.ndarray, view: np.ndarray | int = 0) -> np.ndarray:
    """Digest and view as one comparable value, V34 (n,), in the order of digests and of views within one."""
    joined = np.empty((len(digest), IDENTITY.itemsize), np.uint8)
    joined[:, :DIGEST_BYTES] = as_bytes(digest)
    joined[:, DIGEST_BYTES:] = (
        np.broadcast_to(np.asarray(view, ">u2"), len(digest)).copy().view(np.uint8).reshape(-1, 2)
    )
    return joined.view(IDENTITY).ravel()


@dataclass
class _Lookup:
    """Sorted identities and the (part, row) of each; where an identity comes twice, the first.

    They are searched for by their prefixes, which takes a sixth of the time for millions.
    """

    names: np.ndarray
    part: np.ndarray
    row: np.ndarray

    def __post_init__(self) -> None:
        self.prefixes = prefixes(self.names)

    @classmethod
    def of(cls, parts: Sequence[tuple[int, Part, np.ndarray]]) -> _Lookup:
        """The number of each part, the part, and which of its rows (positions) count."""
        if not parts:
            return cls(np.empty(0, IDENTITY), np.empty(0, np.int32), np.empty(0, np.int32))
        names = np.concatenate([identities(part.digest[rows], part.view[rows]) for _, part, rows in parts])
        first = _sorted_first(names)
        number = np.concatenate([np.full(len(rows), n, np.int32) for n, _, rows in parts])
        row = np.concatenate([rows.astype(np.int32) for _, _, rows in parts])
        return cls(names[first], number[first], row[first])

    def find(self, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(part, row) of each name, both int32 (n,), -1 where it is absent."""
        if not len(self.names):
            return np.full(len(names), -1, np.int32), np.full(len(names), -1, np.int32)
        last, starts = len(self.names) - 1, prefixes(names)
        at = np.minimum(np.searchsorted(self.prefixes, starts), last)
        here = self.names[at] == names
        alike = np.flatnonzero(~here & (self.prefixes[at] == starts))  # mostly other views of the same image
        at[alike] = np.minimum(np.searchsorted(self.names, names[alike]), last)
        here[alike] = self.names[at[alike]] == names[alike]
        return np.where(here, self.part[at], np.int32(-1)), np.where(here, self.row[at], np.int32(-1))


def _sorted_first(names: np.ndarray) -> np.ndarray:
    """Positions of the first of every name V34 (n,), in the order of the names: int64 (different names,)."""
    starts = prefixes(names)
    order = np.argsort(starts, kind="stable")
    if (starts[order[1:]] == starts[order[:-1]]).any():
        return np.asarray(np.unique(names, return_index=True)[1])
    return order


def _usable(part: Part, required: Mapping[bytes, int]) -> np.ndarray:
    """The rows of a part, but for those of images that a later decoder than the row's reads otherwise: int64 (m,)."""
    rows = np.arange(len(part))
    if not required:
        return rows
    suspects = np.flatnonzero(np.isin(part.digest, digest_array(required)))
    revision = np.zeros(len(part), np.uint16) if part.revision is None else part.revision
    stale = [row for row in suspects.tolist() if revision[row] < required[part.digest[row].tobytes()]]
    return np.delete(rows, stale)


@dataclass(eq=False)
class TableFolder:
    """Where the parts of one layer and pooling lie, and the attributes that each of them has. Enough to write one."""

    directory: Path
    attributes: dict[str, str]


class FeatureTable(TableFolder):
    """All rows of one layer and pooling. The listing of the parts is the truth; there is no other index.

    A part is compared with its checksums before any of its rows is found; rows that are damaged are as if they were not
    there. Rows of a part that a prune takes away while they are read are looked up again.

    Attributes
    ----------
    parts : the readable parts, oldest first; damaged : path -> reason of those that are not
    unsound : the damage that was found in rows of readable parts
    """

    def __init__(self, directory: Path, attributes: dict[str, str], checks: Checks | None = None) -> None:
        super().__init__(directory, attributes)
        self.parts: list[Part] = []
        self.damaged: dict[Path, str] = {}
        self.unsound: list[Damage] = []
        self._checks = checks or Checks()
        self._checked: set[int] = set()
        self._dropped: dict[int, np.ndarray] = {}  # number of a part -> its rows that do not count
        self._alone = threading.RLock()  # batches are read ahead by a thread
        self._seen: set[str] = set()
        self._lookups: list[_Lookup] = []
        self._fresh: list[tuple[int, Part, np.ndarray]] = []  # parts that are in none yet: a listing needs no lookup
        self._required: dict[bytes, int] = {}
        parts = self.parts  # not self: no cycle may keep files open
        self._mapped = lru_cache(_OPEN_PARTS)(lambda number: parts[number].map())
        self._loaded = lru_cache(LOADED_PARTS)(lambda number: parts[number].map())
        self.refresh()

    def refresh(self) -> None:
        """Take notice of parts that have appeared since the last look."""
        with self._alone:
            self._refresh()

    def _refresh(self) -> None:
        if not self.directory.is_dir():
            return
        names = sorted(path.name for path in self.directory.iterdir() if path.suffix == SUFFIX and path.name[0] != ".")
        for name in names:
            if name in self._seen:
                continue
            self._seen.add(name)
            try:
                part = open_part(self.directory / name, self.attributes)
            except FileNotFoundError:  # pruned between listing and opening
                continue
            except DamagedPart as error:
                self.damaged[self.directory / name] = str(error)
                _logger.warning("Left aside: %s Its rows will be computed again.", error)
                continue
            self._fresh.append((len(self.parts), part, _usable(part, self._required)))
            self.parts.append(part)

    def require(self, required: Mapping[bytes, int]) -> None:
        """Take rows of these images (digest -> revision) that an earlier decoder read for missing, from now on."""
        if required.items() <= self._required.items():
            return
        self._required.update(required)
        self._look_anew()

    def made_before(self, digest: np.ndarray, view: np.ndarray | int, revision: int) -> np.ndarray:
        """Mask (n,) of the digests V32 (n,) whose row is of an earlier revision of the decoder."""
        found = np.zeros(len(digest), bool)
        if all(part.revision is not None and part.revision.min(initial=revision) >= revision for part in self.parts):
            return found
        part, row = self.find(digest, view)
        for number in np.unique(part[part >= 0]).tolist():
            here, revisions = part == number, self.parts[number].revision
            found[here] = True if revisions is None else revisions[row[here]] < revision
        return found

    def find(self, digest: np.ndarray, view: np.ndarray | int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(part, row) of each digest V32 (n,), both int32 (n,), -1 where it has no row."""
        views = np.broadcast_to(np.asarray(view), len(digest))
        part, row = np.empty(len(digest), np.int32), np.empty(len(digest), np.int32)
        with self._alone:
            for start in range(0, len(digest), _TOGETHER):  # a part is checked before any row of it is found
                some = slice(start, start + _TOGETHER)
                part[some], row[some] = self._find(identities(digest[some], views[some]))
        return part, row

    def _find(self, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        while True:
            part, row = self._look_up(names)
            used = np.zeros(len(self.parts) + 1, bool)
            used[part] = True  # the last one is that of the absent
            unchecked = set(np.flatnonzero(used[:-1]).tolist()) - self._checked
            if not unchecked:
                return part, row
            for number in sorted(unchecked):
                self._check(number)

    def _check(self, number: int) -> None:
        """Compare a part with its checksums, and drop its rows that are damaged."""
        part = self.parts[number]
        self._checked.add(number)
        try:
            damage = self._checks.find_damage(part.path)
        except RemovedPart:
            self._drop(number, np.arange(len(part)))
            self._refresh()
            return
        if damage is not None:
            rows = np.array(damage.rows, np.int64) if damage.rows else np.arange(len(part))
            _logger.warning("%s is damaged: %s of its %s rows are not used.", part.path, len(rows), len(part))
            self.unsound.append(damage)
            self._drop(number, rows)

    def _drop(self, number: int, rows: np.ndarray) -> None:
        self._dropped[number] = rows
        self._look_anew()

    def _look_anew(self) -> None:
        """Make the lookup of all rows but those that are dropped or that an earlier decoder read wrong."""
        empty = np.empty(0, np.int64)
        kept = [
            np.setdiff1d(_usable(one, self._required), self._dropped.get(n, empty)) for n, one in enumerate(self.parts)
        ]
        self._lookups, self._fresh = [_Lookup.of(list(zip(range(len(kept)), self.parts, kept, strict=True)))], []

    def _look_up(self, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._fresh:
            self._lookups.append(_Lookup.of(self._fresh))
            self._fresh = []
        part, row = np.full(len(names), -1, np.int32), np.full(len(names), -1, np.int32)
        for lookup in self._lookups:
            absent = np.flatnonzero(part < 0)
            if not len(absent):
                break
            part[absent], row[absent] = lookup.find(names[absent])
        return part, row

    def missing(self, digest: np.ndarray, view: np.ndarray | int = 0) -> np.ndarray:
        """Mask (n,) of the digests that have no row."""
        return np.asarray(self.find(digest, view)[0] < 0)

    def read(self, digest: np.ndarray, view: np.ndarray | int = 0) -> StoredFeatures:
        """The features of these digests, in this order, without reading them yet.

        Raises
        ------
        StoreError
            When one of them has no row.
        """
        part, row = self.find(digest, view)
        if (part < 0).any():
            raise StoreError(
                f"{counted_of(int((part < 0).sum()), len(digest), 'image')} "
                f"{agreeing(int((part < 0).sum()), 'has', 'have')} no features in {self.directory}. Run featx extract "
                "with the same options first."
            )
        return StoredFeatures(self.parts, part, row, self._read)

    def _read(self, number: int, rows: np.ndarray) -> np.ndarray:
        try:
            if self.parts[number].offset is not None:
                return np.asarray(self._mapped(number)[rows])
            with self._alone:  # several threads want the next part at the same time: one of them reads it
                whole = self._loaded(number)
            return np.asarray(whole[rows])
        except RemovedPart as error:
            return self._read_moved(number, rows, error)

    def _read_moved(self, number: int, rows: np.ndarray, error: RemovedPart) -> np.ndarray:
        """The features of rows of a part that is gone, from where they are now."""
        gone = self.parts[number]
        with self._alone:
            self._drop(number, np.arange(len(gone)))
            self._refresh()
            part, row = self._find(identities(gone.digest[rows], gone.view[rows]))
        if (part < 0).any() or {self.parts[n].row_shape for n in np.unique(part)} != {gone.row_shape}:
            raise error
        out = np.empty((len(rows), *gone.row_shape), np.result_type(*{self.parts[n].dtype for n in np.unique(part)}))
        for other in np.unique(part).tolist():
            here = np.flatnonzero(part == other)
            out[here] = self._read(other, row[here])
        return out

    @property
    def rows(self) -> int:
        """Rows in readable parts, doubles included."""
        return sum(len(part) for part in self.parts)

    @property
    def bytes_on_disk(self) -> int:
        """Size of all readable parts."""
        return sum(part.path.stat().st_size for part in self.parts if part.path.exists())
