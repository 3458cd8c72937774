"""Rows that an earlier decoder computed from files it misread: they count as missing, and no others do."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from featx.errors import DataError
from featx.images.classes import REVISION, class_revision
from featx.images.sources import Hashed, Pinned, Source
from featx.io.index import StatIndex
from featx.io.remote import shared_remote
from featx.io.urls import AT_ONCE, is_url
from featx.store.table import FeatureTable

_HEADER = 1 << 16  # bytes of a file on a server: enough for the headers of what it is likely to be
_CHUNK = 2000  # files looked at before what is known of them is written down


def stale_images(
    sources: Sequence[Source], digests: np.ndarray, views: np.ndarray, tables: Iterable[FeatureTable], index: StatIndex
) -> dict[bytes, int]:
    """Digest and needed revision of the images of which a table may have rows of a decoder that read them wrong.

    Rows of this decoder's revision are not looked at. Of the others the file's header is read; `index` remembers
    what it shows.

    Parameters
    ----------
    sources : n images; digests : V32 (n,), of their contents; views : uint16 (n,), which view each row is
    """
    earlier = np.zeros(len(digests), bool)
    for table in tables:
        earlier |= table.made_before(digests, views, REVISION)
    suspects = np.flatnonzero(earlier)
    if not len(suspects):
        return {}
    found, first = np.unique(digests[suspects], return_index=True)
    names, rows = found.tolist(), suspects[first].tolist()
    known = index.known_classes(names, REVISION)
    unknown = [(name, sources[row]) for name, row in zip(names, rows, strict=True) if name not in known]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="featx-header") as pool:
        for start in range(0, len(unknown), _CHUNK):
            some = unknown[start : start + _CHUNK]
            revisions = pool.map(_look, [source for _, source in some])
            fresh = {name: one for (name, _), one in zip(some, revisions, strict=True) if one is not None}
            index.remember_classes(fresh, REVISION)
            known |= fresh
    return {name: revision for name, revision in known.items() if revision}


def require_current(
    sources: Sequence[Source], digests: np.ndarray, table: FeatureTable, index: StatIndex
) -> FeatureTable:
    """The same table, in which stale rows of these images are missing."""
    table.require(stale_images(sources, digests, np.zeros(len(digests), np.uint16), [table], index))
    return table


def _look(source: Source) -> int | None:
    """The revision of the class of a file, None where it cannot be read now."""
    try:
        if isinstance(source, bytes):
            return class_revision(io.BytesIO(source))
        if isinstance(source, Pinned | Hashed) or is_url(source):
            return class_revision(io.BytesIO(shared_remote().read(str(source), _HEADER)))
        with open(source, "rb") as file:
            return class_revision(file)
    except (OSError, DataError):
        return None
