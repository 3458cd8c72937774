"""Which image was in which part, as a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from featx.errors import BundleError
from featx.io.digest_arrays import as_bytes
from featx.io.files import atomic_path


def write_split(path: Path, digests: np.ndarray, split: np.ndarray) -> None:
    """Write which image is in which part: digest V32 (n,), split uint8 (n,)."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, digest=as_bytes(digests), split=split.astype(np.uint8))


def read_split(path: Path) -> dict[bytes, int]:
    """Digest (32 bytes) -> split code."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return {row.tobytes(): int(code) for row, code in zip(held["digest"], held["split"], strict=True)}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} is damaged: {error}. Remove it; the split is then made anew.") from error
