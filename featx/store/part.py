"""One part: a plain HDF5 file of feature rows, immutable once visible.

    features  (n, ...)  float16 or float32, contiguous, so that readers can map it
    digest    (n, 32)   uint8, SHA-256 of the image file
    view      (n,)      uint16, 0 for the image itself
    checksum  (n,)      uint32, CRC-32 of the row's features, digest, view and path
    path      (n,)      fixed-length utf-8, where the image was first seen
    revision  (n,)      uint16, of the decoder that read the image; absent in parts of featx 0.1.0, which is revision 0

HDF5's own Fletcher32 needs chunks, which would forbid mapping; hence a checksum per row.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import secrets
import socket
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featx.errors import StoreError
from featx.io.digest_arrays import DIGEST_BYTES, as_bytes, from_bytes
from featx.io.files import make_folder, publish
from featx.store.key import SCHEMA

SUFFIX = ".h5"
ZSTD_FILTER = 32015  # https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
_COLUMNS = ("features", "digest", "view", "path", "checksum")
_TYPES = {"features": ("<f2", "<f4"), "digest": ("u1",), "view": ("<u2",), "checksum": ("<u4",), "revision": ("<u2",)}
# What h5py and NumPy raise on files with flipped bits, found by flipping each of them.
_DAMAGE = (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError)
# Of these the file is innocent.
_OF_THE_SYSTEM = {errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EINTR, errno.ESTALE}
_GONE = {errno.ENOENT, errno.ESTALE}
_LOCK = "unable to lock file"  # of HDF5, which h5py gives on with whatever number the file system answers


class DamagedPart(StoreError):  # noqa: N818 - named for the part
    """A part whose rows are to be computed again. Any other StoreError says nothing against the file."""


class RemovedPart(StoreError):  # noqa: N818 - named for the part
    """A part that a prune or a repair took away after it was found. Its rows are in another one."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} was removed while it was read (a prune?). Run the same command again.")


@dataclass(frozen=True)
class PartRows:
    """Rows of one layer and pooling: digest V32 (n,), view uint16 (n,), path bytes (n,), features (n, ...).

    revision : of the decoder that read the images, uint16 (n,); 0 for all where it is left out
    """

    digest: np.ndarray
    view: np.ndarray
    path: np.ndarray
    features: np.ndarray
    revision: np.ndarray | None = None

    @property
    def revisions(self) -> np.ndarray:
        """The revision of every row, uint16 (n,)."""
        return np.zeros(len(self), np.uint16) if self.revision is None else self.revision

    def __len__(self) -> int:
        return len(self.digest)

    def take(self, rows: np.ndarray) -> PartRows:
        """Some of the rows, by position or mask."""
        revision = None if self.revision is None else self.revision[rows]
        return PartRows(self.digest[rows], self.view[rows], self.path[rows], self.features[rows], revision)

    def checksums(self) -> np.ndarray:
        """CRC-32 of every row, uint32 (n,)."""
        views = np.ascontiguousarray(self.view, dtype="<u2").view(np.uint8).reshape(-1, 2)
        names = np.concatenate([as_bytes(self.digest), views], axis=1).ravel().data  # slices of memory cost least
        numbers = np.ascontiguousarray(self.features).ravel().view(np.uint8).data
        width, name = len(numbers) // max(1, len(self)), DIGEST_BYTES + 2
        found = np.empty(len(self), np.uint32)
        for i, path in enumerate(self.path.tolist()):
            crc = zlib.crc32(numbers[i * width : (i + 1) * width])
            found[i] = zlib.crc32(path, zlib.crc32(names[i * name : (i + 1) * name], crc))
        return found


@dataclass(frozen=True)
class Part:
    """What a reader needs of a part: who is in it, and where its numbers lie.

    digest : V32 (n,); view : uint16 (n,)
    row_shape, dtype : of one row of features
    offset : bytes from the start of the file to contiguous features; None for compressed ones
    revision : of the decoder that read each image, uint16 (n,); None: 0 for all
    """

    path: Path
    digest: np.ndarray
    view: np.ndarray
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    revision: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.digest)

    def map(self) -> np.ndarray:
        """All features (n, ...), mapped read-only where they are contiguous, else read.

        Raises
        ------
        RemovedPart
            A prune has taken the part away.
        """
        shape = (len(self), *self.row_shape)
        try:
            if self.offset is not None:
                return np.memmap(self.path, self.dtype, "r", self.offset, shape)
            _need_zstd()
            with open_hdf5(self.path) as file:
                return np.asarray(file["features"][:])
        except OSError as error:
            if error.errno in _GONE:
                raise RemovedPart(self.path) from None
            raise


def write_part(directory: Path, rows: PartRows, attributes: dict[str, str], compression: str = "none") -> Path:
    """Publish `rows` as a new part in `directory`, whole or not at all.

    The file is built in memory first: a full disk then shows as one error of one write, and never inside HDF5.
    """
    now = time.time_ns()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9)) + f".{now // 1000 % 1_000_000:06d}"
    path = directory / f"{stamp}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
    make_folder(directory)
    publish(path, _file_image(rows, attributes, compression))
    return path


def _file_image(rows: PartRows, attributes: dict[str, str], compression: str) -> bytes:
    image = io.BytesIO()
    checksum = rows.checksums()
    aligned = {"alignment_threshold": 1, "alignment_interval": 64}  # NumPy is slow on features mapped at an odd place
    # In the format of HDF5 1.10, and not before it, HDF5's own structures have checksums: without them a flipped bit
    # can send the library into an endless loop.
    with h5py.File(image, "w", libver=("v110", "v110"), **aligned) as file:
        file.attrs["schema"] = SCHEMA
        for name, value in attributes.items():  # of fixed length: the heap of the others has no checksum
            file.attrs.create(name, value.encode(), dtype=h5py.string_dtype("utf-8", len(value.encode())))
        file.create_dataset("digest", data=as_bytes(rows.digest))
        file.create_dataset("view", data=rows.view.astype(np.uint16))
        file.create_dataset("checksum", data=checksum)
        if rows.revision is not None:
            file.create_dataset("revision", data=rows.revision.astype(np.uint16))
        text = h5py.string_dtype("utf-8", max(1, rows.path.dtype.itemsize))
        file.create_dataset("path", data=rows.path.astype(text))
        file.create_dataset("features", data=rows.features, **_layout(rows.features, compression))
    return image.getvalue()


def _layout(features: np.ndarray, compression: str) -> dict[str, Any]:
    if compression == "none":
        return {}
    # Whole rows, about 256 kB a chunk. No shuffle: it hurts on features that are half zeros.
    row_bytes = max(1, features[0].nbytes)
    rows = int(np.clip(262_144 // row_bytes, 1, len(features)))
    return {"chunks": (rows, *features.shape[1:]), **_need_zstd().Zstd(clevel=1)}


def _need_zstd() -> Any:
    try:
        return importlib.import_module("hdf5plugin")
    except ImportError:
        raise StoreError(
            "Features with compression zstd need the package hdf5plugin, which is not installed. "
            "Type: pip install hdf5plugin"
        ) from None


def open_hdf5(path: Path) -> h5py.File:
    """Open a part to read it, without a lock: it never changes, and some file systems have no locks.

    Raises
    ------
    DamagedPart
        It is a pipe or a device, which nothing may ever come out of.
    """
    if path.exists() and not path.is_file():
        raise DamagedPart(f"{path} is not a file.")
    return h5py.File(path, "r", locking=False)


def open_part(path: Path, attributes: dict[str, str]) -> Part:
    """Read a part's identities and the place of its features.

    Raises
    ------
    DamagedPart
        When the file is damaged, of a newer schema, or not of this store.
    StoreError
        When it could not be looked at (no right to read it, too many open files).
    """
    try:
        with open_hdf5(path) as file:
            _check_attributes(file, path, attributes)
            features, digest, view = _open_columns(file, path, "features", "digest", "view")
            offset = None if features.chunks else features.id.get_offset()
            row_shape, revision = tuple(features.shape[1:]), _read_revision(file, path)
            return Part(path, from_bytes(digest[:]), view[:], row_shape, features.dtype, offset, revision)
    except (FileNotFoundError, StoreError):
        raise
    except _DAMAGE as error:
        raise _explain(error, path) from error


def _check_attributes(file: h5py.File, path: Path, attributes: dict[str, str]) -> None:
    schema = int(file.attrs.get("schema", 0))
    if schema != SCHEMA:
        raise DamagedPart(f"{path} has schema {schema}, this featx reads {SCHEMA}.")
    for name, expected in attributes.items():
        found = _read_text(file, name)
        if found != expected:
            raise DamagedPart(f"{path} says {name} {found!r} where {expected!r} is expected.")


def _read_text(file: h5py.File, name: str) -> str:
    text = file.attrs[name]
    return text if isinstance(text, str) else bytes(text).decode()


def _open_columns(file: h5py.File, path: Path, *names: str) -> list[Any]:
    """These datasets. Types, lengths and places that `write_part` never makes are refused: no checksum covers them."""
    columns = [file[name] for name in names]
    size = path.stat().st_size
    for name, column in zip(names, columns, strict=True):
        known = column.dtype in _TYPES[name] if name in _TYPES else column.dtype.kind == "S"
        width_known = (
            column.shape[1:] == (DIGEST_BYTES,) if name == "digest" else name == "features" or column.ndim == 1
        )
        if not known or not width_known or len(column) != len(columns[0]) or 0 in column.shape:
            raise DamagedPart(f"{path} has a column {name} of {column.dtype} {column.shape}.")
        if not column.chunks and (column.id.get_offset() or 0) + column.nbytes > size:
            raise DamagedPart(f"{path} is truncated: its {name} extend past the end of the file.")
    return columns


def _read_revision(file: h5py.File, path: Path) -> np.ndarray | None:
    if "revision" not in file:
        return None
    revision: np.ndarray = _open_columns(file, path, "digest", "revision")[1][:]
    return revision


def read_name(path: Path) -> str:
    """The table that a part says it belongs to, `layer@pooling`. Raises as `open_part` does."""
    try:
        with open_hdf5(path) as file:
            return f"{_read_text(file, 'layer')}@{_read_text(file, 'pooling')}"
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise _explain(error, path) from error


def _explain(error: Exception, path: Path) -> StoreError:
    if _LOCK in str(error):  # HDF5_USE_FILE_LOCKING outweighs what is asked for
        return StoreError(
            f"Cannot read {path}: it cannot be locked here. Set HDF5_USE_FILE_LOCKING=FALSE; featx needs no locks."
        )
    if getattr(error, "errno", None) in _OF_THE_SYSTEM or isinstance(error, MemoryError):
        return StoreError(f"Cannot read {path}: {os.strerror(getattr(error, 'errno', None) or errno.ENOMEM)}.")
    return DamagedPart(f"{path} cannot be read as a part: {error}")


def read_rows(path: Path) -> tuple[PartRows, np.ndarray]:
    """A whole part, and the mask (n,) of the rows whose checksum holds.

    Raises
    ------
    DamagedPart
        When the file as a whole is damaged.
    RemovedPart
        When a prune has taken it away.
    StoreError
        When it could not be read for another reason.
    """
    try:
        with open_hdf5(path) as file:
            features, digest, view, names, checksum = _open_columns(file, path, *_COLUMNS)
            if features.chunks:
                _need_zstd()
            revision = _read_revision(file, path)
            rows = PartRows(from_bytes(digest[:]), view[:], names[:].astype(np.bytes_), features[:], revision)
            stored = checksum[:]
    except FileNotFoundError:
        raise RemovedPart(path) from None
    except StoreError:
        raise
    except _DAMAGE as error:
        raise _explain(error, path) from error
    return rows, rows.checksums() == stored


def path_array(paths: Sequence[str]) -> np.ndarray:
    """Paths as utf-8 bytes of one length, (n,). Undecodable names survive as they are."""
    return np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
