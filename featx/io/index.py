"""What is remembered of unchanged files and of networks, in one SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from featx.io.files import make_folder

# A file that changed less than this long before it was hashed may change again within one tick of its mtime.
MTIME_TRUST_NS = 2_000_000_000

if TYPE_CHECKING:
    from featx.io.remote import RemoteStatus

Status: TypeAlias = "os.stat_result | RemoteStatus"
"""What is known of a file without opening it: of one on this machine, or of one on a server"""

_SCHEMA = (
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, inode INTEGER,"
    " digest BLOB) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS bad (digest BLOB, decoder TEXT, reason TEXT, PRIMARY KEY (digest, decoder))"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS classes (digest BLOB PRIMARY KEY, revision INTEGER, decoder INTEGER) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS facts (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;"
)


class StatIndex:
    """What is known of unchanged files and of networks, in one SQLite file (`cache/index.sqlite`).

    A file's digest is remembered by (path, size, mtime, inode) and forgotten when any of them changes. A digest taken
    within two seconds of the file's mtime is not remembered, since the file may change again unseen. For URLs the
    server's tag stands in for mtime and inode, or its time where it gives no tag (`RemoteStatus`). Unreadable images
    are remembered by (digest, decoder), facts about networks by (kind, key). Losing the file costs time, never a
    result: a damaged index is set aside and begun anew, whenever the damage shows.

    It is a context manager: `with StatIndex(path) as index` closes the file at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is remembered or recalled afterwards."""
        self._connection.close()

    def _open(self) -> sqlite3.Connection:
        make_folder(self.path.parent)
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked or not writable: the file itself is fine
                return self._connect(":memory:")
            self._set_aside()
            return self._connect()

    def _set_aside(self) -> None:
        """Rename the file, and those beside it, which another database of its name must not find."""
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.replace(f"{self.path}{ending}", f"{self.path.with_suffix('.damaged')}{ending}")

    def _connect(self, path: str | None = None) -> sqlite3.Connection:
        connection = sqlite3.connect(path or self.path, timeout=10, check_same_thread=False)
        try:
            connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def known_digests(self, paths: Sequence[str], status: Sequence[Status | None]) -> list[bytes | None]:
        """The remembered digest of each file, None where it is unknown or the file has changed.

        paths : absolute paths, or URLs; status : what is known of each (None: not a file)
        """
        known: dict[str, tuple[int, int, int, bytes]] = {}
        for start in range(0, len(paths), 500):
            some = paths[start : start + 500]
            marks = ",".join("?" * len(some))
            for path, *row in self._query(
                f"SELECT path, size, mtime, inode, digest FROM files WHERE path IN ({marks})",  # noqa: S608
                some,
            ):
                known[path] = (row[0], row[1], row[2], row[3])
        found: list[bytes | None] = []
        for path, now in zip(paths, status, strict=True):
            row4 = known.get(path)
            same = row4 is not None and now is not None and row4[:3] == (now.st_size, now.st_mtime_ns, _inode(now))
            found.append(row4[3] if row4 is not None and same else None)
        return found

    def remember_digests(self, rows: Iterable[tuple[str, Status, bytes]]) -> None:
        """Remember (path, status before hashing, digest); a file that changed within two seconds is left out."""
        now = time.time_ns()
        trusted = [
            (path, status.st_size, status.st_mtime_ns, _inode(status), digest)
            for path, status, digest in rows
            if now - status.st_mtime_ns > MTIME_TRUST_NS
        ]
        self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", trusted)

    def known_unreadable(self, decoder: str) -> dict[bytes, str]:
        """Digest and reason of every image that this decoder could not read."""
        return dict(self._query("SELECT digest, reason FROM bad WHERE decoder = ?", (decoder,)))

    def remember_unreadable(self, decoder: str, rows: Iterable[tuple[bytes, str]]) -> None:
        """Remember (digest, reason) of images that this decoder could not read."""
        self._write("INSERT OR REPLACE INTO bad VALUES (?, ?, ?)", [(d, decoder, r) for d, r in rows])

    def known_classes(self, digests: Sequence[bytes], decoder: int) -> dict[bytes, int]:
        """The revision of the class of each image that was looked at by a decoder of this revision."""
        known: dict[bytes, int] = {}
        for start in range(0, len(digests), 500):
            some = digests[start : start + 500]
            marks = ",".join("?" * len(some))
            statement = f"SELECT digest, revision FROM classes WHERE decoder = ? AND digest IN ({marks})"  # noqa: S608
            known.update(self._query(statement, (decoder, *some)))
        return known

    def remember_classes(self, revisions: Mapping[bytes, int], decoder: int) -> None:
        """Remember the revision of the class of images, as a decoder of this revision sees them."""
        rows = [(digest, revision, decoder) for digest, revision in revisions.items()]
        self._write("INSERT OR REPLACE INTO classes VALUES (?, ?, ?)", rows)

    def recall(self, kind: str, key: str) -> Any:
        """A remembered fact, None when there is none."""
        rows = self._query("SELECT value FROM facts WHERE kind = ? AND key = ?", (kind, key))
        return json.loads(rows[0][0]) if rows else None

    def remember(self, kind: str, key: str, value: Any) -> None:
        """Remember a fact; `value` is anything that JSON can hold."""
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", [(kind, key, json.dumps(value))])

    def _query(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """The rows found; none where the file turns out to be damaged."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            self._recover(error)
            return []

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        try:
            with self._connection:
                self._connection.executemany(statement, rows)
        except sqlite3.OperationalError:  # full disk or locked: forgetting costs time, not the result
            return
        except sqlite3.DatabaseError as error:
            self._recover(error)

    def _recover(self, error: sqlite3.DatabaseError) -> None:
        """Begin the file anew when a page of it is damaged, which opening it does not show."""
        if type(error) is not sqlite3.DatabaseError:  # a subclass: locked, or a mistake here
            raise error
        self._connection.close()
        self._set_aside()
        self._connection = self._connect()


def _inode(status: Status) -> int:
    # SQLite integers are signed 64 bit; Windows has inodes beyond that.
    return status.st_ino & 0x7FFF_FFFF_FFFF_FFFF
