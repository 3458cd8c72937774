"""Digests in NumPy arrays of dtype V32, 32 bytes each.

V32 and not S32: of an `S` value NumPy takes the zero bytes off the end, and one digest in 256 ends in one. Arrays of
`V` compare, sort and search by all of their bytes, in the order of `bytes`, as fast as those of `S`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

DIGEST_BYTES = 32
DIGEST = np.dtype(f"V{DIGEST_BYTES}")
NO_DIGEST = np.void(bytes(DIGEST_BYTES))  # in place of the digest of what cannot be read


def digest_array(digests: Iterable[bytes]) -> np.ndarray:
    """Digests of 32 bytes each as V32 (n,); its `tolist` is the way back."""
    return np.array(list(digests), DIGEST)


def has_digest(digests: np.ndarray) -> np.ndarray:
    """Which of the digests V32 (n,) are of something that could be read: bool (n,)."""
    return np.asarray(digests != NO_DIGEST)


def as_bytes(digests: np.ndarray) -> np.ndarray:
    """Digests V32 (n,) as uint8 (n, 32), as files hold them."""
    return np.ascontiguousarray(digests).view(np.uint8).reshape(-1, DIGEST_BYTES)


def from_bytes(rows: np.ndarray) -> np.ndarray:
    """The reverse of `as_bytes`."""
    return np.ascontiguousarray(rows, np.uint8).view(DIGEST).ravel()


def prefixes(values: np.ndarray) -> np.ndarray:
    """The first eight bytes of digests, or of what begins with one, as numbers in the same order: uint64 (n,).

    They sort and search in a fraction of the time and memory, and different digests hardly ever share them.
    """
    joined = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.dtype.itemsize)
    return joined[:, :8].copy().view(">u8").ravel().astype(np.uint64)


def first_of_equal(values: np.ndarray) -> np.ndarray:
    """Positions of the first of every value V (n,), ascending: int64 (different values,)."""
    starts = prefixes(values)
    order = np.argsort(starts, kind="stable")
    alike = starts[order[1:]] == starts[order[:-1]]
    different = np.ones(len(values), bool)
    if alike.any():
        different[order[1:][alike]] = different[order[:-1][alike]] = False
        some = np.flatnonzero(~different)
        different[some[np.unique(values[some], return_index=True)[1]]] = True
    return np.flatnonzero(different)


def is_among(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which values V (n,) are among others: bool (n,)."""
    found = np.isin(prefixes(values), prefixes(others))
    found[found] = np.isin(values[found], others)
    return np.asarray(found)
