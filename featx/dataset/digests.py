"""The content digest of every image file: SHA-256 of its bytes, remembered while the file is unchanged."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from featx.dataset.imageset import ImageSet
from featx.images.batches import usable_cores
from featx.io.compact import any_url
from featx.io.digest_arrays import DIGEST, NO_DIGEST, digest_array, has_digest, is_among
from featx.io.digests import digest_bytes, digest_file
from featx.io.filetypes import describe_os_error, is_transient_reason
from featx.io.remote import shared_remote
from featx.io.urls import AT_ONCE, is_url

if TYPE_CHECKING:
    from featx.io.index import StatIndex, Status

_CHUNK = 1000  # files hashed before what is known is written down


@dataclass(frozen=True)
class Digests:
    """Digests of files.

    Attributes
    ----------
    digest : V32 (n,), `NO_DIGEST` where a file cannot be read
    bad : row and reason of those, in the order of the rows
    """

    digest: np.ndarray
    bad: dict[int, str]

    @classmethod
    def of(cls, found: Sequence[bytes | str]) -> Digests:
        """Digests made of what was found of each file: its digest, or why it cannot be read."""
        digest = digest_array(NO_DIGEST.tobytes() if isinstance(one, str) else one for one in found)
        return cls(digest, {row: one for row, one in enumerate(found) if isinstance(one, str)})

    @classmethod
    def join(cls, parts: Sequence[Digests]) -> Digests:
        """Digests of the files of all parts, one part after the other."""
        starts = np.cumsum([0, *(len(part.digest) for part in parts)]).tolist()
        bad = {start + row: one for start, part in zip(starts, parts, strict=False) for row, one in part.bad.items()}
        return cls(np.concatenate([np.empty(0, DIGEST), *(part.digest for part in parts)]), bad)

    def replaced(self, rows: Sequence[int], others: Digests) -> Digests:
        """The same with other findings of some rows."""
        digest, again = self.digest.copy(), set(rows)
        digest[list(rows)] = others.digest
        bad = {row: reason for row, reason in self.bad.items() if row not in again}
        bad |= {rows[place]: reason for place, reason in others.bad.items()}
        return Digests(digest, dict(sorted(bad.items())))

    @property
    def usable(self) -> np.ndarray:
        """Which files could be read: bool (n,)."""
        return has_digest(self.digest)


def digest_images(
    paths: Sequence[str],
    index: StatIndex,
    progress: Callable[[int], None] | None = None,
    workers: int = 0,
    keep: Callable[[str, bytes], None] | None = None,
) -> Digests:
    """Digest every file; those that are unchanged since the last time are not read.

    What becomes known is written to `index` after every thousand files, so that an interrupted run loses little.

    Parameters
    ----------
    paths : absolute paths, or URLs
    index : what is remembered of files
    progress : called with how many files are done so far
    workers : threads that read; 0: two per core, since they wait for the disk, and more where there are URLs
    keep : called, in threads, with every URL that was read and its content
    """
    workers = workers or max(2 * usable_cores(), AT_ONCE if any_url(paths) else 0)
    report = progress or ignore_progress
    digest, bad = np.full(len(paths), NO_DIGEST), dict[int, str]()
    with ThreadPoolExecutor(workers, thread_name_prefix="featx-digest") as pool:
        for start in range(0, len(paths), _CHUNK):  # in chunks, so that memory does not grow with the number of files
            some = list(paths[start : start + _CHUNK])
            part = Digests.of(_digest_files(some, index, pool, keep))
            digest[start : start + len(some)] = part.digest
            bad |= {start + row: reason for row, reason in part.bad.items()}
            report(start + len(some))
        found = Digests(digest, bad)
        missed = [row for row, reason in found.bad.items() if is_url(paths[row]) and is_transient_reason(reason)]
        if missed:  # a server that had just restarted, or was asked for too much: it has had some time
            shared_remote().try_again()
            again = _digest_files([paths[row] for row in missed], index, pool, keep)
            found = found.replaced(missed, Digests.of(again))
    return found


def _digest_files(
    paths: Sequence[str], index: StatIndex, pool: ThreadPoolExecutor, keep: Callable[[str, bytes], None] | None
) -> list[bytes | str]:
    """The digest of each file, or why it cannot be read; those that were read are remembered."""
    status = _look(paths)
    regular = {path: one for path, one in zip(paths, status, strict=True) if not isinstance(one, str)}
    known = dict(zip(regular, index.known_digests(list(regular), list(regular.values())), strict=True))
    unknown = [path for path, digest in known.items() if digest is None]
    fresh = dict(zip(unknown, pool.map(partial(_digest, keep=keep), unknown), strict=True))
    index.remember_digests((path, regular[path], one) for path, one in fresh.items() if isinstance(one, bytes))
    found = zip(paths, status, strict=True)
    return [one if isinstance(one, str) else known[path] or fresh[path] for path, one in found]


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
    return list_equal(digests, rows[is_among(digests[rows], torn)])


def list_equal(values: np.ndarray, rows: np.ndarray) -> list[list[int]]:
    """These rows in lists of equal value, for values that more than one has; in the order of the rows."""
    order = rows[np.argsort(values[rows], kind="stable")]
    starts = np.flatnonzero(values[order[1:]] != values[order[:-1]]) + 1
    return sorted(part.tolist() for part in np.split(order, starts) if len(part) > 1)


def ignore_progress(done: int) -> None:
    """Take a report of progress and show nothing."""


def _look(paths: Sequence[str]) -> list[Status | str]:
    """What is known of each file without reading it, or why it cannot be read. Servers are asked for all at once."""
    urls = [path for path in paths if is_url(path)]
    of_url = dict(zip(urls, shared_remote().look(urls), strict=True)) if urls else {}
    return [_check(path, of_url[path] if path in of_url else _stat(path)) for path in paths]


def _stat(path: str) -> os.stat_result | OSError:
    try:
        return os.stat(path)
    except OSError as error:
        return error


def _check(path: str, status: Status | OSError) -> Status | str:
    """The status of a file that has something in it, or why it cannot be read."""
    if isinstance(status, OSError):
        return describe_os_error(path, status)
    if stat.S_ISREG(status.st_mode):
        return status if status.st_size else "empty file"
    # opening a named pipe would wait for ever
    return "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "a device or pipe, not a file"


def _digest(path: str, keep: Callable[[str, bytes], None] | None) -> bytes | str:
    try:
        if keep is None or not is_url(path):
            return digest_file(path)
        content = shared_remote().read(path)
        keep(path, content)
        return digest_bytes(content)
    except OSError as error:
        return describe_os_error(path, error)
