"""Files that are either whole or absent, content digests, and the memory of both.

Everything that featx writes goes through `atomic_path` or `write_atomic`: a temporary name in the same directory,
flushed to the disk, then renamed. A reader never sees a half-written file, and a killed run leaves only a `.tmp-` file
that `remove_stale` deletes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from featx import remote
from featx.errors import StoreError, UsageError
from featx.remote import Entry, is_url

TEMPORARY = ".tmp-"
# A file that changed less than this long before it was hashed may change again within one tick of its mtime.
MTIME_TRUST_NS = 2_000_000_000
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}  # file systems without hard links

Status = os.stat_result | Entry
"""What is known of a file without opening it: of one on this machine, or of one on a server"""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to the disk and renamed to `path`.

    Raises
    ------
    StoreError
        When the disk is full, or where no file can be written. Nothing is left behind.
    UsageError
        A URL: results are written to this machine.
    """
    require_local(path)
    make_folder(path.parent)
    if path.is_dir():  # renaming would fail in the end, after hours maybe
        raise StoreError(f"{path} is a folder, and a file is written. Name a file in it, or another one.")
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        raise _explain_start(error, path, temporary) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `path`, which must not exist; on success it is flushed and renamed to it.

    replace : a directory that is there already goes, once the new one is whole
    """
    require_local(path)
    make_folder(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        if replace and path.exists():
            _exchange(path, temporary)
        else:
            temporary.rename(path)
        _flush(path.parent)
    except OSError as error:
        raise _explain_start(error, path, temporary) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises
    ------
    StoreError
        A file is where a folder has to be, nothing can be made there, or the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explain_folder(error, path) from error


def _explain_folder(error: OSError, path: Path) -> Exception:
    taken = next((one for one in (path, *path.parents) if os.path.lexists(one) and not one.is_dir()), None)
    if taken is not None:
        return StoreError(f"{taken} has to be a folder, and it is a file. Choose another name, or move it away.")
    if isinstance(error, FileNotFoundError):  # as in /proc
        return StoreError(f"Nothing can be written into {path}: {error.strerror}. Choose another folder.")
    return explain_os_error(error, path / "file")


def _explain_start(error: OSError, path: Path, temporary: Path) -> Exception:
    """As `explain_os_error`, and a folder in which not even the temporary file can be made. Renaming has two names."""
    if isinstance(error, FileNotFoundError) and error.filename2 is None and str(error.filename) == str(temporary):
        return _explain_folder(error, path.parent)
    return explain_os_error(error, path)


def require_local(path: Path) -> None:
    """Refuse a URL (`UsageError`), of which `Path` makes a folder that is called `s3:`."""
    scheme = path.parts[0] if path.parts else ""
    if len(scheme) > 2 and scheme.endswith(":"):
        raise UsageError(
            f"Results are written to this machine, got {scheme}//{'/'.join(path.parts[1:])}. Name a folder or a file."
        )


def _exchange(path: Path, temporary: Path) -> None:
    """Swap two directories: there is no moment in which `path` is half of each, but one in which it is not there."""
    aside = temporary.with_name(f"{temporary.name}-old")
    path.rename(aside)
    try:
        temporary.rename(path)
    except OSError:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinity are refused: they are not JSON."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def publish(path: Path, content: bytes) -> None:
    """Write `content` under a name that nobody has yet, made visible by a link: an existing file is never replaced."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            temporary.rename(path)  # the name holds 32 random bits: nobody else has it
        _flush(path.parent)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def explain_os_error(error: OSError, path: Path) -> Exception:
    """A full disk and a forbidden folder as one sentence; any other error as it is."""
    if error.errno in _NO_SPACE:
        return StoreError(
            f"No space left on the disk that holds {path.parent}. What was finished is kept: free some space "
            "and run the same command again."
        )
    if error.errno in {errno.EIO, errno.EFBIG}:
        return StoreError(f"Cannot write {path}: {error.strerror}. Check the disk and its limits, then run again.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StoreError(
            f"Cannot write to {path.parent}: {error.strerror}. Choose another folder or change its rights."
        )
    return error


def remove_stale(directory: Path, older_than: float = 3600.0, deep: bool = True) -> int:
    """Delete temporary files that a killed process left in `directory`; return the bytes freed.

    deep : also those in folders of it, at any depth
    """
    freed = 0
    for path in list((directory.rglob if deep else directory.glob)(f"{TEMPORARY}*")):
        try:
            status = path.stat()
            if time.time() - status.st_mtime <= older_than:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
                freed += status.st_size
        except FileNotFoundError:
            continue
    return freed


def digest_bytes(content: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(content).digest()


def digest_file(path: str | Path) -> bytes:
    """SHA-256 of the bytes of a file, which may lie on a URL, 32 bytes."""
    if is_url(path):
        return digest_bytes(remote.read(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form (sorted keys, no spaces), as hexadecimal text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows has no way to flush a directory
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EBADF}:  # a directory on a file system that cannot flush one
            raise
    finally:
        os.close(descriptor)


class StatIndex:
    """What is known of unchanged files and of networks, in one SQLite file (`cache/index.sqlite`).

    A file's digest is remembered by (path, size, mtime, inode) and forgotten when any of them changes. A digest taken
    within two seconds of the file's mtime is not remembered, since the file may change again unseen. For URLs the
    server's tag stands in for mtime and inode, or its time where it gives no tag (`featx.remote.Entry`). Bad images are
    remembered by (digest, decoder), facts about networks by (kind, key). Losing the file costs time, never a result:
    a damaged index is set aside and begun anew, whenever the damage shows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = self._open()

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
        connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, inode INTEGER,"
            " digest BLOB) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS bad (digest BLOB, decoder TEXT, reason TEXT, PRIMARY KEY (digest, decoder))"
            " WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS facts (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;"
        )
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

    def known_bad(self, decoder: str) -> dict[bytes, str]:
        """Digest and reason of every image that this decoder could not read."""
        return dict(self._query("SELECT digest, reason FROM bad WHERE decoder = ?", (decoder,)))

    def remember_bad(self, decoder: str, rows: Iterable[tuple[bytes, str]]) -> None:
        """Remember (digest, reason) of images that this decoder could not read."""
        self._write("INSERT OR REPLACE INTO bad VALUES (?, ?, ?)", [(d, decoder, r) for d, r in rows])

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

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _inode(status: Status) -> int:
    # SQLite integers are signed 64 bit; Windows has inodes beyond that.
    return status.st_ino & 0x7FFF_FFFF_FFFF_FFFF
