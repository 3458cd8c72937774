"""Facts about unchanged files and about networks, remembered in one SQLite file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from featx.io.entries import Entries
from featx.io.shown import as_utf8

# A file that changed less than this long before it was hashed may change again within one tick of its mtime.
INDEX_FILE = "index.sqlite"  # in the folder of a cache
MTIME_TRUST_NS = 2_000_000_000

if TYPE_CHECKING:
    from featx.io.remote import RemoteStatus

Status: TypeAlias = "os.stat_result | RemoteStatus"
"""What is known of a file without opening it: of one on this machine, or of one on a server"""

_TABLES = {
    "files": ("path TEXT", "size INTEGER", "mtime INTEGER", "inode INTEGER", "digest BLOB"),
    "bad": ("digest BLOB", "decoder TEXT", "reason TEXT"),
    "classes": ("digest BLOB", "revision INTEGER", "decoder INTEGER"),
    "facts": ("kind TEXT", "key TEXT", "value TEXT"),
}
_KEYS = {"files": 1, "bad": 2, "classes": 1, "facts": 2}  # columns that name an entry


class StatIndex:
    """What is known of unchanged files and of networks, in one SQLite file (`cache/index.sqlite`).

    A file's digest is remembered by (path, size, mtime, inode) and forgotten when any of them changes. A digest taken
    within two seconds of the file's mtime is not remembered, since the file may change again unseen. For URLs the
    server's tag stands in for mtime and inode, or its time where it gives no tag (`RemoteStatus`). Unreadable images
    are remembered by (digest, decoder), facts about networks by (kind, key). Losing the file costs time, never a
    result: a damaged index is set aside and begun anew, whenever the damage shows (`Entries`).

    It is a context manager: `with StatIndex(path) as index` closes the file at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = Entries(path, _TABLES, _KEYS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is remembered or recalled afterwards."""
        self._entries.close()

    def known_digests(self, paths: Sequence[str], status: Sequence[Status | None]) -> list[bytes | None]:
        """The remembered digest of each file, None where it is unknown or the file has changed.

        paths : absolute paths, or URLs; status : what is known of each (None: not a file)
        """
        known: dict[str, tuple[int, int, int, bytes]] = {}
        for start in range(0, len(paths), 500):
            some = [as_utf8(path) for path in paths[start : start + 500]]
            marks = ",".join("?" * len(some))
            for path, *row in self._entries.find("files", f"path IN ({marks})", some):
                known[path] = (row[0], row[1], row[2], row[3])
        found: list[bytes | None] = []
        for path, now in zip(paths, status, strict=True):
            row4 = known.get(as_utf8(path))
            same = row4 is not None and now is not None and row4[:3] == (now.st_size, _mtime(now), _inode(now))
            found.append(row4[3] if row4 is not None and same else None)
        return found

    def remember_digests(self, rows: Iterable[tuple[str, Status, bytes]]) -> None:
        """Remember (path, status before hashing, digest); a file that changed within two seconds is left out."""
        now = time.time_ns()
        trusted = [
            (as_utf8(path), status.st_size, _mtime(status), _inode(status), digest)
            for path, status, digest in rows
            if now - status.st_mtime_ns > MTIME_TRUST_NS
        ]
        self._entries.put("files", trusted)

    def known_unreadable(self, decoder: str) -> dict[bytes, str]:
        """Digest and reason of every image that this decoder could not read."""
        return {digest: reason for digest, _, reason in self._entries.find("bad", "decoder = ?", (decoder,))}

    def remember_unreadable(self, decoder: str, rows: Iterable[tuple[bytes, str]]) -> None:
        """Remember (digest, reason) of images that this decoder could not read."""
        self._entries.put("bad", [(digest, decoder, reason) for digest, reason in rows])

    def known_classes(self, digests: Sequence[bytes], decoder: int) -> dict[bytes, int]:
        """The revision of the class of each image that was looked at by a decoder of this revision."""
        known: dict[bytes, int] = {}
        for start in range(0, len(digests), 500):
            some = digests[start : start + 500]
            marks = ",".join("?" * len(some))
            rows = self._entries.find("classes", f"decoder = ? AND digest IN ({marks})", (decoder, *some))
            known.update((row[0], row[1]) for row in rows)
        return known

    def remember_classes(self, revisions: Mapping[bytes, int], decoder: int) -> None:
        """Remember the revision of the class of images, as a decoder of this revision sees them."""
        self._entries.put("classes", [(digest, revision, decoder) for digest, revision in revisions.items()])

    def recall(self, kind: str, key: str) -> Any:
        """A remembered fact, None when there is none."""
        rows = self._entries.find("facts", "kind = ? AND key = ?", (kind, key))
        return json.loads(rows[0][2]) if rows else None

    def remember(self, kind: str, key: str, value: Any) -> None:
        """Remember a fact; `value` is anything that JSON can hold."""
        self._entries.put("facts", [(kind, key, json.dumps(value))])


def _mtime(status: Status) -> int:
    # A clock that was never set gives years that 64 bits of nanoseconds do not reach (before 1677, after 2262).
    return (status.st_mtime_ns + 2**63) % 2**64 - 2**63


def _inode(status: Status) -> int:
    # SQLite integers are signed 64 bit; Windows has inodes beyond that.
    return status.st_ino & 0x7FFF_FFFF_FFFF_FFFF
