"""Choosing among layers, fronts, estimators, calibrations; and the nested estimate of it all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler, normalize

from featx.config import HeadOptions
from featx.dataset import TEST, TRAIN, VAL
from featx.errors import HeadError
from featx.features import ArrayFeatures, as_features
from featx.heads.calibration import Calibration, fit_calibration, load_curves
from featx.heads.table import HEADS
from featx.heads.transform import JoinedFeatures, Transform, fit_transform, load_transform
from featx.metrics.scores import score
from featx.selection.choice import Choice
from featx.selection.heads import choose_head
from featx.selection.layers import LayersChoice, choose_layers
from featx.selection.nested import nested_estimate
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings

CLASSES = ("ant", "bee", "cow", "dog")


def halves(n: int = 400, seed: int = 0) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Two layers of which each tells one half of what the class is, one that is noise, and their rows."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 4, n)
    noise = random.normal(0, 0.7, (3, n, 5)).astype(np.float32)
    left, right, nothing = noise
    left[:, 0] += 2 * (y % 2)
    right[:, 0] += 2 * (y // 2)
    tables = {name: ArrayFeatures(x) for name, x in (("noise@avg", nothing), ("left@avg", left), ("right@avg", right))}
    split = np.full(n, TRAIN, np.uint8)
    split[: n // 5], split[n // 5 : n // 2] = VAL, TEST
    return tables, y, split


def choose(tables: Any, y: np.ndarray, split: np.ndarray, **options: Any) -> LayersChoice:
    features = next(iter(tables.values()))
    return choose_layers(tables, Problem(features, y, split, CLASSES), SearchSettings(HeadOptions(**options)))


def choose_one(
    x: np.ndarray,
    y: np.ndarray,
    split: np.ndarray,
    options: HeadOptions,
    *,
    seed: int = 0,
    weight: np.ndarray | None = None,
) -> Choice:
    return choose_head(Problem(as_features(x), y, split, CLASSES, weight=weight), SearchSettings(options, seed))


def test_layers_are_joined_where_that_helps_and_only_there() -> None:
    tables, y, split = halves()
    found = choose(tables, y, split, clf="logreg", combine="greedy", folds=3)
    assert set(found.outputs) == {"left@avg", "right@avg"}
    assert set(found.tried) >= {"noise@avg", "left@avg", "right@avg", " + ".join(found.outputs)}
    test = np.flatnonzero(split == TEST)
    logits = found.logits({name: table.take(test) for name, table in tables.items()})
    joined = np.hstack([tables[name].array[test] for name in found.outputs])
    np.testing.assert_array_equal(logits, found.choice.head.logits(joined))
    alone = choose(tables, y, split, clf="logreg", combine="none", folds=3)
    assert len(alone.outputs) == 1
    assert (logits.argmax(axis=1) == y[test]).mean() > 0.75
    assert alone.choice.score < 0.7 < found.choice.score


@pytest.mark.usefixtures("op_by_op")
def test_auto_joins_layers_and_compares_all_heads_on_the_winners() -> None:
    tables, y, split = halves()
    found = choose(tables, y, split, clf="auto", folds=3, epochs=3, hidden="8")
    kinds = {candidate.clf for candidate in found.tried[" + ".join(found.outputs)]}
    assert len(found.outputs) == 2
    assert kinds == {"logreg", "svm", "ridge", "knn", "dense"}
    assert {candidate.clf for candidate in found.tried["noise@avg"]} == {"logreg"}
    for tried in found.tried.values():  # nothing is fitted twice
        assert len({repr((one.clf, one.params)) for one in tried}) == len(tried)
    whole = np.hstack([tables[name].array for name in found.outputs])
    again = choose_one(whole, y, split, HeadOptions(clf="auto", folds=3, epochs=3, hidden="8"))
    assert (found.choice.clf, found.choice.score) == (again.clf, again.score)
    assert found.tried[" + ".join(found.outputs)] == again.candidates


def test_test_rows_do_not_choose_layers() -> None:
    tables, y, split = halves()
    first = choose(tables, y, split, clf="logreg", combine="greedy", folds=3)
    shuffled = y.copy()
    shuffled[split == TEST] = np.random.default_rng(1).permutation(y[split == TEST])
    second = choose(tables, shuffled, split, clf="logreg", combine="greedy", folds=3)
    assert first.outputs == second.outputs
    assert first.tried == second.tried


def test_joined_features_stream_as_they_are_in_memory() -> None:
    tables, *_ = halves(70)
    parts = tuple(tables.values())
    joined, whole = JoinedFeatures(parts), np.hstack([part.array for part in parts])
    assert joined.shape == whole.shape
    np.testing.assert_array_equal(joined.asarray(), whole)
    np.testing.assert_array_equal(np.concatenate(list(joined.blocks(9))), whole)
    np.testing.assert_array_equal(joined.take(np.array([5, 1])).asarray(), whole[[5, 1]])


# ------------------------------------------------------------------------------------------------------- the front


@pytest.mark.parametrize("components", [3, 0.8])
def test_components_and_unit_length_are_those_of_scikit_learn(components: float) -> None:
    x = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32) * np.arange(1, 7, dtype=np.float32)
    front = fit_transform(as_features(x), True, components, 1 << 30, 0)
    reference = PCA(int(components) if components >= 1 else components).fit(normalize(x))
    expected = reference.transform(normalize(x))
    found = front.of(as_features(x))
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.abs(found.asarray()), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(np.concatenate(list(found.blocks(7))), found.asarray(), atol=1e-6)


def test_components_of_features_beyond_memory_span_nearly_the_same_space() -> None:
    random = np.random.default_rng(0)
    x = (random.normal(size=(600, 3)) @ random.normal(size=(3, 8)) + 0.05 * random.normal(size=(600, 8))).astype("f4")
    near, far = (fit_transform(as_features(x), False, 3, memory, 0) for memory in (1 << 30, 100))
    assert near.components is not None
    assert far.components is not None
    np.testing.assert_allclose(np.linalg.svd(near.components @ far.components.T)[1], 1, atol=1e-3)
    with pytest.raises(HeadError, match="--memory"):
        fit_transform(as_features(x), False, 0.9, 100, 0)
    with pytest.raises(HeadError, match="at most 8"):
        fit_transform(as_features(x), False, 9, 1 << 30, 0)


def test_a_front_is_written_and_read(tmp_path: Any) -> None:
    random = np.random.default_rng(0)
    front = Transform(True, random.normal(size=4).astype("f4"), random.normal(size=(2, 4)).astype("f4"))
    front.save(tmp_path / "front.npz")
    x = random.normal(size=(5, 4)).astype("f4")
    np.testing.assert_array_equal(load_transform(tmp_path / "front.npz").apply(x), front.apply(x))


def test_a_head_behind_a_front_learns_from_it() -> None:
    tables, y, split = halves()
    x = np.hstack([table.array for table in tables.values()])
    options = HeadOptions(clf="logreg", normalize="l2", pca=4, folds=3)
    choice = choose_one(x, y, split, options)
    assert choice.head.n_features_in_ == 4
    assert (choice.logits(as_features(x)).argmax(axis=1) == y).mean() > 0.5


# -------------------------------------------------------------------------------------------------------- the rest


def test_refit_uses_val_too_and_keeps_the_figures_of_val_honest() -> None:
    tables, y, split = halves()
    x = tables["left@avg"].array
    plain, refitted = (
        choose_one(x, y, split, HeadOptions(strength=0.1, refit=refit, folds=3)) for refit in (False, True)
    )
    both = np.where(split == VAL, TRAIN, split)
    expected = choose_one(x, y, both, HeadOptions(strength=0.1, folds=3)).head
    np.testing.assert_allclose(refitted.head.logits(x), expected.logits(x), atol=0.02)
    assert plain.val_logits is not None
    np.testing.assert_array_equal(refitted.val_logits, plain.val_logits)


def test_an_estimator_of_scikit_learn_is_searched() -> None:
    tables, y, split = halves()
    x = tables["left@avg"].array
    options = HeadOptions(
        clf="estimator",
        estimator="sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        grid={"solver": ["lsqr"], "shrinkage": [0.1, 1.0]},
        folds=3,
    )
    choice = choose_one(x, y, split, options, seed=5)
    assert [one.params["params"]["shrinkage"] for one in choice.candidates] == [0.1, 1.0]
    best = max(choice.candidates, key=lambda one: one.score).params["params"]
    train = split == TRAIN
    scaler = StandardScaler().fit(x[train])
    expected = LinearDiscriminantAnalysis(**best).fit(scaler.transform(x[train]), y[train])
    predicted = expected.predict_proba(scaler.transform(x)).argmax(axis=1)
    assert (choice.logits(as_features(x)).argmax(axis=1) == predicted).mean() > 0.99


@pytest.mark.parametrize(
    ("estimator", "grid", "match"),
    [
        ("os.system", None, "classifier of scikit-learn"),
        ("sklearn.ensemble.NoSuchForest", None, "classifier of scikit-learn"),
        ("sklearn.linear_model.Ridge", None, "not a classifier"),
        ("sklearn.naive_bayes.GaussianNB", {"depth": [1]}, "no parameter 'depth'"),
        ("sklearn.naive_bayes.GaussianNB", {"priors": 3}, "list of values"),
    ],
)
def test_what_is_no_classifier_is_refused(estimator: str, grid: Any, match: str) -> None:
    tables, y, split = halves()
    options = HeadOptions(clf="estimator", estimator=estimator, grid=grid)
    with pytest.raises(HeadError, match=match):
        choose_one(tables["left@avg"].array, y, split, options)


def test_given_weights_of_classes_weigh_their_rows() -> None:
    tables, y, split = halves()
    x = tables["left@avg"].array
    by_name = choose_one(x, y, split, HeadOptions(strength=0.1, class_weight="bee=5, dog=0.5", folds=3))
    rows = np.array([1, 5, 1, 0.5])[y]
    expected = choose_one(x, y, split, HeadOptions(strength=0.1, folds=3), weight=rows)
    np.testing.assert_allclose(by_name.head.logits(x), expected.head.logits(x), atol=1e-4)
    for bad in ("cat=2", "bee=-1", "bee=many", "heavy"):
        with pytest.raises(HeadError, match="--class-weight"):
            choose_one(x, y, split, HeadOptions(class_weight=bad))


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_rank_scores_are_those_of_scikit_learn(metric: Any) -> None:
    random = np.random.default_rng(0)
    y, logits = random.integers(0, 3, 200), random.normal(size=(200, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    one_hot = np.eye(3)[y]
    if metric == "roc_auc":
        expected = roc_auc_score(y, chances, multi_class="ovr")
    else:
        expected = average_precision_score(one_hot, chances)
    assert score(metric, logits, y) == pytest.approx(expected, abs=1e-9)


class Decides(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decisions are its input."""

    def __init__(self, classes: int = 3) -> None:
        self.classes = classes

    def fit(self, x: Any, y: Any) -> Any:
        self.classes_ = np.arange(self.classes)
        self.n_features_in_ = x.shape[1]
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 1] - x[:, 0] if self.classes == 2 else x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("classes", [2, 3])
def test_calibration_is_that_of_scikit_learn(kind: Any, classes: int, tmp_path: Any) -> None:
    random = np.random.default_rng(0)
    logits = 4 * random.normal(size=(500, classes))
    y = (logits + 6 * random.normal(size=logits.shape)).argmax(axis=1)
    found = fit_calibration(kind, logits, y)
    frozen = FrozenEstimator(Decides(classes).fit(logits, y))
    expected = CalibratedClassifierCV(frozen, method=kind, ensemble=False).fit(logits, y)
    fresh = 4 * random.normal(size=(50, classes))
    got, its = found.probabilities(fresh), expected.predict_proba(fresh)
    inside = ((its > 0.15) & (its < 0.85)).all(axis=1) | (kind == "sigmoid")  # of a staircase, the ends are elsewhere
    assert inside.sum() > 10
    np.testing.assert_allclose(got[inside], its[inside], atol=1e-4 if kind == "sigmoid" or classes == 2 else 0.06)
    found.save(tmp_path / "curves.npz")
    np.testing.assert_array_equal(load_curves(tmp_path / "curves.npz").probabilities(fresh), found.probabilities(fresh))


@pytest.mark.parametrize("classes", [2, 3])
def test_isotonic_confidence_is_never_0_or_1(classes: int) -> None:
    """No error among 40 rows does not show that there is none: by Laplace's rule it is 1 in 42."""
    y = np.arange(40 * classes) % classes
    logits = np.eye(classes)[y] * 5
    got = fit_calibration("isotonic", logits, y).probabilities(logits)
    rest = 40 * (classes - 1)
    high, low = 41 / 42, 1 / (rest + 2)
    expected = high if classes == 2 else high / (high + 2 * low)
    np.testing.assert_allclose(got.max(axis=1), expected)
    far = fit_calibration("isotonic", logits, y).probabilities(100 * logits - 50)
    assert far.min() > 0
    assert far.max() < 1


def test_calibration_without_enough_rows_is_the_temperature() -> None:
    assert fit_calibration("isotonic", np.eye(3), np.array([0, 1, 1])).kind == "temperature"
    assert fit_calibration("sigmoid", np.empty((0, 3)), np.empty(0, int)) == Calibration()  # of no rows


def test_the_nested_estimate_tries_the_dense_head_where_the_bundle_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four quadrants, two classes: no linear head tells them apart, and the dense one does."""
    random = np.random.default_rng(0)
    x = random.normal(size=(240, 2)).astype(np.float32)
    x += 0.5 * np.sign(x)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    split = np.where(np.arange(240) % 4 == 0, VAL, TRAIN).astype(np.uint8)
    options = HeadOptions(clf="auto", folds=2, hidden="32", epochs=40, learning_rate=0.02)
    tables = {"f@avg": ArrayFeatures(x)}
    problem = Problem(tables["f@avg"], y, split, CLASSES[:2])
    for name in ("knn", "svm-rbf"):  # which would do as well
        monkeypatch.setitem(HEADS, name, replace(HEADS[name], in_auto=False))
    nested = nested_estimate(tables, problem, SearchSettings(options)).as_json()
    no_val = replace(problem, split=np.full(240, TRAIN, np.uint8))
    without = nested_estimate(tables, no_val, SearchSettings(options))
    assert [one["clf"] for one in nested["chosen"]] == ["dense", "dense"]
    assert nested["accuracy"] > 0.9
    assert not [
        one for one in without.chosen if one.clf == "dense"
    ]  # a bundle without val is not chosen from it, either


@pytest.mark.parametrize("calibrate", ["sigmoid", "isotonic"])
def test_a_nested_estimate_goes_on_where_a_fold_lacks_a_class(calibrate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of mixed classes can leave no way but to have all images of a rare class in one fold."""
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [40, 40, 6])
    x = (3 * np.eye(3)[y] + random.normal(size=(86, 3))).astype(np.float32)
    problem = Problem(as_features(x), y, np.full(86, TRAIN, np.uint8), CLASSES[:3])
    options = HeadOptions(clf="logreg", strength=0.1, folds=3, calibrate=calibrate)
    monkeypatch.setattr("featx.selection.nested.make_folds", lambda *_: np.where(y == 2, 0, np.arange(86) % 3))
    found = nested_estimate({"f@avg": as_features(x)}, problem, SearchSettings(options)).measures
    assert found.images == 86
    assert found.per_class[2].values["recall"] == 0
    assert 0.8 < (found.value("accuracy") or 0) <= 80 / 86


def test_the_nested_estimate_is_honest_where_choosing_is_not() -> None:
    """Twenty layers of noise: the best of them looks better than chance on the folds it was chosen by."""
    random = np.random.default_rng(0)
    tables = {f"{i}@avg": ArrayFeatures(random.normal(size=(60, 40)).astype("f4")) for i in range(20)}
    y = np.repeat([0, 1], 30)
    split = np.full(60, TRAIN, np.uint8)
    options = HeadOptions(strength=0.01, folds=3)
    problem = Problem(next(iter(tables.values())), y, split, CLASSES[:2])
    chosen = choose_layers(tables, problem, SearchSettings(options))
    nested = nested_estimate(tables, problem, SearchSettings(options)).as_json()
    assert chosen.choice.score > 0.63
    assert nested["accuracy"] < 0.6
    assert nested["images"] == 60
    assert nested["folds"] == 3
    assert len(nested["chosen"]) == 3
