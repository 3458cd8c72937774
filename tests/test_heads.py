"""Heads against scikit-learn and SciPy: the same objectives, the same logits, whatever way the features come."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.config import HeadOptions, HiddenLayers
from featx.errors import HeadError, UsageError
from featx.features import ArrayFeatures, FeaturesError, as_features
from featx.heads.base import check_targets
from featx.heads.classifiers import Estimator
from featx.heads.dense import DenseHead, model_logits
from featx.heads.epochs import Batches
from featx.heads.estimators import KernelSVM, Neighbours, estimator_logits
from featx.heads.linear import LinearSVM, LogisticRegression, row_weights
from featx.heads.ridge import Ridge, dual_solver, gram_solver
from featx.heads.scaling import standardize
from featx.heads.table import HEADS, head_kind, make_head
from featx.metrics.probabilities import fit_temperature, softmax
from featx.selection.problem import Problem
from featx.selection.search import try_strengths, widen
from featx.selection.settings import SearchSettings
from featx.training.network import OPTIMIZERS
from featx.training.targets import Targets

LINEAR = (LogisticRegression, LinearSVM, Ridge)


class Stream:
    """Features that are only ever handed out in small float16 blocks."""

    def __init__(self, array: np.ndarray, rows: int = 37) -> None:
        self._array, self._rows, self.shape, self.dtype = array.astype(np.float16), rows, array.shape, np.dtype("f2")
        self.outputs: tuple[int, ...] = ()

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        del rows
        for start in range(0, len(self._array), self._rows):
            yield self._array[start : start + self._rows].reshape(-1, int(np.prod(self.shape[1:])))

    def asarray(self) -> np.ndarray:
        return np.concatenate(list(self.blocks())).astype(np.float32)

    def take(self, rows: np.ndarray) -> Stream:
        return Stream(self._array[rows], self._rows)


def blobs(n: int = 240, d: int = 12, k: int = 3, seed: int = 0, noise: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes with correlated features of different scales, which float16 holds exactly."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % k
    latent = random.normal(size=(k, 5))[y] + noise * random.normal(size=(n, 5))
    x = latent @ random.normal(size=(5, d)) + random.normal(size=(n, d))
    x = x * np.geomspace(0.1, 10, d) + random.normal(size=d) * 5
    return x.astype(np.float16).astype(np.float32), y.astype(np.int64)


def reference(head: Any, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Decision function (n, k or 1) of the namesake in scikit-learn, on features that scikit-learn standardised."""
    from sklearn.linear_model import LogisticRegression as Softmax
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    z = StandardScaler().fit_transform(x.astype(np.float64))
    if isinstance(head, LogisticRegression):
        other: Any = Softmax(C=head.C, tol=1e-9, max_iter=10_000)
    elif isinstance(head, Ridge):
        other = RidgeClassifier(alpha=1 / head.C)
    else:
        return squared_hinge_by_scipy(z, y, head.C, weight)
    decision = other.fit(z, y, sample_weight=weight).decision_function(z)
    return np.asarray(decision).reshape(len(x), -1)


def squared_hinge_by_scipy(z: np.ndarray, y: np.ndarray, C: float, weight: np.ndarray | None) -> np.ndarray:
    """scikit-learn's LinearSVC penalises the intercept; this does not."""
    from scipy.optimize import minimize

    weight = np.ones(len(y)) if weight is None else weight
    classes = np.unique(y)

    def objective(point: np.ndarray, sign: np.ndarray) -> tuple[float, np.ndarray]:
        slack = np.maximum(0, 1 - sign * (z @ point[:-1] + point[-1]))
        pull = -2 * C * weight * slack * sign
        value = C * float(weight @ slack**2) + point[:-1] @ point[:-1] / 2
        return value, np.append(z.T @ pull + point[:-1], pull.sum())

    columns = []
    for code in classes[1:] if len(classes) == 2 else classes:
        sign = np.where(y == code, 1.0, -1.0)
        start = np.zeros(z.shape[1] + 1)
        point = minimize(objective, start, (sign,), "L-BFGS-B", jac=True, options={"ftol": 1e-15, "gtol": 1e-10}).x
        columns.append(z @ point[:-1] + point[-1])
    return np.stack(columns, axis=1)


def decision(head: Any, x: Any) -> np.ndarray:
    """Logits as scikit-learn shapes a decision: one column for two classes."""
    logits = head.logits(x)
    return logits[:, 1:] if logits.shape[1] == 2 else logits


def centred(logits: np.ndarray) -> np.ndarray:
    """Softmax does not see what all columns share."""
    return logits - logits.mean(axis=1, keepdims=True) if logits.shape[1] > 1 else logits


# --------------------------------------------------------------------------------------------------- linear heads


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("make", LINEAR)
@pytest.mark.parametrize("C", [0.001, 0.1])
def test_linear_heads_have_the_objective_of_scikit_learn(make: Any, C: float, k: int) -> None:
    x, y = blobs(k=k)
    head = make(C=C, tolerance=1e-6).fit(x, y)
    expected = reference(head, x, y)
    if make is LogisticRegression:
        expected = centred(expected)
        assert np.abs(centred(decision(head, x)) - expected).max() < 1e-4 * np.abs(expected).max()
    else:
        assert np.abs(decision(head, x) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("positives", [2, 5])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_a_class_of_a_few_in_20_000_has_the_objective_of_scikit_learn(positives: int, several: bool, C: float) -> None:
    """The gradient at zero weights is nearly all the intercept's, and was taken for the yardstick of convergence."""
    from sklearn import linear_model
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(positives)
    x = random.standard_normal((20_000, 16)).astype(np.float32) * random.uniform(0.1, 3, 16).astype(np.float32) + 1
    y = np.zeros(20_000, np.int64)
    y[:positives] = 1
    x[:positives, :4] += 1.5
    z = StandardScaler().fit_transform(x.astype(np.float64))

    def objective(weights: Any, margin: Any) -> float:
        return float(C * np.logaddexp(0, np.where(y == 1, -margin, margin)).sum() + (weights**2).sum() / 2)

    head = LogisticRegression(C=C).fit(x, np.stack([y == 1, y == 0], axis=1) if several else y)
    logits = head.logits(x)
    margin = logits[:, 0] if several else logits[:, 1] - logits[:, 0]
    weights = np.linalg.lstsq(np.c_[z, np.ones(len(z))], margin, rcond=None)[0][:-1]
    known = linear_model.LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(z, y)
    least = objective(known.coef_, known.decision_function(z))
    assert objective(weights, margin) == pytest.approx(least, rel=2e-4)


@pytest.mark.parametrize("make", LINEAR)
def test_sample_weights_count_rows(make: Any) -> None:
    x, y = blobs(120)
    weight = np.random.default_rng(1).integers(0, 3, len(y)).astype(np.float64)
    x, y, weight = x[weight > 0], y[weight > 0], weight[weight > 0]
    head = make(C=0.01, tolerance=1e-6).fit(x, y, weight)
    expected = reference(head, x, y, weight)
    got, wanted = (
        (decision(head, x), expected)
        if make is not LogisticRegression
        else (
            centred(decision(head, x)),
            centred(expected),
        )
    )
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_balanced_classes_weigh_the_same() -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    index = np.array([0] * 8 + [1] * 2 + [2] * 5)
    np.testing.assert_allclose(row_weights(index, None, "balanced"), compute_sample_weight("balanced", index))
    np.testing.assert_array_equal(row_weights(index, None, "none"), np.ones(15))


@pytest.mark.parametrize("make", LINEAR)
def test_standardisation_is_folded_into_the_dense_form(make: Any) -> None:
    x, y = blobs()
    head = make().fit(x, y)
    kernel, bias = head.as_dense()
    assert (kernel.dtype, bias.dtype, kernel.shape, bias.shape) == (np.float32, np.float32, (12, 3), (3,))
    logits = head.logits(x)
    assert np.abs(x @ kernel + bias - logits).max() <= 1e-5 * np.abs(logits).max()


@pytest.mark.parametrize("make", LINEAR)
def test_two_classes_have_the_columns_zero_and_z(make: Any) -> None:
    x, y = blobs(k=2, noise=0.5)
    head = make().fit(x, y + 5)
    np.testing.assert_array_equal(head.classes_, [5, 6])
    kernel, bias = head.as_dense()
    assert not kernel[:, 0].any()
    assert bias[0] == 0
    assert (head.logits(x).argmax(axis=1) == y).mean() > 0.8


@pytest.mark.parametrize("make", LINEAR)
def test_streamed_features_give_the_same_head(make: Any) -> None:
    x, y = blobs()
    whole, streamed = make(tolerance=1e-6).fit(x, y), make(tolerance=1e-6).fit(Stream(x), y)
    largest = np.abs(whole.logits(x)).max()
    np.testing.assert_allclose(streamed.logits(Stream(x)), whole.logits(x), atol=1e-4 * largest)


@pytest.mark.parametrize("make", LINEAR)
def test_constant_and_empty_features_do_not_count(make: Any) -> None:
    x, y = blobs()
    more = np.hstack([x, np.full((len(x), 1), 1000.1, np.float32), np.zeros((len(x), 1), np.float32)])
    head, plain = make(tolerance=1e-6).fit(more, y), make(tolerance=1e-6).fit(x, y)
    assert not head.as_dense()[0][-2:].any()
    np.testing.assert_allclose(head.logits(more), plain.logits(x), atol=1e-4 * np.abs(plain.logits(x)).max())


@pytest.mark.parametrize("make", LINEAR)
def test_all_features_constant_predicts_the_commonest_class(make: Any) -> None:
    y = np.array([0, 1, 1, 1, 2])
    assert (make().fit(np.ones((5, 3), np.float32), y).logits(np.ones((2, 3), np.float32)).argmax(axis=1) == 1).all()


@pytest.mark.parametrize("make", LINEAR)
def test_more_constant_features_than_rows_predict_the_commonest_class(make: Any) -> None:
    y = np.array([0, 1, 1, 1, 2])
    assert (make().fit(np.ones((5, 40), np.float32), y).logits(np.ones((2, 40), np.float32)).argmax(axis=1) == 1).all()


@pytest.mark.parametrize(
    "head",
    [
        DenseHead(epochs=2, hidden="16"),
        DenseHead(epochs=2, hidden="0.2"),
        KernelSVM(),
        Neighbours(),
        Estimator("sklearn.discriminant_analysis.LinearDiscriminantAnalysis", {}),
        LogisticRegression(),
    ],
    ids=lambda head: type(head).__name__,
)
def test_a_feature_that_was_constant_in_training_never_moves_a_logit(head: Any) -> None:
    x, y = blobs()
    silent = np.hstack([x, np.zeros((len(x), 2), np.float32), np.full((len(x), 1), 0.1, np.float32)])
    head.fit(silent, y)
    fires = silent.copy()
    fires[:, -3:] = np.random.default_rng(0).exponential(5, (len(x), 3))
    np.testing.assert_allclose(head.logits(fires), head.logits(silent), atol=1e-5)


@pytest.mark.parametrize("make", [*LINEAR, KernelSVM, Neighbours, DenseHead])
def test_weights_that_are_all_zero_are_refused_in_words(make: Any) -> None:
    x, y = blobs()
    with pytest.raises(HeadError, match="Every training image has the weight 0"):
        make().fit(x, y, np.zeros(len(y)))


def test_a_search_judges_each_row_by_the_fit_that_left_it_out() -> None:
    x, y = blobs()
    test_fold = np.arange(len(y)) // 3 % 4
    test_fold[:6] = -1
    for make in LINEAR:
        for trial in make(tolerance=1e-6).search(x, y, test_fold, (0.001, 0.1)):
            assert np.isnan(trial.logits[:6]).all()
            for fold in range(4):
                out = test_fold == fold
                # The search standardises by all rows, a fit by its own: the same head but for the penalty's scale.
                alone = make(C=trial.strength, tolerance=1e-6).fit(x[~out], y[~out]).logits(x[out])
                apart = np.abs(centred(trial.logits[out]) - centred(alone)).max()
                assert apart < 0.1 * np.abs(alone).max(), (make, trial.strength)
                assert (trial.logits[out].argmax(axis=1) == alone.argmax(axis=1)).mean() > 0.95


@pytest.mark.parametrize("make", LINEAR)
def test_fitting_from_the_start_of_a_search_gives_the_same_head(make: Any) -> None:
    x, y = blobs()
    *_, trial = make().search(x, y, np.arange(len(y)) % 5, (0.001, 0.01))
    cold, warm = make(C=0.01, tolerance=1e-6).fit(x, y), make(C=0.01, tolerance=1e-6).fit(x, y, start=trial.start)
    np.testing.assert_allclose(warm.logits(x), cold.logits(x), atol=1e-3 * np.abs(cold.logits(x)).max())


def test_a_warm_start_is_not_taken_for_a_solution() -> None:
    """Weak regularisation far from the start: stopping at once would return the start."""
    x, y = blobs()
    first, second = LogisticRegression().search(x, y, np.arange(len(y)) // 3 % 4, (1e-5, 10.0))
    assert np.abs(second.logits).max() > 10 * np.abs(first.logits).max()


def test_ridge_by_descent_equals_ridge_by_gram(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs()
    closed = Ridge(C=0.01).fit(x, y).logits(x)
    monkeypatch.setattr("featx.heads.ridge._WIDEST", 3)
    descended = Ridge(C=0.01, tolerance=1e-6).fit(x, y).logits(x)
    np.testing.assert_allclose(descended, closed, atol=1e-4)


def test_more_features_than_rows() -> None:
    x, y = blobs(30, d=200)
    for make in LINEAR:
        assert (make(C=1.0).fit(x, y).logits(x).argmax(axis=1) == y).all()


@pytest.mark.parametrize("k", [2, 3])
def test_ridge_in_the_span_of_few_rows_is_scikit_learns(k: int) -> None:
    x, y = blobs(40, d=90, k=k)
    head = Ridge(C=0.05).fit(x, y)
    expected = reference(head, x, y)
    assert np.abs(decision(head, x) - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_span_of_few_rows_and_the_gram_matrix_search_alike() -> None:
    x, y = blobs(90, d=20)
    test_fold = np.arange(90) // 3 % 4
    task = Ridge()._task(x, y, test_fold, None)[1]
    for strength in (1e-4, 0.05):
        expected = gram_solver(task)(strength, task.zeros())
        np.testing.assert_allclose(dual_solver(task)(strength, task.zeros()), expected, atol=1e-6)


def test_statistics_are_those_of_scikit_learn() -> None:
    from sklearn.preprocessing import StandardScaler

    x, _ = blobs(500)
    x[:, 0] += 1000  # far from 0: naive sums of squares would lose it
    scaler, scaling = StandardScaler().fit(x.astype(np.float64)), standardize(as_features(x))
    np.testing.assert_allclose(scaling.mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(scaling.inverse, 1 / scaler.scale_, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_named(bad: float) -> None:
    x, y = blobs()
    x[[3, 77], 5] = bad
    for head in (LogisticRegression(), LinearSVM(), Ridge(), Neighbours(), KernelSVM()):
        with pytest.raises(FeaturesError, match="2 rows hold NaN or infinity: 3, 77") as caught:
            head.fit(x, y)
        np.testing.assert_array_equal(caught.value.rows, [3, 77])


# --------------------------------------------------------------------------------------------------- every head


def small(name: str) -> Any:
    options = HeadOptions(hidden="16", epochs=3)
    return make_head(HEADS[name], None, options, 0)


@pytest.mark.parametrize("name", [name for name, kind in HEADS.items() if kind.in_auto])
def test_every_head_keeps_the_contract(name: str) -> None:
    from sklearn.base import clone

    x, y = blobs(60)
    codes = np.array([2, 5, 9])[y]
    head = small(name)
    twin = clone(head)
    assert twin.get_params() == head.get_params()
    assert twin is not head
    assert head.fit(x, codes) is head
    np.testing.assert_array_equal(head.classes_, [2, 5, 9])
    assert head.n_features_in_ == 12
    logits = head.logits(x)
    assert (logits.dtype, logits.shape) == (np.float32, (60, 3))
    assert np.isfinite(logits).all()
    assert head.logits(x[:0]).shape == (0, 3)
    with pytest.raises(HeadError, match=rf"X has 7 features, but {type(head).__name__} is expecting 12"):
        head.logits(x[:, :7])


@pytest.mark.parametrize("name", [name for name, kind in HEADS.items() if kind.in_auto])
def test_every_head_takes_streams_and_maps(name: str) -> None:
    x, y = blobs(60)
    logits = small(name).fit(x, y).logits(x)
    again = small(name).fit(Stream(x.reshape(60, 2, 2, 3)), y)
    np.testing.assert_allclose(again.logits(x), logits, atol=1e-3 * np.abs(logits).max())
    assert again.n_features_in_ == 12


def test_parameters_are_checked() -> None:
    head = LogisticRegression()
    assert head.set_params(C=3.0).get_params()["C"] == 3.0
    with pytest.raises(HeadError, match="LogisticRegression has no parameter 'gamma'; it has C, class_weight"):
        head.set_params(gamma=1)
    x, y = blobs(30)
    with pytest.raises(HeadError, match="must be above 0, got 0"):
        LogisticRegression(C=0).fit(x, y)
    with pytest.raises(HeadError, match="must be above 0, got -1"):
        KernelSVM(C=-1).fit(x, y)
    with pytest.raises(HeadError, match="whole number of neighbours, got 2"):
        make_head(HEADS["knn"], 2.5, HeadOptions(), 0)


def test_targets_are_checked() -> None:
    x = as_features(np.zeros((4, 2), np.float32))
    with pytest.raises(HeadError, match=r"y has shape \(3,\), but there are 4 rows"):
        check_targets(x, np.arange(3), None)
    with pytest.raises(HeadError, match="needs two classes or more, got 1"):
        check_targets(x, np.zeros(4, np.int64), None)
    with pytest.raises(HeadError, match="4 numbers of at least 0"):
        check_targets(x, np.arange(4), np.array([1, 1, -1, 1.0]))
    with pytest.raises(HeadError, match="one row per image"):
        as_features(np.zeros(3))


def test_the_table_of_heads() -> None:
    assert head_kind("svm").location.endswith("LinearSVM")
    assert head_kind("svm", "rbf").location.endswith("KernelSVM")
    with pytest.raises(HeadError, match="No head 'tree'; there are logreg, svm, ridge, knn, dense"):
        head_kind("tree")
    for kind in HEADS.values():
        if kind.strength_name != "neighbours":
            assert list(kind.strengths) == sorted(kind.strengths)
        assert not kind.strengths or kind.strength_name in make_head(kind, None, HeadOptions(), 0).get_params()


def test_array_features() -> None:
    array = np.arange(24, dtype=np.float16).reshape(6, 2, 2)
    features = ArrayFeatures(array)
    assert (features.shape, features.dtype) == ((6, 2, 2), np.float16)
    assert [len(block) for block in features.blocks(4)] == [4, 2]
    np.testing.assert_array_equal(np.concatenate(list(features.blocks())), features.asarray())
    assert features.asarray().dtype == np.float32
    np.testing.assert_array_equal(features.take(np.array([4, 1])).asarray(), array[[4, 1]].reshape(2, 4))
    assert np.shares_memory(features.take(np.arange(2, 5)).array, array)
    assert features.take(np.array([], np.int64)).shape == (0, 2, 2)


# --------------------------------------------------------------------------------------------------- scikit-learn heads


def test_neighbours_vote() -> None:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    x, y = blobs()
    head = Neighbours(7).fit(x[40:], y[40:])
    scaler = StandardScaler().fit(x[40:])
    shares = KNeighborsClassifier(7).fit(scaler.transform(x[40:]), y[40:]).predict_proba(scaler.transform(x[:40]))
    np.testing.assert_allclose(np.exp(head.logits(x[:40])), np.maximum(shares, 0.5 / 7), rtol=1e-5)
    assert Neighbours(50).fit(x[:9], y[:9]).logits(x).shape == (240, 3)


def test_rows_of_weight_zero_have_no_vote() -> None:
    x, y = blobs(60)
    weight = (np.arange(60) < 30).astype(np.float64)
    np.testing.assert_array_equal(Neighbours().fit(x, y, weight).logits(x), Neighbours().fit(x[:30], y[:30]).logits(x))


@pytest.mark.parametrize("k", [2, 3])
def test_the_kernel_svm_is_scikit_learns(k: int) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = blobs(k=k)
    head = KernelSVM(C=3.0, class_weight="balanced").fit(x, y)
    other = make_pipeline(StandardScaler(), SVC(C=3.0, class_weight="balanced")).fit(x, y)
    np.testing.assert_allclose(decision(head, x), other.decision_function(x).reshape(len(x), -1), atol=1e-5)


@pytest.mark.parametrize("head", [Neighbours(), KernelSVM()])
def test_estimators_go_through_skops(head: Any, tmp_path: Path) -> None:
    from skops.io import dump, get_untrusted_types, load

    x, y = blobs()
    head.fit(x, y)
    dump(head.estimator_, tmp_path / "head.skops")
    assert get_untrusted_types(file=tmp_path / "head.skops") == []
    np.testing.assert_array_equal(estimator_logits(load(tmp_path / "head.skops"), x), head.logits(x))


# --------------------------------------------------------------------------------------------------- dense head


def test_hidden_layers_are_read() -> None:
    assert HiddenLayers("256,0.3, 128").layers == (256, 0.3, 128)
    assert HiddenLayers("").layers == ()
    for bad in ("256;128", "1.5", "0", "-3", "wide"):
        with pytest.raises(UsageError, match=r"units \(whole numbers\) and dropout"):
            HiddenLayers(bad)


def test_the_dense_head_learns_and_keeps_its_best_epoch() -> None:
    x, y = blobs(400, noise=0.8)
    train, val = np.arange(400) < 300, np.arange(400) >= 300
    head = DenseHead(hidden="32,0.2,16", epochs=60, patience=4, learning_rate=0.01, batch_size=32)
    head.fit(x[train], y[train], validation=(x[val], y[val]))
    losses = head.training_log_.column("val_loss")
    assert head.training_log_.best == 1 + int(np.argmin(losses))
    assert len(losses) in (60, head.training_log_.best + 4)
    true = softmax(head.logits(x[val]))[np.arange(100), y[val]]
    assert -np.log(true).mean() == pytest.approx(min(losses), rel=1e-5)
    assert (head.logits(x[val]).argmax(axis=1) == y[val]).mean() > 0.8


def test_the_dense_head_is_deterministic_and_seeds_nothing_global() -> None:
    x, y = blobs(90)
    np.random.seed(3)  # noqa: NPY002 - to see that it is left alone
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    logits = [DenseHead(hidden="8,0.5", epochs=3, seed=seed).fit(x, y).logits(x) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-6)
    assert np.abs(logits[0] - logits[2]).max() > 1e-2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    x, y = blobs(90)
    head = DenseHead(hidden="", epochs=4, optimizer=name, learning_rate=0.05, batch_size=8).fit(x, y)
    assert head.training_log_.column("loss")[-1] < head.training_log_.column("loss")[0]


def test_without_hidden_layers_it_is_softmax_regression() -> None:
    """An independent route to the same place: many steps without penalty against the linear head without penalty."""
    x, y = blobs(150, d=4)
    dense = DenseHead(hidden="", epochs=300, learning_rate=0.1, batch_size=150).fit(x, y).logits(x)
    linear = LogisticRegression(C=1e4, tolerance=1e-6).fit(x, y).logits(x)
    assert np.abs(softmax(dense) - softmax(linear)).max() < 0.02


def test_the_dense_head_loads_in_safe_mode(tmp_path: Path) -> None:
    import keras

    x, y = blobs(60)
    x[:, 3] = 7.0
    head = DenseHead(hidden="8,0.5", epochs=2).fit(x, y)
    head.save(tmp_path / "head.keras")
    loaded = keras.saving.load_model(tmp_path / "head.keras", safe_mode=True)
    np.testing.assert_allclose(model_logits(loaded, as_features(x)), head.logits(x), atol=1e-6)


def test_balanced_training_finds_the_rare_class() -> None:
    random = np.random.default_rng(0)
    y = (np.arange(400) % 20 == 0).astype(np.int64)
    x = (random.normal(size=(400, 4)) + 1.2 * y[:, None]).astype(np.float32)

    def recall(weight: str) -> float:
        head = DenseHead(hidden="", epochs=30, class_weight=weight, learning_rate=0.02)
        return float(head.fit(x, y).logits(x)[y == 1].argmax(axis=1).mean())

    assert recall("balanced") > recall("none") + 0.2


def test_a_dense_head_says_what_is_wrong() -> None:
    x, y = blobs(60)
    with pytest.raises(UsageError, match="No optimizer 'lion'; there are adam, sgd"):
        DenseHead(optimizer="lion").fit(x, y)
    with pytest.raises(UsageError, match=r"No activation 'wave'; Keras has .*relu"):
        DenseHead(activation="wave").fit(x, y)
    with pytest.raises(HeadError, match=r"The loss became .* try a smaller --learning-rate"):
        DenseHead(hidden="64,64", optimizer="sgd", learning_rate=1e30, epochs=30).fit(x, y)


def test_batches_hold_every_row_once_in_an_order_of_seed_and_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.heads.epochs._CHUNK_BYTES", 4 * 2 * 50)
    x = np.arange(200, dtype=np.float32).reshape(100, 2)
    targets = Targets(np.arange(100), np.arange(100), np.ones(100, np.float32))
    batches = Batches(as_features(x), targets, 8, seed=4)
    chunks = list(batches.chunks(0))
    assert [len(index) for _, index, _ in chunks] == [48, 48, 4]
    order = np.concatenate([index for _, index, _ in chunks])
    np.testing.assert_array_equal(np.concatenate([read for read, _, _ in chunks]), x[order])
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    np.testing.assert_array_equal(next(iter(batches.chunks(0)))[1], chunks[0][1])
    assert (next(iter(batches.chunks(1)))[1] != chunks[0][1]).any()


# --------------------------------------------------------------------------------------------------- calibration


def test_softmax_is_scipys_and_does_not_overflow() -> None:
    from scipy.special import softmax as expected

    logits = np.array([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(softmax(logits, 2.0), expected(logits.astype(np.float64) / 2, axis=1), rtol=1e-12)


@pytest.mark.parametrize("factor", [0.05, 1.0, 30.0])
def test_the_temperature_undoes_a_scale(factor: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(5000, 4)) * 2
    y = (softmax(logits).cumsum(axis=1) > random.random((5000, 1))).argmax(axis=1)
    assert fit_temperature(logits * factor, y) == pytest.approx(factor, rel=0.06)


def test_the_temperature_is_the_least_of_the_loss() -> None:
    from scipy.optimize import minimize_scalar

    x, y = blobs()
    logits = LinearSVM().fit(x, y).logits(x).astype(np.float64)
    doubt = 1 / (len(y) + 2)

    def loss(log_t: float) -> float:
        log_p = np.log(softmax(logits, np.exp(log_t)))
        return -float(((1 - doubt) * log_p[np.arange(len(y)), y] + doubt * log_p.mean(axis=1)).sum())

    expected = np.exp(minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-6}).x)
    assert fit_temperature(logits, y) == pytest.approx(expected, rel=1e-3)


def test_temperatures_at_the_edge() -> None:
    assert fit_temperature(np.empty((0, 3)), np.empty(0, np.int64)) == 1.0
    sure = fit_temperature(np.eye(3) * 5, np.arange(3))
    assert 0.1 < sure < 10, "three right rows are no reason for certainty"
    assert fit_temperature(np.zeros((4, 2)), np.array([0, 1, 0, 1])) > 0


def test_margins_become_honest_confidence() -> None:
    """Mean confidence of a linear SVM comes near its accuracy on rows it has not seen."""
    x, y = blobs(3000, noise=1.0, seed=5)
    head = LinearSVM().fit(x[:1000], y[:1000])
    temperature = fit_temperature(head.logits(x[1000:2000]), y[1000:2000])
    logits = head.logits(x[2000:])
    accuracy = (logits.argmax(axis=1) == y[2000:]).mean()
    raw, calibrated = softmax(logits).max(axis=1).mean(), softmax(logits, temperature).max(axis=1).mean()
    assert abs(calibrated - accuracy) < 0.05
    assert abs(calibrated - accuracy) < abs(raw - accuracy)


# --------------------------------------------------------------------------------------------------- search


def test_estimators_are_searched_fold_by_fold() -> None:
    x, y = blobs(60)
    test_fold = np.arange(60) // 3 % 3
    (trial,) = try_strengths(HEADS["knn"], (3,), Problem.of_train(as_features(x), y), test_fold, SearchSettings())
    for fold in range(3):
        out = test_fold == fold
        np.testing.assert_array_equal(trial.logits[out], Neighbours(3).fit(x[~out], y[~out]).logits(x[out]))


def test_classes_a_fold_has_not_seen_are_unlikely() -> None:
    wide = widen(np.array([[1.0, -2.0]], np.float32), np.array([3, 8]), np.array([1, 3, 8]))
    np.testing.assert_array_equal(wide, [[-12.0, 1.0, -2.0]])


def test_heads_warn_of_nothing_on_separable_rows() -> None:
    x, y = blobs(60, noise=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for make in LINEAR:
            trials = list(make().search(x, y, np.arange(60) // 3 % 5, (1e-4, 1.0, 100.0)))
            assert all(np.isfinite(trial.logits).all() for trial in trials)
