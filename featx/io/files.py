"""Atomic files: complete or absent.

Everything that featx writes goes through `atomic_path` or `write_atomic`: a temporary name in the same directory,
flushed to the disk, then renamed. A reader never sees a half-written file, and a killed run leaves only a `.tmp-` file
that `remove_stale` deletes.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from featx.errors import StoreError, UsageError
from featx.io.shown import as_json, as_utf8
from featx.io.temporary import is_alive

TEMPORARY = ".tmp-"
_MADE = re.compile(rf"{re.escape(TEMPORARY)}(\d{{1,9}})-[0-9a-f]{{8}}-")  # as `temporary_beside` names them
_PROBE = 1 << 20
_LONGEST_NAME = 240  # bytes; most file systems allow 255, and what is put behind needs some
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}  # file systems without hard links


def temporary_beside(path: Path) -> Path:
    """A name beside `path` that nobody else has, and that `remove_stale` knows."""
    start = f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-"
    end = os.fsencode(path.name)[-(_LONGEST_NAME - len(start)) :]  # its ending is what some libraries go by
    return path.with_name(start + end.decode("ascii", "replace").replace("\ufffd", "_"))


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
        raise StoreError(f"{path} is a folder, but a file name is needed. Name a file in it, or another file.")
    temporary = temporary_beside(path)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        raise _explain_start(error, path, temporary) from error
    finally:
        remove_quietly(temporary)


@contextmanager
def atomic_directory(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `path`, which must not exist; on success it is flushed and renamed to it.

    replace : a directory that is there already goes, once the new one is whole
    """
    require_local(path)
    make_folder(path.parent)
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                flush(file)
        if replace and path.exists():
            _exchange(path, temporary)
        else:
            temporary.rename(path)
        flush(path.parent)
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
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for one in missing:
            flush(one.parent)  # else what is flushed inside it is lost with its name
    except OSError as error:
        raise _explain_folder(error, path) from error


def _explain_folder(error: OSError, path: Path) -> Exception:
    taken = next((one for one in (path, *path.parents) if os.path.lexists(one) and not one.is_dir()), None)
    if taken is not None:
        return StoreError(f"{taken} is a file, but a folder is needed. Choose another name, or move the file away.")
    if isinstance(error, FileNotFoundError):  # as in /proc
        return StoreError(f"Cannot write into {path}: {error.strerror}. Choose another folder.")
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
            f"Results are written to this machine only, got {scheme}//{'/'.join(path.parts[1:])}. "
            "Name a folder or a file."
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
        temporary.write_bytes(as_utf8(content).encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinity are refused: they are not JSON."""
    write_atomic(path, as_json(value, indent=2) + "\n")


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
        flush(path.parent)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        remove_quietly(temporary)


def try_to_write(directory: Path, size: int) -> None:
    """Write `size` bytes into a directory and remove them, for the `OSError` that a library does not name."""
    temporary = directory / f"{TEMPORARY}{secrets.token_hex(4)}"
    try:
        with open(temporary, "wb") as file:
            for start in range(0, size, _PROBE):
                file.write(bytes(min(_PROBE, size - start)))
            file.flush()
            os.fsync(file.fileno())
    finally:
        remove_quietly(temporary)


def remove(path: Path) -> None:
    """Remove a file, or a directory with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_quietly(path: Path) -> None:
    """Remove a file where that is possible: on a disk that is read-only its error would hide the one to be seen."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def explain_os_error(error: OSError, path: Path) -> Exception:
    """A full disk and a forbidden folder as one sentence; any other error as it is."""
    if error.errno in _NO_SPACE:
        return StoreError(
            f"No space left on the disk that holds {path.parent}. What was finished is kept: free some space "
            "and run the same command again."
        )
    if error.errno in {errno.EIO, errno.EFBIG}:
        reason = os.strerror(error.errno)  # and not what HDF5 makes of it
        return StoreError(f"Cannot write {path}: {reason}. Check the disk and its limits, then run again.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StoreError(
            f"Cannot write to {path.parent}: {error.strerror}. Choose another folder or change its rights."
        )
    if error.errno == errno.ENAMETOOLONG:
        return StoreError(f"The name {path.name[:60]!r}... is too long for this file system. Choose a shorter one.")
    return error


def remove_stale(directory: Path, older_than: float = 3600.0, deep: bool = True) -> int:
    """Delete temporary files that a killed process left in `directory`; return the bytes freed.

    deep : also those in folders of it, at any depth; the directory is one of featx alone then, and is not otherwise
    """
    freed = 0
    for path in list((directory.rglob if deep else directory.glob)(f"{TEMPORARY}*")):
        made = _MADE.match(path.name)
        if (made is None and not deep) or (made is not None and is_alive(int(made[1]))):
            continue
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


def flush(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
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
