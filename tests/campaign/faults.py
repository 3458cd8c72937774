"""Faults of the disk, one at a time: the n-th call fails, kills the process, or is the last before the power goes.

Calls of the C library are met by `faults.c`, loaded with LD_PRELOAD, so those of HDF5, SQLite, OpenVINO and TensorFlow
count too; `hdf5` and `sqlite` are calls of their Python packages.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# kind -> (its bit in faults.c, the error that it ends with)
CALLS = {
    "open": (1, errno.ENOSPC),
    "write": (2, errno.ENOSPC),
    "fsync": (4, errno.EIO),
    "rename": (8, errno.EIO),
    "link": (16, errno.EIO),
    "unlink": (32, errno.EROFS),
    "mkdir": (64, errno.EACCES),
    "read": (128, errno.EIO),
}
ALL_WRITING = 127
ONCE, FROM_HERE, KILL = 0, 1, 2


def build(folder: Path) -> Path:
    """Compile the library."""
    out = folder / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", out, source, "-ldl", "-lpthread"], check=True)
    return out


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ["LD_PRELOAD"])


def arm(root: Path, kind: str, n: int, action: int) -> None:
    """Let the n-th call of a kind below `root` fail (0: count only)."""
    if kind in CALLS or kind == "any":
        bit, number = CALLS.get(kind, (ALL_WRITING, errno.EIO))
        _library().faults_arm(os.fsencode(root), bit, ctypes.c_long(n), number, action)
    else:
        _COUNTERS[kind].set(n, action)


def disarm(kind: str = "any") -> int:
    """Let all calls pass again; return how many of the kind there were."""
    seen = int(_library().faults_disarm())
    return _COUNTERS[kind].disarm() if kind in _COUNTERS else seen


def record(root: Path, journal: Path) -> None:
    """Write down every call below `root`."""
    _library().faults_arm(os.fsencode(root), 0, ctypes.c_long(0), 0, 0)
    _library().faults_record(os.fsencode(journal))


# --- calls of h5py and sqlite3 -----------------------------------------------------------------------------------


@dataclass
class _Counter:
    error: Any
    seen: int = 0
    wanted: int = 0
    action: int = ONCE
    armed: bool = False

    def set(self, n: int, action: int) -> None:
        self.seen, self.wanted, self.action, self.armed = 0, n, action, True

    def disarm(self) -> int:
        self.armed = False
        return self.seen

    def call(self) -> None:
        if not self.armed:
            return
        self.seen += 1
        if self.wanted and (self.seen == self.wanted or (self.action == FROM_HERE and self.seen > self.wanted)):
            raise self.error()


def _sqlite_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


_COUNTERS = {
    "hdf5": _Counter(lambda: OSError(errno.EIO, "Can't synchronously read data (Input/output error)")),
    "sqlite": _Counter(_sqlite_error),
}


class _Connection(sqlite3.Connection):
    """A connection whose calls are counted."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        _COUNTERS["sqlite"].call()
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        _COUNTERS["sqlite"].call()
        return super().executemany(*arguments)

    def executescript(self, *arguments: Any) -> sqlite3.Cursor:
        _COUNTERS["sqlite"].call()
        return super().executescript(*arguments)


def patch_packages() -> None:
    """Count the calls of h5py and sqlite3 from now on."""
    import h5py

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            _COUNTERS["hdf5"].call()
            return real(*arguments, **options)

        return call

    h5py.File.__init__ = counted(h5py.File.__init__)
    h5py.Group.create_dataset = counted(h5py.Group.create_dataset)
    h5py.Group.__getitem__ = counted(h5py.Group.__getitem__)
    h5py.Dataset.__getitem__ = counted(h5py.Dataset.__getitem__)
    h5py.Dataset.__setitem__ = counted(h5py.Dataset.__setitem__)
    connect = sqlite3.connect

    def connect_counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        _COUNTERS["sqlite"].call()
        return connect(*arguments, factory=_Connection, **options)

    sqlite3.connect = connect_counted


# --- power loss --------------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """What is in a folder, and what of it would be left without power.

    A file keeps what it held when it was last flushed. `names` as programs see them; `kept` those that are on the disk
    because their folder, or the file itself under this name, was flushed.
    """

    root: str
    names: dict[str, int | None] = field(default_factory=dict)  # path -> file, None for a folder
    kept: dict[str, int | None] = field(default_factory=dict)
    data: dict[int, bytearray] = field(default_factory=dict)
    flushed: dict[int, bytes] = field(default_factory=dict)
    _inodes: dict[int, int] = field(default_factory=dict)
    _next: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def of(cls, root: Path) -> Disk:
        """A folder that is wholly on the disk."""
        disk = cls(str(root))
        for path in sorted(root.rglob("*")):
            number = None
            if not path.is_dir():
                number = disk._inodes[path.stat().st_ino] = next(disk._next)
                disk.data[number] = bytearray(path.read_bytes())
                disk.flushed[number] = bytes(disk.data[number])
            disk.names[str(path)] = disk.kept[str(path)] = number
        return disk

    def apply(self, kind: str, one: str, two: str, inode: int, offset: int, content: bytes) -> None:
        """One line of the journal."""
        if kind == "C":
            number = self._inodes[inode] = next(self._next)  # the number of a removed file may have come back
            self.names[one], self.data[number] = number, bytearray()
        elif kind in "WT" and inode in self._inodes:
            data = self.data[self._inodes[inode]]
            if len(data) < offset:
                data.extend(bytes(offset - len(data)))
            data[offset : offset + len(content) if kind == "W" else None] = content
        elif kind == "F" and inode in self._inodes:
            number = self._inodes[inode]
            self.flushed[number] = bytes(self.data[number])
        elif kind == "D":
            self._keep_folder(one)
        elif kind == "R":
            self._rename(one, two)
        elif kind == "L":
            self.names[two] = self.names[one]
        elif kind == "U":
            self.names.pop(one, None)
        elif kind == "M":
            self.names[one] = None

    def _rename(self, one: str, two: str) -> None:
        moved = {path: number for path, number in self.names.items() if path == one or path.startswith(f"{one}/")}
        for path in moved:
            del self.names[path]
        for path in [path for path in self.names if path == two or path.startswith(f"{two}/")]:
            del self.names[path]
        self.names.update({two + path[len(one) :]: number for path, number in moved.items()})

    def _keep_folder(self, folder: str) -> None:
        """The names in one folder are on the disk. A folder that came with all that is in it brings that along."""
        inside = {path: number for path, number in self.names.items() if _parent(path) == folder}
        known = {path for path in self.kept if _parent(path) == folder}
        for path in known - inside.keys():
            for gone in [one for one in self.kept if one == path or one.startswith(f"{path}/")]:
                del self.kept[gone]
        for path, number in inside.items():
            self.kept[path] = number
            if number is None and path not in known:
                below = {one: n for one, n in self.names.items() if one.startswith(f"{path}/")}
                self.kept.update(below)

    def write(self, target: Path, names: str) -> None:
        """Write what is left into a folder. names : "all" of them, or those that are "kept"; data as last flushed."""
        found = self.names if names == "all" else self.kept
        target.mkdir(parents=True, exist_ok=True)
        for path, number in sorted(found.items()):
            out = target / os.path.relpath(path, self.root)
            if number is None:
                out.mkdir(parents=True, exist_ok=True)
            elif names == "all" or _parent(path) in found or _parent(path) == self.root:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes(self.flushed.get(number, b""))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def read_journal(path: Path) -> Iterator[tuple[str, str, str, int, int, bytes]]:
    """The calls that were written down."""
    with open(path, "rb") as file:
        while line := file.readline():
            kind, one, two, inode, offset, size = line.decode("utf-8", "surrogateescape").rstrip("\n").split("\t")
            content = file.read(int(size))
            yield kind, one, two, int(inode), int(offset), content
