"""Temporary folders that disappear with the process; those of killed processes disappear with the next."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featx.errors import StoreError

_NAME = re.compile(r"featx-(?P<host>.+)-(?P<pid>\d{1,9})-[^-]+")
_OLD = 3600.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_ANOTHER = "Free some space there, or set TMPDIR to a folder that can be written to."


def make_temporary_folder() -> Path:
    """A new folder, named after this process. Those that killed processes of this machine left go at the same time.

    Raises
    ------
    StoreError
        Nothing can be written to the temporary folder.
    """
    try:
        remove_temporary_folders_of_the_dead()
        return Path(tempfile.mkdtemp(prefix=f"featx-{socket.gethostname()}-{os.getpid()}-"))
    except OSError as error:
        where = os.environ.get("TMPDIR", "the temporary folder")
        raise StoreError(
            f"No temporary folder can be made in {where}: {error.strerror or error}. {_ANOTHER}"
        ) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder, which is gone afterwards.

    Raises
    ------
    StoreError
        It is full, or a limit forbids to write to it; an error that names a file elsewhere stays as it is.
    """
    folder = make_temporary_folder()
    try:
        yield folder
    except OSError as error:  # where the bytes of an open file cannot be written, it names no file
        elsewhere = error.filename is not None and folder not in Path(os.fsdecode(error.filename)).parents
        if error.errno not in _FULL or elsewhere:
            raise
        reason = os.strerror(error.errno)
        raise StoreError(f"Nothing more can be written to {folder.parent}: {reason}. {_ANOTHER}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine. Windows cannot ask without harm: there every one does."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_temporary_folders_of_the_dead() -> None:
    """Remove folders that are an hour old and belong to processes of this machine that run no more."""
    for path in Path(tempfile.gettempdir()).glob("featx-*-*-*"):
        named = _NAME.fullmatch(path.name)
        if named is None or named["host"] != socket.gethostname() or is_alive(int(named["pid"])):
            continue
        with suppress(OSError):
            status = path.lstat()
            if path.is_dir() and not path.is_symlink() and time.time() - status.st_mtime > _OLD:
                shutil.rmtree(path, ignore_errors=True)
