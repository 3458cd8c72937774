"""Passes over features: the same to the bit on any number of cores, and BLAS as it was before them."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from featx.features import ArrayFeatures
from featx.heads.linear import LogisticRegression
from featx.heads.passes import for_each_block, map_blocks, single_threaded_blas

ROWS, WIDTH = 700, 9  # 11 blocks of at most 64 rows


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> ArrayFeatures:
    monkeypatch.setattr("featx.features._BLOCK_VALUES", 1)
    monkeypatch.setattr("featx.heads.passes.usable_cores", lambda: 3)
    return ArrayFeatures(np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float16))


def blas_threads() -> list[int]:
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_all_rows_come_once_and_in_order(features: ArrayFeatures) -> None:
    found = list(map_blocks(features, lambda rows, block: (rows, block)))
    assert len(found) == 11
    np.testing.assert_array_equal(np.concatenate([block for _, block in found]), features.asarray())
    np.testing.assert_array_equal(np.concatenate([np.arange(ROWS)[rows] for rows, _ in found]), np.arange(ROWS))
    assert {block.dtype for _, block in found} == {np.dtype(np.float32)}


def test_a_fit_is_the_same_on_any_number_of_cores(features: ArrayFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.arange(ROWS) % 3
    heads = []
    for cores in (1, 2, 5):
        monkeypatch.setattr("featx.heads.passes.usable_cores", lambda cores=cores: cores)
        heads.append(LogisticRegression(C=0.1).fit(features, y))
    for other in heads[1:]:
        np.testing.assert_array_equal(other.kernel_, heads[0].kernel_)
        np.testing.assert_array_equal(other.logits(features), heads[0].logits(features))


def test_blas_keeps_to_one_thread_meanwhile(features: ArrayFeatures) -> None:
    before = blas_threads()
    assert all(set(during) == {1} for during in map_blocks(features, lambda _, block: blas_threads()))
    assert blas_threads() == before
    with single_threaded_blas():
        for_each_block(features, lambda _, block: None)
        assert set(blas_threads()) == {1}  # the inner pass has not set it back
    assert blas_threads() == before


def test_a_failure_in_a_block_is_raised_and_sets_blas_back(features: ArrayFeatures) -> None:
    before = blas_threads()

    def fail(rows: slice, block: np.ndarray) -> None:
        raise ArithmeticError(str(rows.start))

    with pytest.raises(ArithmeticError, match=r"^0$"):
        for_each_block(features, fail)
    assert blas_threads() == before
