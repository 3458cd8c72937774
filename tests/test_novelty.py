"""Unknown images: the distance is that of a plain computation, noise and other pictures are far, known ones are not."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fitted import Lab, Outcome, call
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_distances

from featx.bundle.bundle import Bundle
from featx.bundle.novelty import choose_rows, fit_reference, load_reference
from featx.dataset import TRAIN
from featx.errors import BundleError
from featx.features import ArrayFeatures
from featx.inference.predict import AnswerOptions, Prediction, Unread, predict


@pytest.fixture
def strange(tmp_path: Path) -> list[str]:
    """Stripes: the lab has noise in one colour only."""
    folder = tmp_path / "strange"
    folder.mkdir()
    for width, (one, other) in enumerate([("black", "white"), ("magenta", "lime")], 3):
        for turned in (False, True):
            image = Image.new("RGB", (32, 24), one)
            for left in range(0, 32, 2 * width):
                image.paste(Image.new("RGB", (width, 24), other), (left, 0))
            image = image.transpose(Image.Transpose.ROTATE_90) if turned else image
            image.save(folder / f"{one}-{turned}.png")
    return sorted(map(str, folder.iterdir()))


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of all digits, their classes, and an order."""
    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32), y, np.random.default_rng(0).permutation(len(y))


def test_noise_and_a_class_left_out_are_far() -> None:
    x, y, order = digits()
    known = order[y[order] < 8]
    train, val, test = known[:800], known[800:1100], known[1100:]
    reference = fit_reference(ArrayFeatures(x[train]), y[train], ArrayFeatures(x[val]))
    noise = np.random.default_rng(1).uniform(0, 16, (300, 64)).astype(np.float32)
    inside = reference.distances(x[test])
    assert (inside > 1).mean() < 0.04
    for strangers, least in ((noise, 1.0), (x[y >= 8], 0.9)):
        outside = reference.distances(strangers)
        truth = np.repeat([0, 1], [len(inside), len(outside)])
        assert roc_auc_score(truth, np.concatenate([inside, outside])) >= least
    assert (reference.distances(noise) > 1).mean() == 1


def test_one_is_the_distance_of_the_last_known_image_in_a_hundred() -> None:
    x, y, order = digits()
    train, val = order[:900], order[900:1300]
    reference = fit_reference(ArrayFeatures(x[train]), y[train], ArrayFeatures(x[val]))
    distance = cosine_distances(x[val], x[train]).min(axis=1)
    assert reference.scale == pytest.approx(np.sort(distance)[396], rel=1e-2)  # ceil(0.99 * 401)
    np.testing.assert_allclose(reference.distances(x[val]), distance / reference.scale, atol=5e-3)


def test_with_few_val_images_each_training_image_is_left_out_in_its_turn() -> None:
    x, y, order = digits()
    train, val = order[:900], order[900:999]
    reference = fit_reference(ArrayFeatures(x[train]), y[train], ArrayFeatures(x[val]))
    distance = cosine_distances(x[train])
    np.fill_diagonal(distance, 9)
    assert reference.scale == pytest.approx(np.sort(distance.min(axis=1))[891], rel=1e-2)  # ceil(0.99 * 901)


def test_distance_1_calls_one_known_image_in_a_hundred_unknown_also_with_100_val_images() -> None:
    """In the mean over many val parts; the plain quantile of 100 distances leaves out 1.7 to 2 %."""
    random, beyond = np.random.default_rng(0), []
    train = random.standard_normal((200, 12)).astype(np.float32)
    fresh = ArrayFeatures(random.standard_normal((2_000, 12)).astype(np.float32))
    for _ in range(200):
        val = ArrayFeatures(random.standard_normal((100, 12)).astype(np.float32))
        reference = fit_reference(ArrayFeatures(train), np.repeat([0, 1], 100), val)
        beyond.append((reference.distances(fresh.asarray()) > 1).mean())
    assert 0.006 < np.mean(beyond) < 0.0125


def test_of_many_rows_as_many_of_every_class_are_kept() -> None:
    y = np.repeat([3, 5, 8], [10_000, 900, 30])
    rows = choose_rows(y, 64, seed=0)
    assert np.unique(y[rows], return_counts=True)[1].tolist() == [1070, 900, 30]
    assert (np.diff(rows) > 0).all()
    assert len(choose_rows(y, 1_000_000, seed=0)) == 100
    assert choose_rows(y[:50], 64, seed=0).tolist() == list(range(50))


def test_a_bundle_tells_what_is_unlike_its_training_images(lab: Lab, strange: list[str]) -> None:
    bundle, sample = lab.bundle("logreg"), lab.prepared.sample
    rows = sample.rows[sample.split == TRAIN]
    features = lab.prepared.extraction.features(lab.prepared.extraction.outputs[0], rows).asarray()
    asked = np.stack([np.asarray(Image.open(path).resize((32, 32), Image.Resampling.BILINEAR)) for path in strange])
    near = cosine_distances(features)
    np.fill_diagonal(near, 9)
    within = np.sort(near.min(axis=1))
    reach = within[min(len(within), int(np.ceil(0.99 * (len(within) + 1)))) - 1]
    expected = cosine_distances(bundle.features(asked), features).min(axis=1) / reach
    answers = list(predict(bundle, [*strange, *lab.pictures], AnswerOptions(max_distance=1.0)))
    assert all(isinstance(answer, Prediction) for answer in answers)
    np.testing.assert_allclose([answer.distance for answer in answers[:4]], expected, rtol=0.03)
    assert [(answer.label, answer.unknown) for answer in answers[:4]] == [("unknown", True)] * 4
    assert np.mean([answer.unknown for answer in answers[4:]]) < 0.1
    plain = list(predict(bundle, lab.pictures))
    for with_distance, without in zip(answers[4:], plain, strict=True):
        assert with_distance.top == without.top
        assert with_distance.label == ("unknown" if with_distance.unknown else without.label)
        assert (without.unknown, without.distance) == (None, None)
    trained = {sample.images.paths[row] for row in rows}
    assert max(answer.distance for answer in answers[4:] if answer.path in trained) < 0.05


def test_a_longer_distance_admits_more(lab: Lab, strange: list[str]) -> None:
    bundle = lab.bundle("logreg")
    (answer,) = predict(bundle, strange[:1], AnswerOptions(max_distance=1.0))
    assert answer.distance is not None
    assert next(predict(bundle, strange[:1], AnswerOptions(max_distance=answer.distance + 0.01))).unknown is False
    assert next(predict(bundle, strange[:1], AnswerOptions(max_distance=answer.distance - 0.01))).unknown is True
    broken = list(predict(bundle, [b"no image"], AnswerOptions(max_distance=1.0)))
    assert broken == [Unread("image 1", "text, not an image")]


def test_a_bundle_without_a_reference_says_so(lab: Lab, tmp_path: Path) -> None:
    bundle = lab.bundle("logreg")
    shutil.copytree(bundle.path, tmp_path / "old")
    (tmp_path / "old" / "reference.npz").unlink()
    old = Bundle(tmp_path / "old", bundle.manifest)
    assert len(list(predict(old, lab.pictures[:2]))) == 2
    with pytest.raises(BundleError, match=r"older featx\. Make it again: featx fit-head"):
        predict(old, lab.pictures[:2], AnswerOptions(max_distance=1.0))
    (tmp_path / "old" / "reference.npz").write_bytes(b"PK damaged")
    with pytest.raises(BundleError, match=r"reference.npz is damaged"):
        predict(old, lab.pictures[:2], AnswerOptions(max_distance=1.0))
    with pytest.raises(BundleError, match="X has 3 features, but the reference has 16"):
        load_reference(bundle.path).distances(np.ones((1, 3)))


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., Outcome]:
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def test_the_command_line_says_unknown(
    lab: Lab, strange: list[str], work: Callable[..., Outcome], tmp_path: Path
) -> None:
    model, known = lab.bundle("logreg").path, lab.pictures[0]
    found = work("predict", known, strange[0], "--model", model, "--max-distance", "1", "--json").json["predictions"]
    assert [(one["unknown"], one["label"] == "unknown") for one in found] == [(False, False), (True, True)]
    assert set(found[0]) == {"path", "label", "confidence", "top", "unknown", "distance"}
    assert 0 <= found[0]["distance"] <= 1 < found[1]["distance"]
    text = work("predict", strange[0], "--model", model, "--max-distance", "1").out
    assert f"unknown (most likely {found[1]['top'][0]['label']}" in text
    assert work("predict", known, "--model", model, "--max-distance", "-1").status == 2

    (tmp_path / "bad.png").write_text("text")
    arguments = (strange[0], tmp_path / "bad.png", "--model", model, "--max-distance", "1", "--out", "a.csv")
    assert work("predict", *arguments).status == 0
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        first, bad = csv.DictReader(file)
    assert (first["label"], first["reason"]) == ("unknown", "")
    assert float(first["distance"]) == pytest.approx(found[1]["distance"])
    assert (bad["label"], bad["distance"], bad["reason"]) == ("", "", "text, not an image")


@pytest.mark.slow
def test_a_fine_tuned_bundle_measures_in_its_own_features(lab: Lab, strange: list[str], tmp_path: Path) -> None:
    from featx.runs.run import Run
    from featx.workflow.publish import publish_finetuned

    pipeline = replace(lab.pipeline, finetune=replace(lab.pipeline.finetune, epochs=1, learning_rate=1e-2))
    tuned = publish_finetuned(
        lab.bundle("logreg"), replace(lab.prepared, pipeline=pipeline, run=Run(tmp_path / "tuned"))
    )
    assert "reference.npz" in json.loads((tuned.path / "bundle.json").read_text())["files"]
    sample = lab.prepared.sample
    trained = [sample.images.paths[row] for row in sample.rows[sample.split == TRAIN]]
    distances = [answer.distance for answer in predict(tuned, trained, AnswerOptions(max_distance=1.0))]
    assert max(distances) < 0.05  # the rows are those of the tuned network
    before = load_reference(lab.bundle("logreg").path).rows.astype(np.float32)
    assert np.abs(load_reference(tuned.path).rows.astype(np.float32) - before).max() > 1e-3
