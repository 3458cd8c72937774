"""The content digest of every image file: SHA-256 of its bytes, remembered while the file is unchanged."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from featx.dataset.imageset import ImageSet
from featx.images.batches import usable_cores
from featx.io.digest_arrays import NO_DIGEST, digest_array, has_digest
from featx.io.digests import digest_bytes, digest_file
from featx.io.filetypes import describe_os_error, is_transient_reason
from featx.io.index import StatIndex, Status
from featx.io.remote import RemoteStatus, shared_remote
from featx.io.servers import AT_ONCE
from featx.io.urls import is_url

_CHUNK = 1000  # files hashed before what is known is written down


@dataclass(frozen=True)
class Digests:
    """Digests of files.

    Attributes
    ----------
    digest : V32 (n,), `NO_DIGEST` where a file cannot be read
    bad : row and reason of those
    """

    digest: np.ndarray
    bad: dict[int, str]

    @property
    def usable(self) -> np.ndarray:
        """Which files could be read: bool (n,)."""
        return has_digest(self.digest)


def digest_images(
    paths: Sequence[str], index: StatIndex, progress: Callable[[int], None] | None = None, workers: int = 0
) -> Digests:
    """Digest every file; those that are unchanged since the last time are not read.

    What becomes known is written to `index` after every thousand files, so that an interrupted run loses little.

    Parameters
    ----------
    paths : absolute paths, or URLs
    index : what is remembered of files
    progress : told how many files are done so far
    workers : threads that read; 0: two per core, since they wait for the disk, and more where there are URLs
    """
    workers = workers or max(2 * usable_cores(), AT_ONCE if any(map(is_url, paths)) else 0)
    report = progress or ignore_progress
    digests = np.full(len(paths), NO_DIGEST)
    bad: dict[int, str] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="featx-digest") as pool:
        for start in range(0, len(paths), _CHUNK):  # in chunks, so that memory does not grow with the number of files
            rows = range(start, min(start + _CHUNK, len(paths)))
            _digest_rows(rows, paths, index, pool, digests, bad)
            report(rows.stop)
        missed = [row for row, reason in bad.items() if is_url(paths[row]) and is_transient_reason(reason)]
        if missed:  # a server that had just restarted, or was asked for too much: it has had some time
            shared_remote().try_again()
            for row in missed:
                del bad[row]
            _digest_rows(missed, paths, index, pool, digests, bad)
    return Digests(digests, dict(sorted(bad.items())))


def _digest_rows(
    rows: Sequence[int],
    paths: Sequence[str],
    index: StatIndex,
    pool: ThreadPoolExecutor,
    digests: np.ndarray,
    bad: dict[int, str],
) -> None:
    """Digests of some rows, put into `digests`, with the reasons of those that cannot be read put into `bad`."""
    urls = [paths[row] for row in rows if is_url(paths[row])]
    told = dict(zip(urls, shared_remote().look(urls), strict=True)) if urls else {}
    status = {row: _look(paths[row], row, bad, told) for row in rows}
    known = index.known_digests([paths[row] for row in rows], list(status.values()))
    for row, digest in zip(rows, known, strict=True):
        if digest is not None:
            digests[row] = digest
    unknown = [row for row, digest in zip(rows, known, strict=True) if digest is None and status[row] is not None]
    fresh = []
    for row, result in zip(unknown, pool.map(_digest, (paths[row] for row in unknown)), strict=True):
        now = status[row]
        if isinstance(result, str):
            bad[row] = result
        elif now is not None:
            digests[row] = result
            fresh.append((paths[row], now, result))
    index.remember_digests(fresh)


def digest_contents(contents: Sequence[bytes], progress: Callable[[int], None] | None = None) -> Digests:
    """Digest files that are in memory, or made when they are asked for, a few at a time."""
    report = progress or ignore_progress
    digests = np.full(len(contents), NO_DIGEST)
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="featx-digest") as pool:
        for start in range(0, len(contents), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(contents)))
            digests[start : rows.stop] = digest_array(pool.map(lambda row: digest_bytes(contents[row]), rows))
            report(rows.stop)
    return Digests(digests, {})


def conflicts(images: ImageSet, digests: np.ndarray) -> list[list[int]]:
    """Rows of the same bytes under different labels, one list for each such image.

    Images without a label conflict with nothing.

    digests : V32 (n,); `NO_DIGEST` is no image
    """
    if images.labels is None or not len(images):
        return []
    codes = np.unique(images.labels, axis=0, return_inverse=True)[1] if images.multilabel else images.labels
    rows = np.flatnonzero(has_digest(digests) & (codes >= 0))
    order = rows[np.lexsort((codes[rows], digests[rows]))]
    same_image = digests[order[1:]] == digests[order[:-1]]
    torn = np.unique(digests[order[1:]][same_image & (codes[order[1:]] != codes[order[:-1]])])
    return list_equal(digests, rows[np.isin(digests[rows], torn)])


def list_equal(values: np.ndarray, rows: np.ndarray) -> list[list[int]]:
    """These rows in lists of equal value, for values that more than one has; in the order of the rows."""
    order = rows[np.argsort(values[rows], kind="stable")]
    starts = np.flatnonzero(values[order[1:]] != values[order[:-1]]) + 1
    return sorted(part.tolist() for part in np.split(order, starts) if len(part) > 1)


def ignore_progress(done: int) -> None:
    """Take a report of progress and tell nobody."""


def _look(path: str, row: int, bad: dict[int, str], told: Mapping[str, RemoteStatus | OSError]) -> Status | None:
    """What is known of a file without reading it; None, and why in `bad`, where there is none to be read.

    told : what servers say of URLs
    """
    try:
        status = told[path] if path in told else os.stat(path)
        if isinstance(status, OSError):
            raise status
    except OSError as error:
        bad[row] = describe_os_error(path, error)
        return None
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return status
    if stat.S_ISREG(status.st_mode):
        bad[row] = "empty file"
    else:  # opening a named pipe would wait for ever
        bad[row] = "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "a device or pipe, not a file"
    return None


def _digest(path: str) -> bytes | str:
    try:
        return digest_file(path)
    except OSError as error:
        return describe_os_error(path, error)
