"""Merging parts of a table into fewer ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from featx.io.digest_arrays import digest_array
from featx.store.leases import Leases
from featx.store.part import Part, PartRows, read_rows, write_part
from featx.store.table import IDENTITY, FeatureTable, identities
from featx.store.writer import PART_BYTES

MAINTENANCE = digest_array([b"maintenance"])  # in place of a digest: who removes parts leases them all


def compact(table: FeatureTable, compression: str, leases: Leases) -> int:
    """Merge runs of parts that are far below the usual size, and parts with doubled rows; return the parts left."""
    left = 0
    seen = np.empty(0, IDENTITY)
    for group in _groups(table.parts):
        published, seen = _merge(table, group, seen, compression)
        leases.give_sign()
        left += published
    return left


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


def _merge(table: FeatureTable, group: list[Part], seen: np.ndarray, compression: str) -> tuple[int, np.ndarray]:
    """Make one part of several. Of the rows of one identity the first valid one stays.

    seen : identities that stay in parts before these, sorted V34 (n,)

    Returns the number of parts left (0 or 1), and `seen` with the identities of this group.
    """
    kept: list[PartRows] = []
    total = 0
    for part in group:
        rows, good = read_rows(part.path)
        total += len(rows)
        valid = np.flatnonzero(good)
        names, first = np.unique(identities(rows.digest[valid], rows.view[valid]), return_index=True)
        kept.append(rows.take(np.sort(valid[first[~np.isin(names, seen)]])))
        seen = np.union1d(seen, names)
    left = sum(len(rows) for rows in kept)
    if len(group) == 1 and left == total:
        return 1, seen
    if left:
        write_part(table.directory, _join(kept), table.attributes, compression)
    for part in group:
        part.path.unlink(missing_ok=True)
    return int(left > 0), seen


def _join(several: list[PartRows]) -> PartRows:
    dtype = np.result_type(*[rows.features.dtype for rows in several])
    return PartRows(
        np.concatenate([rows.digest for rows in several]),
        np.concatenate([rows.view for rows in several]),
        np.concatenate([rows.path for rows in several]),
        np.concatenate([rows.features.astype(dtype) for rows in several]),
    )
