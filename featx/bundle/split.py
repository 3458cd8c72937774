"""Which image was in which part, as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.errors import BundleError
from featx.io.digest_arrays import DIGEST_BYTES, as_bytes
from featx.io.files import atomic_path
from featx.io.zips import load_arrays


def write_split(path: Path, digests: np.ndarray, split: np.ndarray) -> None:
    """Write which image is in which part: digest V32 (n,), split uint8 (n,)."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, digest=as_bytes(digests), split=split.astype(np.uint8))


def read_split(path: Path) -> dict[bytes, int]:
    """Digest (32 bytes) -> split code."""
    try:
        held = load_arrays(path)
        digests, codes = held["digest"], held["split"]
        if digests.dtype != np.uint8 or digests.shape != (len(codes), DIGEST_BYTES) or codes.dtype != np.uint8:
            raise ValueError(f"digests of {digests.dtype} {digests.shape} and parts of {codes.dtype} {codes.shape}")
        return {row.tobytes(): int(code) for row, code in zip(digests, codes, strict=True)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Remove it; the split is then made anew.") from error
