"""Metrics: scikit-learn's own numbers, and nothing where nothing is defined."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import images_of_part
from fitted import Lab, call, evaluate
from scipy import stats
from sklearn import metrics

import featx
from featx.config import DataOptions
from featx.dataset import TEST, VAL, read_images
from featx.errors import DataError
from featx.inference.judge import probabilities_of
from featx.metrics.comparison import compare, compare_predictions
from featx.metrics.measures import Measures, measure
from featx.metrics.predictions import LabelledPredictions, align


def draw(n: int, k: int, seed: int = 0, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(k, size=n)
    logits = generator.normal(size=(n, k)) + sharpness * np.eye(k)[labels]
    chances = np.exp(logits)
    return labels, chances / chances.sum(axis=1, keepdims=True), [f"class {i}" for i in range(k)]


def measured(labels: np.ndarray, chances: np.ndarray, classes: list[str]) -> Measures:
    return measure(LabelledPredictions(labels, chances, tuple(classes)))


def figures(labels: np.ndarray, chances: np.ndarray, classes: list[str]) -> Any:
    return measured(labels, chances, classes).as_json()


@pytest.mark.parametrize(("n", "k"), [(500, 8), (40, 12), (60, 2), (300, 5), (300, 6)])
def test_metrics_are_those_of_scikit_learn(n: int, k: int) -> None:
    labels, chances, classes = draw(n, k)
    predicted, codes = chances.argmax(axis=1), np.arange(k)
    found = figures(labels, chances, classes)
    assert found["images"] == n
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted), abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted), abs=1e-9)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"), abs=1e-9)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, chances, labels=codes), abs=1e-9)
    if set(labels) == set(range(k)):
        score = chances[:, 1] if k == 2 else chances
        expected = metrics.roc_auc_score(labels, score, multi_class="ovr")
        assert found["roc_auc_macro"] == pytest.approx(expected, abs=1e-9)
        expected = metrics.average_precision_score(np.eye(k)[labels], chances)
        assert found["average_precision_macro"] == pytest.approx(expected, abs=1e-9)
    if k > 5:
        expected = metrics.top_k_accuracy_score(labels, chances, k=5, labels=codes)
        assert found["top5_accuracy"] == pytest.approx(expected, abs=1e-9)
    else:
        assert found["top5_accuracy"] is None
    assert found["confusion"] == metrics.confusion_matrix(labels, predicted, labels=codes).tolist()
    report = metrics.precision_recall_fscore_support(labels, predicted, labels=codes, zero_division=np.nan)
    for name, column in zip(("precision", "recall", "f1", "images"), report, strict=True):
        values = [np.nan if one[name] is None else one[name] for one in found["per_class"]]
        np.testing.assert_allclose(values, column, atol=1e-9)
    assert [one["label"] for one in found["per_class"]] == classes


def test_a_certain_mistake_costs_what_scikit_learn_says() -> None:
    labels, chances = np.array([0, 1, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    expected = metrics.log_loss(labels, chances)
    assert figures(labels, chances, ["a", "b"])["log_loss"] == pytest.approx(expected, abs=1e-9)


def test_what_is_not_defined_is_none() -> None:
    # c has no image, b is never predicted, d is neither
    labels = np.array([0, 0, 1, 1])
    chances = np.array([[0.9, 0, 0.1, 0], [0.2, 0, 0.8, 0], [0.9, 0.1, 0, 0], [0.9, 0.1, 0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures(labels, chances, ["a", "b", "c", "d"])
    a, b, c, d = found["per_class"]
    assert (a["precision"], a["recall"]) == (pytest.approx(1 / 3), 0.5)
    assert (b["precision"], b["recall"], b["f1"]) == (None, 0.0, 0.0)
    assert (c["precision"], c["recall"], c["f1"]) == (0.0, None, 0.0)
    assert (d["precision"], d["recall"], d["f1"], d["images"]) == (None, None, None, 0)
    assert found["balanced_accuracy"] == pytest.approx(0.25)  # of the classes that have images
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, chances.argmax(1), average="macro"), abs=1e-9)
    json.dumps(found, allow_nan=False)


def test_no_images_give_no_numbers() -> None:
    found = figures(np.empty(0, np.int64), np.empty((0, 3)), ["a", "b", "c"])
    assert found.pop("images") == 0
    assert set(found.values()) == {None}
    assert set(found) | {"images"} == set(figures(*draw(20, 3)))


def test_a_class_that_the_model_does_not_know_is_always_wrong() -> None:
    labels, everything = align(["zebra", "ape", "bee"], np.array([0, 1, 2, 2]), ["bee", "ape"])
    assert everything == ["bee", "ape", "zebra"]
    assert labels.tolist() == [2, 1, 0, 0]
    chances = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.7, 0.3]])
    found = figures(labels, chances, everything)
    assert found["accuracy"] == 0.75
    assert found["log_loss"] is None  # the model gives it no probability at all
    intervals = {"precision": None, "recall": pytest.approx([0.0, 0.7935], abs=1e-4)}
    assert found["per_class"][2] == {
        "label": "zebra",
        "precision": None,
        "recall": 0.0,
        "f1": 0.0,
        "images": 1,
        "intervals": intervals,
        "too_narrow": ["recall"],
    }
    assert np.array(found["confusion"]).shape == (3, 3)
    assert align(["a"], np.empty(0, np.int64), ["a", "b"])[1] == ["a", "b"]


def test_a_summary_leaves_the_tables_out() -> None:
    assert set(measured(*draw(30, 3)).summary()) == {
        "images",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "log_loss",
        "top5_accuracy",
        "roc_auc_macro",
        "average_precision_macro",
        "expected_calibration_error",
        "intervals",
    }


def test_a_comparison_of_two_models_is_mcnemars() -> None:
    first = np.array([True] * 80 + [True] * 10 + [False] * 2 + [False] * 8)
    second = np.array([True] * 80 + [False] * 10 + [True] * 2 + [False] * 8)
    found = compare(first, second)
    assert (found.images, found.accuracy, found.only) == (100, (0.9, 0.82), (10, 2))
    assert found.p_value == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # two-sided, of 12 throws of a coin
    assert found.verdict.startswith("The first is better by more than noise")
    paired = first.astype(float) - second
    resampled = stats.bootstrap(
        (paired,), np.mean, method="percentile", n_resamples=9999, random_state=np.random.default_rng(0)
    ).confidence_interval
    assert found.interval == pytest.approx((resampled.low, resampled.high), abs=0.011)
    assert "within noise" in compare(first[:85], second[:85]).verdict
    assert compare(first, first).p_value == 1.0
    assert compare(first[:0], first[:0]).images == 0


def test_two_bundles_are_compared_on_the_same_images(lab: Lab) -> None:
    told = json.loads(
        call(
            "evaluate",
            str(lab.bundle("logreg").path),
            "--against",
            str(lab.bundle("knn").path),
            "--data",
            str(lab.root / "pictures"),
            "--split",
            "test",
            "--json",
            cwd=lab.root,
        ).out
    )
    found = told["against"]
    assert found["images"] == 15
    assert found["accuracy"][0] == pytest.approx(told["accuracy"])
    assert found["only"][0] - found["only"][1] == round(15 * (found["accuracy"][0] - found["accuracy"][1]))
    model, other = (featx.load(lab.bundle(name).path) for name in ("logreg", "knn"))
    for rival in (other, lab.bundle("knn").path):
        measured = model.evaluate(lab.root / "pictures", "test", against=rival)
        assert json.loads(json.dumps(measured["against"])) == found
    with pytest.raises(featx.FeatxError, match="No bundle at nowhere"):
        model.evaluate(lab.root / "pictures", "test", against="nowhere")


def test_models_are_compared_by_path_and_several_labels_by_all_of_them() -> None:
    chances = np.array([[0.9, 0.2], [0.9, 0.9], [0.1, 0.2]])
    truth, half = np.array([[True, False], [True, False], [True, False]]), np.array([0.5, 0.5])
    first = LabelledPredictions(truth, chances, ("x", "y"), half, "test", ("a", "b", "c"))
    second = LabelledPredictions(
        truth, chances, ("x", "y"), half, "test", ("c", "a", "d")
    )  # right about c, wrong about a
    found = compare_predictions(first, second)
    assert (found.images, found.accuracy, found.only) == (2, (0.5, 0.5), (1, 1))
    one = LabelledPredictions(np.array([0]), chances[:1], ("x", "y"), part="test", paths=("a",))
    with pytest.raises(DataError, match="first of the two bundles gives several labels"):
        compare_predictions(first, one)


def test_images_with_two_labels_are_not_measured(lab: Lab, tmp_path: Path) -> None:
    twice = tmp_path / "twice"
    shutil.copytree(lab.root / "pictures", twice)
    shutil.copy(sorted((twice / "red").iterdir())[0], twice / "blue" / "also red.png")
    pipeline = replace(lab.pipeline, data=replace(lab.pipeline.data, path=str(twice)))
    images, notes = images_of_part(pipeline, lab.bundle("logreg"), "all")
    assert len(images) == 59
    assert any(note.startswith("2 files have the bytes of another under a different label") for note in notes)


@pytest.mark.parametrize("head", ["logreg", "rbf", "dense"])
def test_measured_again_a_bundle_is_as_good_as_it_says(lab: Lab, head: str) -> None:
    bundle = lab.bundle(head)
    for part, code in (("val", VAL), ("test", TEST)):
        images, notes = images_of_part(lab.pipeline, bundle, part)
        found, bad = evaluate(bundle, images)
        assert (len(images), notes, bad) == (int((lab.prepared.sample.split == code).sum()), [], [])
        claimed = bundle.manifest.metrics_on(part)
        assert found["accuracy"] == pytest.approx(
            claimed.get("accuracy"), abs=1 / 15
        )  # it was fitted on float16 features
        assert found["log_loss"] == pytest.approx(claimed.get("log_loss"), abs=0.02)


def test_the_parts_are_known_by_content_wherever_the_files_are(lab: Lab, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    for path in lab.pictures:
        (moved / Path(path).parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, moved / Path(path).parent.name / f"new {Path(path).name}")
    pipeline = replace(lab.pipeline, data=replace(lab.pipeline.data, path=str(moved)))
    before = evaluate(lab.bundle("svm"), images_of_part(lab.pipeline, lab.bundle("svm"), "test")[0])
    after = evaluate(lab.bundle("svm"), images_of_part(pipeline, lab.bundle("svm"), "test")[0])
    assert before == after
    _, notes = images_of_part(pipeline, lab.bundle("svm"), "all")
    assert notes == ["30 of these images were trained on: the figures flatter the model."]


def test_images_of_no_part_are_refused(lab: Lab, tmp_path: Path) -> None:
    from fitted import write_pictures

    other = replace(lab.pipeline, data=replace(lab.pipeline.data, path=str(write_pictures(tmp_path / "p", 2, seed=9))))
    with pytest.raises(DataError, match=r"None of the 6 images of .* is in the part 'test'.*--split all"):
        images_of_part(other, lab.bundle("svm"), "test")
    images, notes = images_of_part(other, lab.bundle("svm"), "all")
    assert (len(images), notes) == (6, [])


def test_bad_images_are_named_and_do_not_count(lab: Lab, tmp_path: Path) -> None:
    for name in ("blue", "red"):
        shutil.copytree(lab.root / "pictures" / name, tmp_path / name)
    (tmp_path / "red" / "broken.png").write_bytes(Path(lab.pictures[0]).read_bytes()[:200])
    images = read_images(tmp_path, DataOptions())
    found, bad = evaluate(lab.bundle("logreg"), images)
    assert found["images"] == 40
    assert [Path(one["path"]).name for one in bad] == ["broken.png"]
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="None of the 41 images can be read"):
        evaluate(lab.bundle("logreg"), read_images(tmp_path, DataOptions()))


def test_a_folder_without_an_image_to_measure_is_refused(lab: Lab, tmp_path: Path) -> None:
    for name in ("blue", "red"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "empty.png").write_bytes(b"")
    pipeline = replace(lab.pipeline, data=replace(lab.pipeline.data, path=str(tmp_path)))
    for part in ("all", "test"):
        with pytest.raises(DataError, match=r"None of the 2 images of .* can be read\. featx check .* says why"):
            images_of_part(pipeline, lab.bundle("logreg"), part)
    for name in ("blue", "red"):  # one image under two labels
        shutil.copy(lab.pictures[0], tmp_path / name / "empty.png")
    with pytest.raises(DataError, match=r"Every image of .* is there under different labels: see featx check "):
        images_of_part(pipeline, lab.bundle("logreg"), "all")


def test_unlabelled_images_cannot_be_measured(lab: Lab) -> None:
    images = read_images(lab.root / "pictures" / "red", DataOptions())
    with pytest.raises(DataError, match="must have one label per image"):
        evaluate(lab.bundle("logreg"), images)


def test_probabilities_keep_their_rows(lab: Lab) -> None:
    told: list[int] = []
    rows, chances, bad = probabilities_of(
        lab.bundle("svm"), lab.pictures, lambda stage, done, total, **counts: told.append(done)
    )
    assert rows.tolist() == list(range(60))
    assert chances.shape == (60, 3)
    assert bad == []
    assert told[-1] == 60
    assert told == sorted(told)
