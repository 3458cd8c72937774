"""The radial kernel: C and gamma against scikit-learn's own search, and what `auto` tries and leaves out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featx.config import HeadOptions
from featx.dataset import TEST, TRAIN, VAL
from featx.errors import HeadError
from featx.features import ArrayFeatures, as_features
from featx.heads.estimators import KernelSVM
from featx.heads.kernel import KernelFold
from featx.heads.table import HEADS
from featx.selection.choice import Choice
from featx.selection.folds import make_folds
from featx.selection.heads import choose_head
from featx.selection.layers import LayersChoice, choose_layers
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings

RADIAL = HeadOptions(clf="svm", kernel="rbf", folds=3)


def board(n: int = 360, d: int = 2, cells: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A chess board of so many squares along each side, and features that say nothing."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, cells, size=(n, d)).astype(np.float32)
    return x, (np.floor(x[:, 0]) + np.floor(x[:, 1])).astype(np.int64) % 2


def choose(x: np.ndarray, y: np.ndarray, options: HeadOptions = RADIAL, **more: Any) -> Choice:
    names = tuple(map(str, range(int(y.max()) + 1)))
    show = more.pop("show", lambda line: None)
    split = more.pop("split", np.full(len(y), TRAIN, np.uint8))
    return choose_head(Problem(as_features(x), y, split, names, **more), SearchSettings(options, show=show))


def reference(strength: float, gamma: float, features: int) -> Pipeline:
    """scikit-learn's; gamma is a multiple of its "scale", 1 / features where these are standardised."""
    return make_pipeline(StandardScaler(), SVC(C=strength, gamma=gamma / features, decision_function_shape="ovr"))


@pytest.mark.parametrize(("classes", "gamma"), [(2, 1.0), (4, 0.25), (4, 4.0)])
def test_logits_of_distances_are_those_of_scikit_learn(classes: int, gamma: float) -> None:
    random = np.random.default_rng(0)
    y = np.arange(150) % classes
    x = (random.normal(size=(classes, 6))[y] + random.normal(size=(150, 6))).astype(np.float32)
    weight = random.uniform(0.5, 2, 150)
    fitted, judged = np.arange(100), np.arange(100, 150)
    features = as_features(x)
    fold = KernelFold.of(features.take(fitted), y[fitted], weight[fitted], features.take(judged), "none")
    theirs = reference(3.0, gamma, 6).fit(x[fitted], y[fitted], svc__sample_weight=weight[fitted])
    decision = theirs.decision_function(x[judged])
    expected = np.column_stack([0 * decision, decision]) if classes == 2 else decision
    np.testing.assert_allclose(fold.logits(3.0, gamma), expected, atol=2e-3)
    head = KernelSVM(C=3.0, gamma=gamma).fit(x[fitted], y[fitted], weight[fitted])
    np.testing.assert_allclose(head.logits(x[judged]), expected, atol=2e-3)


def test_gamma_counts_features_that_vary() -> None:
    x, y = board(120)
    still = np.hstack([x, np.ones((120, 5), np.float32)])
    for gamma in (1.0, 4.0):
        alone, beside = KernelSVM(gamma=gamma).fit(x, y), KernelSVM(gamma=gamma).fit(still, y)
        np.testing.assert_allclose(beside.logits(still), alone.logits(x), atol=1e-4)
    with pytest.raises(HeadError, match="some weight in every class"):
        KernelFold.of(as_features(x), y, (y == 0).astype(float), as_features(x), "none")


def test_scores_of_the_search_are_those_of_scikit_learn_and_no_neighbour_is_better() -> None:
    x, y = board(300)
    choice = choose(x, y)
    test_fold = make_folds(y, None, 3, 0)

    def theirs(strength: float, gamma: float) -> float:
        scores = cross_val_score(reference(strength, gamma, 2), x, y, cv=PredefinedSplit(test_fold))
        return float(np.average(scores, weights=np.bincount(test_fold)))

    for one in choice.candidates:  # a row on the border of two classes may fall to either side by rounding
        assert one.score == pytest.approx(theirs(one.params["C"], one.params["gamma"]), abs=1.5 / len(y))
    best, (strength, gamma) = choice.score, (choice.params["C"], choice.params["gamma"])
    assert gamma > 1
    assert best > max(one.score for one in choice.candidates if one.params["gamma"] == 1) + 0.02
    neighbours = [(strength, gamma / 4), (strength, gamma * 4), (strength / 10, gamma), (strength * 10, gamma)]
    assert best >= max(theirs(*point) for point in neighbours) - 1.5 / len(y)
    assert len({(one.params["C"], one.params["gamma"]) for one in choice.candidates}) == len(choice.candidates)
    assert choice.notes == ()


def test_a_search_that_ends_at_its_limit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.selection.kernel._GAMMAS", (0.25, 4.0))
    x, y = board(cells=6)
    choice = choose(x, y)
    assert choice.params["gamma"] == 4.0
    (note,) = choice.notes
    assert note == (
        "The best gamma of svm (rbf), 4, is at the end of what is tried (0.25 to 4, times the usual one): one beyond "
        "may be better."
    )


def test_a_strength_that_is_given_is_not_searched() -> None:
    x, y = board(90)
    choice = choose(x, y, replace(RADIAL, strength=3.0))
    assert [(one.params["C"], one.params["gamma"]) for one in choice.candidates] == [(3.0, 1.0)]


def test_a_gamma_that_is_given_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = board(90)
    both = choose(x, y, replace(RADIAL, strength=3.0, gamma=8.0))
    assert [(one.params["C"], one.params["gamma"]) for one in both.candidates] == [(3.0, 8.0)]
    theirs = reference(3.0, 8.0, 2).fit(x, y)
    np.testing.assert_allclose(both.head.logits(x)[:, 1], theirs.decision_function(x), atol=2e-3)
    monkeypatch.setattr("featx.selection.kernel._GAMMAS", (0.25, 8.0))
    alone = choose(x, y, replace(RADIAL, gamma=8.0))
    assert {one.params["gamma"] for one in alone.candidates} == {8.0}
    assert len(alone.candidates) >= 4
    assert not any("gamma" in note for note in alone.notes)  # its end is no end of a search
    auto = choose(x, y, HeadOptions(clf="auto", folds=3, gamma=8.0))
    assert {one.params["gamma"] for one in auto.candidates if "gamma" in one.params} >= {1.0, 4.0}


def test_of_many_rows_a_part_finds_the_values_and_all_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.selection.kernel._MOST_ROWS", 150)
    x, y = board()
    y[:3] = 2  # a class of three images, one for each fold
    image_of = np.r_[np.arange(360), np.arange(360)]
    lines: list[str] = []
    choice = choose(np.vstack([x, x]), np.r_[y, y], image_of=image_of, show=lines.append)
    (only,) = choice.candidates
    shown = f"svm (rbf), C {only.params['C']:.3g}, gamma {only.params['gamma']:.3g} accuracy {only.score:.3f} (cv)"
    assert lines[-1] == shown
    drawn = {re.fullmatch(r".* \(cv\), on (\d+) of 360 images", line) for line in lines[:-1]}
    assert {one is not None and 75 <= int(one[1]) <= 87 for one in drawn} == {True}
    test_fold = make_folds(y, None, 3, 0)
    right = 0
    for fold in range(3):
        theirs = reference(only.params["C"], only.params["gamma"], 2).fit(x[test_fold != fold], y[test_fold != fold])
        right += (theirs.predict(x[test_fold == fold]) == y[test_fold == fold]).sum()
    assert only.score == pytest.approx(right / 360, abs=0.02)  # of views there are two rows each, which weigh twice


def test_what_is_found_on_val_is_fitted_on_train() -> None:
    x, y = board()
    split = np.where(np.arange(360) % 3 == 0, VAL, TRAIN).astype(np.uint8)
    choice = choose(x, y, replace(RADIAL, search="val"), split=split)
    assert {one.where for one in choice.candidates} == {"val"}
    theirs = reference(choice.params["C"], choice.params["gamma"], 2).fit(x[split == TRAIN], y[split == TRAIN])
    assert choice.score == pytest.approx(theirs.score(x[split == VAL], y[split == VAL]), abs=0.01)


# ------------------------------------------------------------------------------------------------------------ auto


def pieces(n: int = 240) -> tuple[dict[str, ArrayFeatures], np.ndarray, np.ndarray]:
    """Four outputs: the class is whether the signs of all agree in pairs, which no linear head and no output tells."""
    random = np.random.default_rng(1)
    x = random.normal(size=(n, 4, 1)).astype(np.float32)
    x += 0.7 * np.sign(x)
    y = (x[:, 0, 0] * x[:, 3, 0] > 0).astype(np.int64)
    split = np.where(np.arange(n) % 3 == 0, TEST, TRAIN).astype(np.uint8)
    return {f"{name}@avg": ArrayFeatures(x[:, place]) for place, name in enumerate("abcd")}, y, split


def choose_among(options: HeadOptions, y: np.ndarray, split: np.ndarray, tables: Any, **more: Any) -> LayersChoice:
    problem = Problem(tables["a@avg"], y, split, ("odd", "even"), **more)
    return choose_layers(tables, problem, SearchSettings(options))


def test_auto_finds_the_radial_kernel_on_all_outputs_side_by_side() -> None:
    tables, y, split = pieces()
    found = choose_among(HeadOptions(clf="auto", folds=3), y, split, tables)
    assert found.outputs == tuple(tables)
    assert (found.choice.clf, found.choice.head.__class__) == ("svm", KernelSVM)
    logits = found.logits({name: table.take(np.flatnonzero(split == TEST)) for name, table in tables.items()})
    assert (logits.argmax(axis=1) == y[split == TEST]).mean() > 0.85
    assert {one.clf for one in found.tried[" + ".join(tables)]} == {"logreg", "svm"}
    assert "dense was not tried: it watches val images to stop by, and there are none." in found.choice.notes
    alone = choose_among(HeadOptions(clf="auto", folds=3, combine="none"), y, split, tables)
    assert len(alone.outputs) == 1


def test_auto_names_what_it_left_out_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, y, split = pieces()
    monkeypatch.setitem(HEADS, "svm-rbf", replace(HEADS["svm-rbf"], most_values=300))
    notes = choose_among(HeadOptions(clf="auto", folds=3), y, split, tables).choice.notes
    reason = "160 images x 4 features are more than the 300 numbers up to which auto tries it."
    hand = "By hand: --clf svm --kernel rbf."
    assert f"svm (rbf) on all 4 outputs side by side was not tried: {reason} {hand}" in notes
    monkeypatch.setitem(HEADS, "svm-rbf", replace(HEADS["svm-rbf"], most_rows=150, most_values=10**7))
    monkeypatch.setattr("featx.selection.layers._MOST_JOINED_VALUES", 600)
    weight = np.arange(240) % 2 + 1.0
    notes = choose_among(HeadOptions(clf="auto", folds=3), y, split, tables, weight=weight).choice.notes
    joined = "Heads on all 4 outputs side by side were not tried: 160 images x 4 features are more than 600 numbers."
    radial = "svm (rbf) was not tried: of 160 images it would take too long; auto tries it on up to 150."
    weighed = "knn was not tried: weights do not change it."
    assert set(notes) >= {f"{joined} By hand: --combine all.", f"{radial} {hand}", weighed}
    labels = np.stack([y == 1, y == 0], axis=1)
    notes = choose_among(HeadOptions(clf="auto", folds=3), labels, split, tables).choice.notes
    assert "svm (rbf) was not tried: it gives one class per image, not several labels." in notes
