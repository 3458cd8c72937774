"""Merge the parts of a table into fewer ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featx.io.digest_arrays import digest_array, prefixes
from featx.store.leases import Leases
from featx.store.part import Part, PartRows, read_rows, write_part
from featx.store.table import IDENTITY, FeatureTable, identities
from featx.store.writer import PART_BYTES

MAINTENANCE = digest_array([b"maintenance"])  # in place of a digest: who removes parts leases them all


def compact(table: FeatureTable, compression: str, leases: Leases) -> int:
    """Merge runs of parts that are far below the usual size, and parts with doubled rows; return the parts left."""
    left = 0
    seen = _Seen.of(table.parts)
    for group in _groups(table.parts):
        published = _merge(table, group, seen, compression)
        leases.give_sign()
        left += published
    return left


@dataclass(frozen=True)
class _Seen:
    """What is known while parts are merged, one group after the other.

    names : all identities, sorted V34 (n,); starts : their first bytes, as `prefixes` gives them
    kept : bool (n,), which of them stay in parts before
    latest : revision -> the identities, sorted, that have a row of it; without the earliest revision that there is
    """

    names: np.ndarray
    starts: np.ndarray
    kept: np.ndarray
    latest: dict[int, np.ndarray]

    @classmethod
    def of(cls, parts: list[Part]) -> _Seen:
        """Before the first group."""
        every = [np.empty(0, IDENTITY), *(identities(part.digest, part.view) for part in parts)]
        names = _different(np.concatenate(every))
        return cls(names, prefixes(names), np.zeros(len(names), bool), _latest(parts))

    def take(self, names: np.ndarray) -> np.ndarray:
        """Note that these identities, each different, stay; return which of them did not before, bool (n,)."""
        at = self._find(names)
        new = ~self.kept[at]
        self.kept[at] = True
        return np.asarray(new)

    def has_all(self, part: Part) -> bool:
        """Whether every row of a part stays in parts before, of this decoder or a later one."""
        return bool(self.kept[self._find(identities(part.digest, part.view))].all())

    def _find(self, names: np.ndarray) -> np.ndarray:
        """Positions of these identities, all of which are known: int64 (m,)."""
        at = np.searchsorted(self.starts, prefixes(names))
        others = np.flatnonzero(self.names[at] != names)  # views of one image begin alike
        at[others] = np.searchsorted(self.names, names[others])
        return at

    def superseded(self, names: np.ndarray, revisions: np.ndarray) -> np.ndarray:
        """Which rows have one of a later decoder beside them: bool (n,)."""
        found = np.zeros(len(names), bool)
        for revision, identity in self.latest.items():
            below = np.flatnonzero(revisions < revision)
            if len(below):
                at = np.minimum(np.searchsorted(identity, names[below]), len(identity) - 1)
                found[below] |= identity[at] == names[below]
        return found


def _different(names: np.ndarray) -> np.ndarray:
    """Each identity V34 once, in their order; sorted by their first bytes, which takes a fraction of the time."""
    starts = prefixes(names)
    order = np.argsort(starts, kind="stable")
    starts, names = starts[order], names[order]
    alike = starts[1:] == starts[:-1]
    if (names[1:][alike] != names[:-1][alike]).any():
        return np.asarray(np.unique(names))
    return np.asarray(names[np.concatenate([np.ones(len(names[:1]), bool), ~alike])])


def _latest(parts: list[Part]) -> dict[int, np.ndarray]:
    revisions = [np.zeros(len(part), np.uint16) if part.revision is None else part.revision for part in parts]
    _, *later = np.unique(np.concatenate([np.empty(0, np.uint16), *map(np.unique, revisions)])).tolist() or [0]
    found: dict[int, np.ndarray] = {}
    for number in later:
        rows = [revision == number for revision in revisions]
        names = [identities(part.digest[of], part.view[of]) for part, of in zip(parts, rows, strict=True)]
        found[number] = _different(np.concatenate(names))
    return found


def _groups(parts: list[Part]) -> Iterator[list[Part]]:
    """Consecutive parts that together are of about the usual size."""
    group: list[Part] = []
    size = 0
    for part in parts:
        part_bytes = len(part) * int(np.prod(part.row_shape)) * part.dtype.itemsize
        if group and size + part_bytes > PART_BYTES:
            yield group
            group, size = [], 0
        group.append(part)
        size += part_bytes
    if group:
        yield group


def _merge(table: FeatureTable, group: list[Part], seen: _Seen, compression: str) -> int:
    """Make one part of several. Of the rows of one identity the first valid one of the latest decoder stays.

    Returns the number of parts left (0 or 1); `seen` then knows of this group.
    """
    kept: list[PartRows] = []
    total = 0
    for part in group:
        total += len(part)
        if seen.has_all(part):  # nothing of it is read
            continue
        rows, good = read_rows(part.path)
        every = identities(rows.digest, rows.view)
        valid = np.flatnonzero(good & ~seen.superseded(every, rows.revisions))
        names, first = np.unique(every[valid], return_index=True)
        staying = np.sort(valid[first[seen.take(names)]])
        kept.append(rows if len(staying) == len(rows) else rows.take(staying))
    left = sum(len(rows) for rows in kept)
    if len(group) == 1 and left == total:
        return 1
    if left:
        write_part(table.directory, _join(kept), table.attributes, compression)
    for part in group:
        part.path.unlink(missing_ok=True)
    return int(left > 0)


def _join(several: list[PartRows]) -> PartRows:
    dtype = np.result_type(*[rows.features.dtype for rows in several])
    return PartRows(
        np.concatenate([rows.digest for rows in several]),
        np.concatenate([rows.view for rows in several]),
        np.concatenate([rows.path for rows in several]),
        np.concatenate([rows.features.astype(dtype) for rows in several]),
        np.concatenate([rows.revisions for rows in several]),
    )
