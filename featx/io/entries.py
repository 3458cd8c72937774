"""Tables of entries in one SQLite file that is only a cache: losing it costs time, never a result.

Every entry carries a checksum of its own. Whatever shows that the file is damaged, an entry that does not match its
checksum or an error of SQLite, sets it aside (`.damaged`), and it is begun anew. Entries that featx 0.1.0 has left get
their checksum when the file is opened.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from featx.errors import StoreError
from featx.io.files import make_folder

_CHECKSUM = "checksum"
_logger = logging.getLogger(__name__)
# A damaged length asks for more memory than there is, and an error may quote text that is none.
_ERRORS = (sqlite3.Error, MemoryError, UnicodeDecodeError)
# Of these the file is innocent: locked, read-only, a full disk, an error of the disk.
_OF_THE_SYSTEM = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
}


class Entries:
    """Tables in one SQLite file. Where that cannot be opened or written, they are kept in memory.

    tables : of each its columns, as SQL has them, the first of which are its key
    keys : how many of them
    """

    def __init__(self, path: Path, tables: Mapping[str, Sequence[str]], keys: Mapping[str, int]) -> None:
        self.path = path
        self._tables, self._keys = tables, keys
        self._inode: int | None = None
        self._connection = self._open()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, table: str, where: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The entries for which `where` holds; none where the file turns out to be damaged."""
        try:
            rows = self._connection.execute(f"SELECT * FROM {table} WHERE {where}", values).fetchall()  # noqa: S608
        except _ERRORS as error:
            self._recover(error)
            return []
        if any(row[-1] != _checksum(*row[:-1]) for row in rows):
            self._begin_anew("an entry does not match its checksum")
            return []
        return [row[:-1] for row in rows]

    def put(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write entries in place of those with the same key."""
        checked = [(*row, _checksum(*row)) for row in rows]
        if not checked:
            return
        marks = ",".join("?" * len(checked[0]))
        try:
            with self._connection:
                self._connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", checked)  # noqa: S608
        except _ERRORS as error:
            self._recover(error)

    def _open(self) -> sqlite3.Connection:
        make_folder(self.path.parent)
        try:
            return self._connect()
        except _ERRORS as error:
            if _of_the_system(error):
                return self._connect_in_memory()
        return self._connect_anew()

    def _connect_anew(self) -> sqlite3.Connection:
        try:
            self._set_aside()
            return self._connect()
        except (OSError, *_ERRORS):
            return self._connect_in_memory()

    def _connect_in_memory(self) -> sqlite3.Connection:
        try:
            return self._connect(":memory:")
        except _ERRORS as error:
            raise StoreError(
                f"SQLite cannot be used here ({error}). Check the memory and the limits, then run again."
            ) from error

    def _connect(self, path: str | None = None) -> sqlite3.Connection:
        connection = sqlite3.connect(path or self.path, timeout=10, check_same_thread=False)
        try:
            connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            for table in self._tables:
                self._prepare(connection, table)
            self._inode = None if path else self.path.stat().st_ino
        except BaseException:  # Ctrl-C as well: nobody else could close it
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, table: str) -> None:
        """Make a table, or add the checksums to one that has none."""
        columns = self._tables[table]
        names = [column.split()[0] for column in columns]
        key = ", ".join(names[: self._keys[table]])
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)}, {_CHECKSUM} INTEGER, PRIMARY KEY ({key}))"
            " WITHOUT ROWID"
        )
        if _column_names(connection, table) == names:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                if _column_names(connection, table) == names:  # no other process was first
                    connection.create_function("checksum_of", -1, _checksum)
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {_CHECKSUM} INTEGER")
                    connection.execute(f"UPDATE {table} SET {_CHECKSUM} = checksum_of({', '.join(names)})")  # noqa: S608
        if _column_names(connection, table) != [*names, _CHECKSUM]:
            raise sqlite3.DatabaseError(f"the table {table} has other columns")

    def _recover(self, error: Exception) -> None:
        """Begin the file anew where an error shows that it is damaged; raise one that is a mistake here."""
        if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise error
        if not _of_the_system(error):  # forgetting costs time, not the result
            coded = getattr(error, "sqlite_errorcode", None) is not None  # others quote what is in the file
            self._begin_anew(str(error) if coded else "it holds values that cannot be read")

    def _begin_anew(self, reason: str) -> None:
        _logger.warning("%s is damaged (%s) and is rebuilt, which costs only time.", self.path, reason)
        self._connection.close()
        self._connection = self._connect_anew()

    def _set_aside(self) -> None:
        """Rename the file, and those beside it, which another database of its name must not find."""
        with suppress(FileNotFoundError):
            if self._inode not in (None, self.path.stat().st_ino):  # another process has begun it anew
                return
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.replace(f"{self.path}{ending}", f"{self.path.with_suffix('.damaged')}{ending}")


def _of_the_system(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _OF_THE_SYSTEM and code != sqlite3.SQLITE_IOERR_SHORT_READ


def _column_names(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]


def _checksum(*values: Any) -> int:
    plain = [value.hex() if isinstance(value, bytes) else str(value) for value in values]
    return zlib.crc32(repr(plain).encode("utf-8", "backslashreplace"))
