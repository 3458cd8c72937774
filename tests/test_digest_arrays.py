"""Digests in arrays: exact to the last byte, also where that is a zero."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from featx.io.digest_arrays import (
    DIGEST,
    NO_DIGEST,
    as_bytes,
    digest_array,
    first_of_equal,
    from_bytes,
    has_digest,
    is_among,
)

ALIKE = [b"x" * 31 + b"\0", b"x" * 30 + b"\0\0", b"x" * 32, b"x" * 30 + b"\0y", bytes(32), bytes(31) + b"x"]


def test_what_goes_in_comes_out() -> None:
    digests = digest_array(ALIKE)
    assert digests.dtype == DIGEST
    assert digests.tolist() == ALIKE
    assert digest_array([]).dtype == DIGEST
    assert pickle.loads(pickle.dumps(digests)).tolist() == ALIKE
    np.testing.assert_array_equal(from_bytes(as_bytes(digests)), digests)
    np.testing.assert_array_equal(as_bytes(digests[::2]), np.array([list(one) for one in ALIKE[::2]], np.uint8))
    assert has_digest(digests).tolist() == [True] * 4 + [False, True]
    assert has_digest(np.full(2, NO_DIGEST)).tolist() == [False, False]


def test_order_and_equality_are_those_of_bytes() -> None:
    digests = digest_array(ALIKE)
    assert np.sort(digests).tolist() == sorted(ALIKE)
    assert np.unique(np.repeat(digests, 3)).tolist() == sorted(ALIKE)
    for one in range(len(ALIKE)):
        only = np.arange(len(ALIKE)) == one
        np.testing.assert_array_equal(np.isin(digests, digests[[one]]), only)
        np.testing.assert_array_equal(digests == digests[one], only)
    np.testing.assert_array_equal(np.isin(np.tile(digests, 50), digests), np.ones(300, bool))


@pytest.mark.parametrize("ending", [b"", b"\0", b"\0\0\0"])
def test_the_first_of_equal_digests_as_bytes_have_them(ending: bytes) -> None:
    random = np.random.default_rng(3)
    values = [bytes(random.integers(0, 3, 32 - len(ending), np.uint8)[-2:].repeat(2)) for _ in range(200)]
    given = [value.ljust(32 - len(ending), b"\1") + ending for value in values]
    first: dict[bytes, int] = {}
    for place, digest in enumerate(given):
        first.setdefault(digest, place)
    assert first_of_equal(digest_array(given)).tolist() == list(first.values())
    others = [*given[::7], b"\2" * 32, b"\1" * 32]
    assert is_among(digest_array(given), digest_array(others)).tolist() == [one in set(others) for one in given]
    assert not is_among(digest_array(given), digest_array([])).any()


def test_equal_digests_are_found_where_all_begin_alike() -> None:
    """The first eight bytes, by which they are sorted, need not differ."""
    random = np.random.default_rng(4)
    given = [b"12345678" + bytes(random.integers(0, 3, 24, np.uint8) * (np.arange(24) > 21)) for _ in range(60)]
    given += [random.bytes(32) for _ in range(60)]
    order = random.permutation(120).tolist()
    given = [given[row] for row in order]
    assert first_of_equal(digest_array(given)).tolist() == sorted({one: given.index(one) for one in given}.values())
    others = given[:9]
    assert is_among(digest_array(given), digest_array(others)).tolist() == [one in set(others) for one in given]
