"""Untrusted zip files: sizes are known before anything is read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_ENCRYPTED = 0x1


def require_stored(path: Path) -> None:
    """Refuse a zip with compressed or encrypted members, as featx writes none: a few bytes of one can be gigabytes.

    Raises
    ------
    ValueError
        There is one, or the members claim to be larger than the file.
    zipfile.BadZipFile
        It is not a whole zip file.
    """
    with zipfile.ZipFile(path) as archive:
        require_stored_members(archive, path)


def require_stored_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an open zip file, as `require_stored` does."""
    for member in archive.infolist():
        if member.flag_bits & _ENCRYPTED:
            raise ValueError(f"{member.filename} in it is encrypted")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"{member.filename} in it is compressed, which featx never does")
    if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
        raise ValueError("its members claim to be larger than the file")


def floats(arrays: Mapping[str, np.ndarray[Any, Any]], name: str) -> np.ndarray[Any, Any]:
    """One of the arrays of a file, which has to be of floating-point numbers: nothing else is made into such.

    Raises
    ------
    ValueError
        It is of another type.
    KeyError
        There is none of that name.
    """
    found = arrays[name]
    if found.dtype.kind != "f":
        raise ValueError(f"{name} in it is of {found.dtype}, not of floating-point numbers")
    return found


def load_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an `.npz` file that is not compressed, by name. Nothing is unpickled.

    Raises
    ------
    ValueError
        It is not one, or it is damaged.
    OSError
        It cannot be read.
    """
    try:
        require_stored(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except MemoryError as error:
        raise ValueError("an array in it claims to be larger than the memory") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, TypeError, KeyError) as error:
        raise ValueError(str(error)) from error
