"""Choosing a head: what is compared with what, what wins, and what is defined where little can be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from manifests import manifest_of

from featx.bundle.choices import describe_choices
from featx.bundle.fields import to_json
from featx.config import HeadOptions
from featx.dataset import NONE, TEST, TRAIN, VAL
from featx.errors import HeadError
from featx.features import FeaturesError, as_features
from featx.heads.dense import DenseHead
from featx.heads.estimators import KernelSVM
from featx.heads.linear import LogisticRegression
from featx.heads.table import HEADS
from featx.metrics.probabilities import softmax
from featx.metrics.scores import score
from featx.runs.measured import epoch_records
from featx.selection.choice import Choice
from featx.selection.folds import make_folds
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings

CLASSES = ("ant", "bee", "cow", "dog")


def blobs(n: int = 300, d: int = 8, k: int = 3, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(n) % k)
    x = random.normal(size=(k, d))[y] + noise * random.normal(size=(n, d))
    return x.astype(np.float32), y


def parts(n: int, val: float = 0.2, test: float = 0.2) -> np.ndarray:
    split = np.full(n, TRAIN, np.uint8)
    split[: int(n * val)] = VAL
    split[n - int(n * test) :] = TEST
    return split


def choose(x: Any, y: np.ndarray, split: np.ndarray, more: dict[str, Any] | None = None, **options: Any) -> Choice:
    more = more or {}
    settings = SearchSettings(HeadOptions(**options), more.get("seed", 0), more.get("show", lambda line: None))
    classes = more.get("classes", CLASSES)
    return choose_head(Problem(as_features(x), y, split, classes, weight=more.get("weight")), settings)


def accuracy(choice: Choice, x: np.ndarray, y: np.ndarray) -> float:
    return float((choice.head.classes_[choice.head.logits(x).argmax(axis=1)] == y).mean())


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("val", [0.2, 0.0])
def test_folds_are_stopped_by_rows_that_they_are_not_judged_on(val: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the epoch that suits a fold best by chance flatters it."""
    watched: dict[int, set[bytes]] = {}
    judged: list[tuple[set[bytes], set[bytes]]] = []
    fit, logits = DenseHead.fit, DenseHead.logits

    def rows(features: Any) -> set[bytes]:
        return {row.tobytes() for row in as_features(features).asarray()}

    def watch(self: DenseHead, features: Any, y: Any, weight: Any, validation: Any, recording: Any) -> DenseHead:
        watched[id(self)] = rows(validation[0]) if validation else set()
        assert not watched[id(self)] & rows(features)
        return fit(self, features, y, weight, validation, recording)

    def judge(self: DenseHead, features: Any) -> np.ndarray:
        judged.append((rows(features), watched[id(self)]))
        return logits(self, features)

    monkeypatch.setattr(DenseHead, "fit", watch)
    monkeypatch.setattr(DenseHead, "logits", judge)
    x, y = blobs(120)
    choose(x, y, parts(120, val, 0.0), clf="dense", search="cv", folds=3, hidden="", epochs=2, monitor="val_accuracy")
    folds = judged[:3]
    assert len(set().union(*(some for some, _ in folds))) == 120 * (1 - val)
    assert all(stopped and not some & stopped for some, stopped in folds)
    if val:
        assert {frozenset(stopped) for _, stopped in folds} == {frozenset(rows(x[:24]))}


def test_the_best_of_many_epochs_is_too_good_on_val_and_is_said_to_be_the_best_of_so_many() -> None:
    """Labels that nothing explains: half of any images is right, but not of those that have chosen the epoch."""
    found: dict[str, list[float]] = {"val": [], "epochs": [], "test": []}
    options = {"hidden": "16", "epochs": 30, "patience": 30, "batch_size": 60, "monitor": "val_accuracy"}
    options |= {"learning_rate": 0.2}
    for seed in range(3):
        random = np.random.default_rng(seed)
        x, y = random.normal(size=(2_160, 20)).astype(np.float32), random.integers(2, size=2_160)
        split = np.repeat([TRAIN, VAL, TEST], [120, 40, 2_000]).astype(np.uint8)
        chosen = choose(x, y, split, {"classes": ("a", "b")}, clf="dense", search="val", **options)
        assert chosen.best is not None
        head = cast("DenseHead", chosen.head)
        found["val"].append(chosen.best.score)
        found["epochs"].append(float(np.mean([row["val_accuracy"] for row in head.training_log_.as_json()])))
        found["test"].append(accuracy(chosen, x[160:], y[160:]))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    assert means["val"] > means["epochs"] + 0.05
    assert means["val"] > means["test"] + 0.05
    assert means["test"] == pytest.approx(0.5, abs=0.02)
    split_record = {"digest": "s", "images": {"train": 120, "val": 40}}
    made = manifest_of(history=to_json(epoch_records(head.training_log_)), split=split_record)
    assert describe_choices(made)[0].startswith("Val has chosen the epoch among 30, so its figures are somewhat better")


# --------------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize("where", ["cv", "val"])
@pytest.mark.parametrize("clf", ["logreg", "svm", "ridge", "knn", "dense"])
def test_every_kind_is_searched_and_fitted(clf: str, where: str) -> None:
    x, y = blobs()
    split = parts(300)
    told: list[str] = []
    choice = choose(
        x,
        y,
        split,
        {"show": told.append},
        clf=clf,
        search=where,
        folds=3,
        hidden="16",
        epochs=30,
        learning_rate=0.01,
    )
    assert choice.clf == clf
    assert accuracy(choice, x[split == TEST], y[split == TEST]) > 0.85
    assert {c.where for c in choice.candidates} == {where}
    assert {c.metric for c in choice.candidates} == {"accuracy"}
    assert len(told) == len(choice.candidates)
    assert f"({where})" in told[0]
    assert choice.val_logits is not None
    np.testing.assert_allclose(choice.val_logits, choice.head.logits(x[split == VAL]), atol=1e-5)
    assert choice.temperature > 0
    assert choice.seconds > 0
    assert choice.notes == ()
    best = max(choice.candidates, key=lambda c: c.score)
    assert choice.head.get_params() == choice.params == best.params


def test_the_radial_kernel_and_a_given_strength() -> None:
    x, y = blobs(120)
    choice = choose(x, y, parts(120), clf="svm", kernel="rbf", strength=3.0)
    assert isinstance(choice.head, KernelSVM)
    assert [c.params["C"] for c in choice.candidates] == [3.0]


def test_auto_compares_all_kinds_on_the_same_rows() -> None:
    x, y = blobs()
    choice = choose(x, y, parts(300), clf="auto", search="val", hidden="16", epochs=3)
    assert {c.clf for c in choice.candidates} == {"logreg", "svm", "ridge", "knn", "dense"}
    assert any(c.clf == "svm" and "tolerance" not in c.params for c in choice.candidates), "the radial kernel too"
    assert max(c.score for c in choice.candidates) == next(
        c.score for c in choice.candidates if c.clf == choice.clf and c.params == choice.params
    )


def test_auto_leaves_out_what_many_rows_make_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.selection.auto.HEADS", {name: HEADS[name] for name in ("ridge", "svm-rbf")})
    x, y = blobs(5100, d=2)
    choice = choose(x, y, np.full(5100, TRAIN), clf="auto", folds=2)
    assert choice.clf == "ridge"


def test_the_strongest_of_equals_wins() -> None:
    x, y = blobs(90, noise=0.0)
    choice = choose(x, y, np.full(90, TRAIN), clf="ridge")
    assert choice.params["C"] == HEADS["ridge"].strengths[0]
    assert {c.score for c in choice.candidates} == {1.0}


def test_a_search_gives_up_once_weaker_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = HEADS["logreg"]
    told = {
        "accuracy": iter([0.5, 0.5, 0.5, 0.7, 0.6, 0.7, 0.9, 0.9]),
        "log_loss": iter([1.0, 0.9, 0.8, 0.7, 0.8, 0.8, 0.1, 0.1]),  # falls while accuracy stands still, then rises
    }
    monkeypatch.setattr("featx.selection.arena.score", lambda metric, *_: next(told[metric]))
    x, y = blobs(1000, d=2)
    choice = choose(x, y, np.full(1000, TRAIN))
    assert len(choice.candidates) == 6
    assert choice.params["C"] == kind.strengths[3]


@pytest.mark.parametrize(("clf", "seed"), [("ridge", 3), ("svm", 6)])
def test_a_search_does_not_stop_where_strong_regularisation_stands_still(clf: str, seed: int) -> None:
    """Of a rare class among weak features: no strength of the grid, each fitted alone, is better."""
    random = np.random.default_rng(seed)
    y = (np.arange(64) < 10).astype(int)
    x = random.normal(size=(64, 4)) @ random.normal(size=(4, 16)) + random.normal(size=(64, 16))
    x = (x + 0.5 * np.outer(y, random.normal(size=16))).astype(np.float32)
    scores = [
        choose(x, y, np.full(64, TRAIN, np.uint8), clf=clf, class_weight="balanced", strength=strength).score
        for strength in (None, *HEADS[clf].strengths)
    ]
    assert scores[0] >= max(scores[1:])


def test_the_winner_is_fitted_on_all_of_train_and_only_train() -> None:
    x, y = blobs()
    split = parts(300)
    choice = choose(x, y, split, search="cv")
    exact = LogisticRegression(**{**choice.params, "tolerance": 1e-7})
    alone = exact.fit(x[split == TRAIN], y[split == TRAIN]).logits(x)  # with val it would be off by a tenth
    np.testing.assert_allclose(choice.head.logits(x), alone, atol=0.02 * np.abs(alone).max())


def test_test_rows_and_unused_rows_are_not_read() -> None:
    x, y = blobs()
    split = parts(300)
    split[100:110] = NONE
    plain = choose(x, y, split, search="cv")
    spoilt = x.copy()
    spoilt[(split == TEST) | (split == NONE)] = np.nan
    again = choose(spoilt, y, split, search="cv")
    assert again.candidates == plain.candidates
    assert again.temperature == plain.temperature


def test_the_same_seed_gives_the_same_choice() -> None:
    x, y = blobs(noise=2.0)
    split = np.full(300, TRAIN)
    first, again, other = (choose(x, y, split, {"seed": seed}) for seed in (0, 0, 1))
    assert first.candidates == again.candidates
    assert first.candidates != other.candidates


def test_auto_search_takes_folds_for_few_rows_and_val_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs()
    assert choose(x, y, parts(300)).candidates[0].where == "cv"
    monkeypatch.setattr("featx.selection.heads._MOST_CV_ROWS", 100)
    assert choose(x, y, parts(300)).candidates[0].where == "val"
    assert choose(x, y, parts(300, val=0)).candidates[0].where == "cv"


def test_features_larger_than_memory_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs()
    split = parts(300)
    inside = choose(x, y, split, clf="svm")
    monkeypatch.setattr("featx.selection.memory._physical_memory", lambda: 0)
    outside = choose(x, y, split, clf="svm")
    assert outside.params == inside.params
    np.testing.assert_allclose(outside.head.logits(x), inside.head.logits(x), rtol=1e-3, atol=1e-3)


def test_weights_reach_the_fit_and_the_search() -> None:
    x, y = blobs(noise=2.0)
    split = parts(300)
    weight = np.where(y == 0, 50.0, 1.0)
    for where in ("cv", "val"):
        heavy = choose(x, y, split, {"weight": weight}, search=where, strength=0.1)
        plain = choose(x, y, split, search=where, strength=0.1)
        assert (heavy.head.logits(x).argmax(axis=1) == 0).mean() > (plain.head.logits(x).argmax(axis=1) == 0).mean()
        assert heavy.candidates[0].score < plain.candidates[0].score


def test_confidence_is_calibrated_off_the_training_rows() -> None:
    x, y = blobs(2000, noise=1.6, seed=3)
    split = parts(2000, val=0.1, test=0.5)
    for clf in ("svm", "ridge", "logreg"):
        choice = choose(x, y, split, clf=clf)
        logits = choice.head.logits(x[split == TEST])
        confidence = softmax(logits, choice.temperature).max(axis=1).mean()
        assert confidence == pytest.approx(accuracy(choice, x[split == TEST], y[split == TEST]), abs=0.05)


# --------------------------------------------------------------------------------------------------- odd cases


def test_one_class_is_named() -> None:
    x, _ = blobs(20)
    with pytest.raises(HeadError, match="all 20 training images are 'cow'"):
        choose(x, np.full(20, 2), np.full(20, TRAIN))
    with pytest.raises(HeadError, match="No image is left to train on"):
        choose(x, np.full(20, 2), np.full(20, TEST))


def test_rows_that_are_not_finite_are_positions_in_what_was_given() -> None:
    x, y = blobs()
    split = parts(300)
    x[[10, 100, 150, 299]] = np.inf  # val, train, train, test
    with pytest.raises(FeaturesError) as caught:
        choose(x, y, split)
    assert sorted(caught.value.rows) == [10, 100, 150]


def test_val_has_to_exist_to_be_searched_on() -> None:
    x, y = blobs(30)
    with pytest.raises(HeadError, match="--search val needs val images"):
        choose(x, y, np.full(30, TRAIN), search="val")
    with pytest.raises(HeadError, match="--folds must be at least 2, got 1"):
        choose(x, y, np.full(30, TRAIN), folds=1)


@pytest.mark.parametrize("clf", ["logreg", "svm", "ridge", "knn", "auto"])
def test_one_image_per_class_takes_the_defaults(clf: str) -> None:
    x = np.eye(3, 8, dtype=np.float32)
    choice = choose(x, np.arange(3), np.full(3, TRAIN), clf=clf)
    assert choice.clf == ("logreg" if clf == "auto" else clf)
    assert choice.candidates == ()
    assert choice.temperature == 1.0
    assert "No image could be left out" in choice.notes[0]
    assert accuracy(choice, x, np.arange(3)) == 1.0
    assert choice.val_logits is None


def test_one_image_of_one_class_among_many_is_trained_on() -> None:
    x, y = blobs(61, k=3)
    y[y == 2] = 0
    y[7] = 2
    choice = choose(x, y, np.full(61, TRAIN))
    np.testing.assert_array_equal(choice.head.classes_, [0, 1, 2])
    assert choice.candidates


def test_a_class_only_in_val_or_test_is_reported() -> None:
    x, y = blobs()
    split = parts(300)
    y[split == TEST] = np.where(np.arange((split == TEST).sum()) < 5, 3, y[split == TEST])
    y[:4] = 3
    for where in ("cv", "val"):
        choice = choose(x, y, split, search=where)
        assert choice.notes == ("Without a training image, always wrong: dog.",)
        np.testing.assert_array_equal(choice.head.classes_, [0, 1, 2])
        assert choice.val_logits is not None
        assert choice.val_logits.shape == (60, 3)


def test_a_class_missing_from_train_has_no_column() -> None:
    x, y = blobs(k=3)
    y = np.where(y == 1, 3, y)
    choice = choose(x, y, parts(300))
    np.testing.assert_array_equal(choice.head.classes_, [0, 2, 3])
    assert accuracy(choice, x, y) > 0.85


def test_two_classes() -> None:
    x, y = blobs(k=2)
    for clf in ("logreg", "svm", "ridge", "knn"):
        choice = choose(x, y, parts(300), clf=clf)
        assert choice.head.logits(x).shape == (300, 2)
        assert accuracy(choice, x, y) > 0.85


@pytest.mark.usefixtures("op_by_op")
def test_the_dense_head_without_val_trains_for_the_epochs_that_were_best_in_the_folds() -> None:
    x, y = blobs(90)
    choice = choose(x, y, np.full(90, TRAIN), clf="dense", hidden="8", epochs=6, folds=2, learning_rate=0.01)
    assert choice.candidates[0].where == "cv"
    head: Any = choice.head
    assert len(head.training_log_.column("loss")) == choice.params["epochs"] <= 6
    assert head.training_log_.column("val_loss") == []


# --------------------------------------------------------------------------------------------------- folds


def test_folds_spread_every_class_evenly() -> None:
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 23, 7]))
    test_fold = make_folds(y, None, 5, 0)
    counts = np.array([[np.sum((test_fold == f) & (y == c)) for f in range(5)] for c in range(3)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1


def test_groups_are_in_one_fold() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 40, 200)
    y = groups % 3
    test_fold = make_folds(y, groups, 4, 0)
    assert all(len(np.unique(test_fold[groups == g])) == 1 for g in np.unique(groups))
    assert set(test_fold) == {0, 1, 2, 3}
    counts = np.array([[np.sum((test_fold == f) & (y == c)) for f in range(4)] for c in range(3)])
    assert (counts > 0).all()


def test_a_group_of_several_classes_counts_as_its_commonest() -> None:
    y = np.array([0, 0, 1, 1, 1, 0, 0, 1])
    groups = np.array([5, 5, 5, 6, 6, 7, 7, 8])
    test_fold = make_folds(y, groups, 2, 0)
    assert test_fold[0] != test_fold[5], "groups 5 and 7 are both of class 0"
    assert test_fold[3] != test_fold[7], "groups 6 and 8 are both of class 1"


def test_folds_shrink_to_the_largest_class_and_leave_singles_in_training() -> None:
    y = np.array([0, 0, 0, 1, 1, 2])
    test_fold = make_folds(y, None, 10, 0)
    assert set(test_fold[:5]) == {0, 1, 2}
    assert len(set(test_fold[:3])) == 3
    assert test_fold[3] != test_fold[4]
    assert test_fold[5] == -1
    assert set(make_folds(np.arange(4), None, 5, 0)) == {-1}
    assert set(make_folds(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 5, 0)) == {-1}


def test_folds_depend_on_the_seed_alone() -> None:
    y = np.arange(100) % 4
    np.testing.assert_array_equal(make_folds(y, None, 5, 3), make_folds(y, None, 5, 3))
    assert (make_folds(y, None, 5, 3) != make_folds(y, None, 5, 4)).any()


# --------------------------------------------------------------------------------------------------- scores


def test_scores_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

    random = np.random.default_rng(0)
    index = random.integers(0, 3, 200)  # class 3 occurs in predictions alone, class 4 nowhere
    logits = random.normal(size=(200, 5)) + 1.5 * np.eye(5)[index]
    logits[:, 4] -= 100
    predicted = logits.argmax(axis=1)
    assert score("accuracy", logits, index) == pytest.approx(accuracy_score(index, predicted), abs=1e-12)
    assert score("macro_f1", logits, index) == pytest.approx(f1_score(index, predicted, average="macro"), abs=1e-12)
    known = np.isin(predicted, index)
    expected = balanced_accuracy_score(index[known], predicted[known])
    assert score("balanced_accuracy", logits[known], index[known]) == pytest.approx(expected, abs=1e-12)


def test_log_loss_is_measured_at_its_best_temperature() -> None:
    from scipy.optimize import minimize_scalar
    from sklearn.metrics import log_loss

    x, y = blobs(noise=2.0)
    logits = LogisticRegression().fit(x, y).logits(x) * 7

    def loss(log_t: float) -> float:
        return float(log_loss(y, softmax(logits, float(np.exp(log_t)))))

    assert score("log_loss", logits, y) == pytest.approx(minimize_scalar(loss).fun, rel=1e-3)


def test_lower_log_loss_wins() -> None:
    x, y = blobs(noise=2.0)
    choice = choose(x, y, parts(300), metric="log_loss")
    best = min(choice.candidates, key=lambda c: c.score)
    assert choice.params == best.params


@pytest.mark.usefixtures("op_by_op")
def test_a_thousand_classes() -> None:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(1000), 3)
    x = (3 * random.normal(size=(1000, 30))[y] + random.normal(size=(3000, 30))).astype(np.float32)
    split = np.tile([TRAIN, TRAIN, TEST], 1000).astype(np.uint8)
    names = tuple(f"species {code}" for code in range(1000))
    choice = choose_head(Problem(as_features(x), y, split, names), SearchSettings(HeadOptions(clf="ridge", folds=2)))
    test = split == TEST
    assert choice.head.logits(x).shape == (3000, 1000)
    assert (choice.head.logits(x[test]).argmax(axis=1) == y[test]).mean() > 0.9
    np.testing.assert_allclose(choice.calibration.probabilities(choice.head.logits(x[test])).sum(axis=1), 1)


def test_a_search_that_ends_at_a_border_goes_on_and_says_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same search over a grid that is wide enough from the start."""
    random = np.random.default_rng(0)
    y = random.integers(3, size=150)
    x = (random.normal(size=(3, 6))[y] + 2 * random.normal(size=(150, 6))).astype(np.float32)
    problem = Problem(as_features(x), y, np.full(150, TRAIN, np.uint8), ("a", "b", "c"))

    def search(*strengths: float) -> Choice:
        monkeypatch.setitem(HEADS, "logreg", replace(HEADS["logreg"], strengths=strengths))
        options = HeadOptions(metric="log_loss", clf="logreg")
        return choose_head(problem, SearchSettings(options, show=lambda _: None))

    wide = [10.0**power for power in range(-7, 3)]
    expected = search(*wide)
    assert expected.params["C"] not in {wide[0], wide[-1]}
    below = wide.index(expected.params["C"])
    for strengths in (wide[: below - 1], wide[below + 2 :]):  # both end before the best one
        found = search(*strengths)
        assert found.params["C"] == expected.params["C"]
        assert found.score == pytest.approx(expected.score, rel=1e-4)
        assert not [note for note in found.notes if "at the end" in note]
    far = search(100.0, 110.0)  # further away than it goes
    assert len(far.candidates) == 6
    assert any("is at the end of what was tried" in note for note in far.notes)
