"""Several labels per image, from the heads to the command line, against scikit-learn on the same features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import write_squares
from PIL import Image
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    log_loss,
    multilabel_confusion_matrix,
    roc_auc_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from featx.config import HeadOptions
from featx.errors import HeadError
from featx.features import as_features
from featx.heads.base import Head
from featx.heads.table import head_kind, make_head
from featx.metrics.measures import measure
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import forms_of
from featx.selection.folds import make_folds
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.selection.thresholds import search_thresholds


def made_up(n: int = 400, d: int = 12, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) and labels bool (n, k) of different frequency that depend on them, with noise."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, d)).astype(np.float32) @ random.standard_normal((d, d)).astype(np.float32)
    logits = x @ random.standard_normal((d, k)) + random.standard_normal((n, k)) * 2 - np.linspace(0, 5, k)
    return x, logits > 0


def head(clf: str, strength: float, **options: Any) -> Head:
    return make_head(head_kind(clf), strength, HeadOptions(clf=clf, **options), 0)


@pytest.mark.parametrize("weight", ["none", "balanced"])
@pytest.mark.parametrize("shape", [(400, 12), (40, 60)])  # the second is solved in the span of its rows
@pytest.mark.parametrize(
    ("clf", "strength", "reference"),
    [
        ("logreg", 0.1, LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000)),
        ("svm", 0.01, LinearSVC(C=0.01, tol=1e-6, max_iter=100_000, dual=False, intercept_scaling=100)),
        ("ridge", 0.1, RidgeClassifier(alpha=10.0)),
    ],
)
def test_linear_heads_are_one_vs_rest(
    clf: str, strength: float, reference: Any, shape: tuple[int, int], weight: str
) -> None:
    x, y = made_up(*shape)
    fitted = head(clf, strength, class_weight=weight).fit(x, y)
    scaler = StandardScaler().fit(x)
    reference = reference.set_params(class_weight=None if weight == "none" else "balanced")
    expected = OneVsRestClassifier(reference).fit(scaler.transform(x), y).decision_function(scaler.transform(x))
    found = fitted.logits(x)
    assert found.shape == y.shape
    assert fitted.classes_.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    assert ((found > 0) == (expected > 0)).mean() > 0.985


def test_the_weight_of_positives_multiplies_their_loss() -> None:
    x, y = made_up()
    fitted = head("logreg", 0.1, positive_weight=7.0).fit(x, y)
    scaler = StandardScaler().fit(x)
    reference = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000, class_weight={0: 1.0, 1: 7.0})
    expected = OneVsRestClassifier(reference).fit(scaler.transform(x), y).decision_function(scaler.transform(x))
    np.testing.assert_allclose(fitted.logits(x), expected, atol=0.02 * np.abs(expected).max())


def test_neighbours_vote_for_every_label() -> None:
    x, y = made_up()
    y[:, 3] = False  # a label that no image has
    fitted = head("knn", 5).fit(x, y)
    found = 1 / (1 + np.exp(-fitted.logits(x)))
    scaled = StandardScaler().fit_transform(x)
    reference = KNeighborsClassifier(5, algorithm="brute").fit(scaled, y[:, :3]).predict_proba(scaled)
    expected = np.stack([chance[:, 1] for chance in reference], axis=1).clip(0.1, 0.9)
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-6)
    np.testing.assert_allclose(found[:, 3], 0.1, atol=1e-6)


def test_the_radial_kernel_is_refused() -> None:
    with pytest.raises(HeadError, match="--clf logreg"):
        make_head(head_kind("svm", "rbf"), 1.0, HeadOptions(clf="svm", kernel="rbf"), 0).fit(*made_up())


def test_labels_have_to_be_truth_values() -> None:
    x, y = made_up()
    with pytest.raises(HeadError, match="bool"):
        head("logreg", 1.0).fit(x, y.astype(int))


# ---------------------------------------------------------------------------------------------------- the choice


LABELS = ("red", "round", "big", "rare")


def parts(n: int) -> np.ndarray:
    return np.random.default_rng(1).choice(3, n, p=[0.6, 0.2, 0.2]).astype(np.uint8)


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("clf", ["logreg", "knn", "auto"])
def test_heads_are_chosen_by_average_precision(clf: str) -> None:
    x, y = made_up()
    choice = choose_head(
        Problem(as_features(x), y, parts(400), LABELS),
        SearchSettings(HeadOptions(clf=clf, folds=2, epochs=2, hidden="8")),
    )
    assert {one.metric for one in choice.candidates} == {"average_precision"}
    assert choice.head.classes_.tolist() == [0, 1, 2, 3]
    chances = choice.calibration.probabilities(choice.logits(as_features(x)))
    assert ((chances > 0) & (chances < 1)).all()
    assert choice.thresholds is not None
    assert ((chances >= choice.thresholds) == y).mean() > 0.8


@pytest.mark.parametrize("mode", ["per_class", "global"])
def test_thresholds_are_the_best_of_all(mode: Any) -> None:
    random = np.random.default_rng(0)
    y = random.random((60, 3)) < [0.5, 0.2, 0.1]
    chances = np.clip(0.5 * y + 0.6 * random.random((60, 3)), 0.01, 0.99)
    found = search_thresholds(chances, y, mode, 0.1, 0.9)

    def f1(truth: np.ndarray, chance: np.ndarray, threshold: float) -> float:
        return float(f1_score(truth.ravel(), chance.ravel() >= threshold, zero_division=0.0))

    columns = [slice(None)] if mode == "global" else [slice(i, i + 1) for i in range(3)]
    for column in columns:
        reached = f1(y[:, column], chances[:, column], found[column][0])
        among = chances[:, column].ravel()  # F1 changes at these alone
        tried = [*among[(among >= 0.1) & (among <= 0.9)], 0.9]
        best = max(f1(y[:, column], chances[:, column], threshold) for threshold in tried)
        assert reached >= best - 1e-9
    assert ((found >= 0.1) & (found <= 0.9)).all()
    if mode == "global":
        assert len(set(found.tolist())) == 1


def test_thresholds_of_a_label_nobody_has_and_of_none() -> None:
    chances, y = np.full((4, 2), 0.3), np.array([[1, 0], [0, 0], [1, 0], [0, 0]], bool)
    assert search_thresholds(chances, y, "per_class", 0.6, 0.9)[1] == 0.6
    assert search_thresholds(chances, y, "none", 0.6, 0.9).tolist() == [0.5, 0.5]


def test_folds_spread_every_label_and_keep_groups() -> None:
    _, y = made_up(300)
    groups = np.arange(300) // 3
    for held, apart in ((make_folds(y, None, 5, 0), 0.06), (make_folds(y, groups, 5, 0), 0.12)):
        shares = np.array([y[held == fold].mean(axis=0) for fold in range(5)])
        assert np.abs(shares - y.mean(axis=0)).max() < apart
    assert all(len(set(held[groups == group])) == 1 for group in range(100))
    np.testing.assert_array_equal(held, make_folds(y, groups, 5, 0))


# ----------------------------------------------------------------------------------------------------- the figures


def test_every_metric_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    y = random.random((200, 4)) < 0.3
    chances = np.clip(random.random((200, 4)) * 0.7 + 0.3 * y, 0.001, 0.999)
    given = chances >= 0.5
    found = measure(LabelledPredictions(y, chances, LABELS)).as_json()
    expected = {
        "exact_match": accuracy_score(y, given),
        "hamming_loss": hamming_loss(y, given),
        "f1_micro": f1_score(y, given, average="micro"),
        "f1_macro": f1_score(y, given, average="macro"),
        "f1_samples": f1_score(y, given, average="samples", zero_division=1.0),
        "roc_auc_macro": roc_auc_score(y, chances, average="macro"),
        "roc_auc_micro": roc_auc_score(y, chances, average="micro"),
        "average_precision_macro": average_precision_score(y, chances, average="macro"),
        "average_precision_micro": average_precision_score(y, chances, average="micro"),
        "log_loss": np.mean([log_loss(y[:, i], chances[:, i], labels=[False, True]) for i in range(4)]),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    for i, row in enumerate(found["per_class"]):
        assert row["f1"] == pytest.approx(f1_score(y[:, i], given[:, i]), abs=1e-9)
        assert row["roc_auc"] == pytest.approx(roc_auc_score(y[:, i], chances[:, i]), abs=1e-9)
        assert row["average_precision"] == pytest.approx(average_precision_score(y[:, i], chances[:, i]), abs=1e-9)
    assert found["confusion"] == multilabel_confusion_matrix(y, given).tolist()
    assert set(found["intervals"]) == {one.key for one in forms_of("labels") if one.shares or one.resampling}
    assert all(low < found[name] < high for name, (low, high) in found["intervals"].items())
    empty = measure(LabelledPredictions(y[:0], chances[:0], LABELS)).as_json()
    assert empty.keys() == found.keys()
    assert empty["f1_micro"] is None


# ------------------------------------------------------------------------------------------------- from end to end


def test_several_labels_from_a_csv_to_predictions(
    tmp_path: Path, tiny_backbone: Path, featx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = write_squares(tmp_path)
    options = ["--label-separator", "$", "--backbone", tiny_backbone, "--layer", "high@flatten", "--cache", "cache"]
    with monkeypatch.context() as words:  # alone are looked at in this report
        words.setattr("featx.report.report.draw_figures", lambda *_: {})
        told = featx("fit-head", index, *options, "--split", "0.5,0.25,0.25", "--folds", "3", "--json").json
    assert told["val"]["images"] > 5
    assert {"exact_match", "f1_micro", "roc_auc_macro", "average_precision_macro"} <= set(told["test"])
    again = ("--set", "data.label_separator=$", "--report", "report", "--json")
    measured = featx("evaluate", told["bundle"], "--data", index, *again).json
    assert (tmp_path / "report" / "index.html").exists()
    assert "exact match" in (tmp_path / told["report"]).read_text().lower()
    assert measured["images"] == 60
    assert [np.sum(one) for one in measured["confusion"]] == [60, 60, 60]
    assert set(told["test"]["intervals"]) == {one.key for one in forms_of("labels") if one.shares or one.resampling}
    low, high = measured["intervals"]["f1_samples"]
    assert low <= measured["f1_samples"] <= high
    assert "has it not: given" in featx("evaluate", told["bundle"], "--data", index, *again[:2]).stdout
    assert set(measured["thresholds"]) == {"red", "green", "blue"}
    answers = featx("predict", tmp_path / "images", "--model", told["bundle"], "--top", "2", "--json").json
    truth = dict(line.split(",") for line in index.read_text().splitlines()[1:])
    for one in answers["predictions"]:
        assert len(one["top"]) == 2
        assert set(one["labels"]) <= {"red", "green", "blue"}
    exact = [
        set(one["labels"]) == set(filter(None, truth[f"images/{Path(one['path']).name}"].split("$")))
        for one in answers["predictions"]
    ]
    assert np.mean(exact) == pytest.approx(measured["exact_match"])
    text = featx("predict", tmp_path / "images" / "0.png", "--model", told["bundle"]).stdout
    assert "%" in text
    # What is unlike every training image is unknown, whatever labels its probabilities would give it.
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "other.png")
    asked = [tmp_path / "other.png", tmp_path / "images", "--model", told["bundle"], "--max-distance"]
    far = featx("predict", *asked, "1e9", "--json").json["predictions"]
    assert not any(one["unknown"] for one in far)
    distances = sorted(one["distance"] for one in far)
    assert distances[0] < 1e-3  # of training images
    most = (distances[0] + distances[-1]) / 2
    near = featx("predict", *asked, most, "--json").json["predictions"]
    assert [one["unknown"] for one in near] == [one["distance"] > most for one in far]
    for before, after in zip(far, near, strict=True):
        assert after["label"] == ("unknown" if after["unknown"] else before["label"])
        assert after["labels"] == before["labels"]
    featx("predict", *asked, most, "--out", "answers.csv")
    lines = (tmp_path / "answers.csv").read_text().splitlines()
    assert lines[0] == "path,label,confidence,distance,reason"
    expected = ["unknown" if one["unknown"] else "|".join(one["labels"]) for one in near]
    assert [line.split(",")[1] for line in lines[1:]] == expected
    tuning = ("--from", told["bundle"], "--split", "0.5,0.25,0.25", "--epochs", "1", "--optimizer", "sgd", "--no-html")
    tuned = featx("finetune", index, *options, *tuning, "--json").json
    assert tuned["comparison"]["test"]["images"] == told["test"]["images"]
    assert {"exact_match", "average_precision_macro"} <= tuned["test"].keys()
