"""Features of a network are not divided by spreads that are small by chance; columns of anything else are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import standard_scaler
from sklearn import linear_model, neighbors, svm
from sklearn.preprocessing import StandardScaler

from featx.config import ByteSize, HeadOptions
from featx.dataset import TRAIN
from featx.features import ArrayFeatures, Features
from featx.heads.dense import DenseHead
from featx.heads.estimators import KernelSVM, Neighbours
from featx.heads.linear import LinearSVM, LogisticRegression
from featx.heads.ridge import Ridge
from featx.heads.scaling import standardize
from featx.heads.transform import fit_transform, join
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings

WIDTHS = (40, 24)


def rows(n: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 64) of two outputs, the second 1,000 times larger, and classes; half of either hardly differ."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = random.normal(size=(n, sum(WIDTHS)))
    x[:, :6] += np.eye(3).repeat(2, axis=0)[:, y].T * 2
    x[:, 20:40] *= np.geomspace(1e-4, 0.3, 20)
    x[:, 52:] *= 1e-3
    x[:, 40:] *= 1000
    x[:, 5], x[:, 45] = 3, 0  # constant
    return x.astype(np.float32), y


def test_no_spread_is_below_that_of_one_image_of_its_output() -> None:
    x, _ = rows()
    found = standardize(ArrayFeatures(x, WIDTHS))
    expected = standard_scaler(x.astype(np.float64), *WIDTHS)
    varying = expected.var_ > 0
    np.testing.assert_allclose(1 / found.inverse[varying], expected.scale_[varying], rtol=1e-5)
    assert np.flatnonzero(found.inverse == 0).tolist() == [5, 45]
    plain = StandardScaler().fit(x.astype(np.float64))
    raised = expected.scale_ > 1.0001 * plain.scale_
    assert raised[20:36].sum() > 10  # the first output is not drowned by the second, which is 1,000 times larger
    assert raised[:20].sum() == 0
    np.testing.assert_allclose(1 / standardize(ArrayFeatures(x)).inverse[varying], plain.scale_[varying], rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "other"),
    [
        (LogisticRegression(C=0.01, tolerance=1e-6), linear_model.LogisticRegression(C=0.01, tol=1e-10)),
        (Ridge(C=0.01, tolerance=1e-6), linear_model.RidgeClassifier(alpha=100)),
        (KernelSVM(C=3.0), svm.SVC(C=3.0)),
        (Neighbours(3), neighbors.KNeighborsClassifier(3)),
    ],
)
def test_heads_are_those_of_scikit_learn_on_features_scaled_so(head: Any, other: Any) -> None:
    x, y = rows()
    new = rows(30, seed=1)[0]
    scaler = standard_scaler(x.astype(np.float64), *WIDTHS)
    scaler.scale_[scaler.var_ == 0] = np.inf
    other.fit(scaler.transform(x), y)
    logits = head.fit(ArrayFeatures(x, WIDTHS), y).logits(new)
    if isinstance(head, Neighbours):
        np.testing.assert_allclose(
            logits, np.log(np.maximum(other.predict_proba(scaler.transform(new)), 1 / 6)), atol=1e-6
        )
        return
    expected = other.decision_function(scaler.transform(new))
    if isinstance(head, LogisticRegression):
        logits, expected = logits - logits.mean(axis=1, keepdims=True), expected - expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("head", [LogisticRegression(C=0.01), LinearSVM(C=0.01), Ridge(C=0.01)])
def test_a_feature_that_hardly_moved_does_not_outweigh_the_others(head: Any) -> None:
    """The first four features have the class; the last eight had next to nothing in training, and as much later."""
    random = np.random.default_rng(3)
    y, new_y = np.arange(9) % 3, np.arange(300) % 3
    x, new = (np.eye(4)[labels] * 2 + random.normal(size=(len(labels), 4)) * 0.3 for labels in (y, new_y))
    x = np.concatenate([x, 1e-4 * random.random((9, 8))], axis=1).astype(np.float32)
    new = np.concatenate([new, random.random((300, 8))], axis=1).astype(np.float32)
    right = {}
    for outputs in ((), (12,)):
        head.fit(ArrayFeatures(x, outputs), y)
        right[outputs] = (head.classes_[head.logits(new).argmax(axis=1)] == new_y).mean()
    assert right[(12,)] > 0.95
    assert right[()] < 0.7


def test_the_first_layer_of_a_dense_head_divides_by_these_spreads() -> None:
    x, y = rows()
    head = DenseHead(hidden="", epochs=1).fit(ArrayFeatures(x, WIDTHS), y)
    expected = standard_scaler(x.astype(np.float64), *WIDTHS)
    varying = expected.var_ > 0
    found = np.asarray(head.model_.get_layer("standardization")(x))[:, varying]
    np.testing.assert_allclose(found, expected.transform(x)[:, varying], atol=1e-4)


def test_outputs_side_by_side_keep_their_own() -> None:
    x, _ = rows()
    first, second = (ArrayFeatures(part, (part.shape[1],)) for part in np.split(x, [WIDTHS[0]], axis=1))
    joined = join([first, second])
    assert joined.outputs == joined.take(np.arange(4)).outputs == WIDTHS
    assert join([first, ArrayFeatures(second.array)]).outputs == ()
    assert fit_transform(joined, True, None, 1 << 30, 0).of(joined).outputs == WIDTHS
    assert fit_transform(joined, False, 5, 1 << 30, 0).of(joined).outputs == ()


@pytest.mark.parametrize("memory", [None, ByteSize("1KB")])
def test_rows_in_memory_and_rows_that_are_read_again_and_again_make_one_head(memory: ByteSize | None) -> None:
    x, y = rows(24)
    settings = SearchSettings(HeadOptions(clf="logreg", strength=0.01, search="cv", folds=3, memory=memory))
    made = choose_head(Problem(known(x), y, np.full(24, TRAIN, np.uint8), ("a", "b", "c")), settings).head
    alone = LogisticRegression(C=0.01).fit(known(x), y)
    np.testing.assert_allclose(made.as_dense()[0], alone.as_dense()[0], atol=1e-4 * np.abs(alone.as_dense()[0]).max())


def known(x: np.ndarray) -> Features:
    return ArrayFeatures(x, WIDTHS)
