"""Predictions: the features of the picture times the head, whatever the file, the order and the batch."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from arrays import arrays_of
from conftest import write_images
from fitted import Lab, call
from PIL import Image
from unkind import make_unkind_folder

import featx
from featx.bundle.bundle import Bundle
from featx.errors import DataError, UsageError
from featx.inference.answer_files import write_answers
from featx.inference.cached import open_cached
from featx.inference.predict import (
    AnswerOptions,
    Predicted,
    Prediction,
    Unread,
    find_files,
    iter_probabilities,
    predict,
)
from featx.store.cache import Cache
from featx.store.part import RemovedPart
from featx.store.stored import StoredFeatures


def pixels(path: str) -> np.ndarray:
    """float32 (1, 32, 32, 3), resized without a line of featx."""
    image = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)[None]


@pytest.mark.parametrize("head", ["logreg", "svm", "ridge"])
def test_predictions_are_those_of_plain_keras_and_the_arrays_of_the_head(lab: Lab, head: str) -> None:
    import keras

    bundle = lab.bundle(head)
    network = keras.saving.load_model(lab.root / "tiny.keras", compile=False)
    held = arrays_of(bundle.path / "head.npz")
    for answer in predict(bundle, lab.pictures[::9], AnswerOptions(top=3)):
        features = np.asarray(network(pixels(answer.path))).mean(axis=(1, 2))
        logits = (features @ held["kernel"] + held["bias"]).astype(np.float64)[0]
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        order = np.argsort(-expected)
        assert [choice.label for choice in answer.top] == [bundle.classes[i] for i in order]
        np.testing.assert_allclose([choice.confidence for choice in answer.top], expected[order], atol=1e-4)


def test_the_network_in_the_bundle_is_the_backbone_up_to_the_layer(lab: Lab) -> None:
    import keras

    alone = keras.saving.load_model(lab.bundle("logreg").path / "backbone.keras", compile=False)
    whole = keras.saving.load_model(lab.root / "tiny.keras", compile=False)
    images = np.concatenate([pixels(path) for path in lab.pictures[:5]])
    found = np.asarray(alone(images)["last@avg"])
    np.testing.assert_allclose(found, np.asarray(whole(images)).mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_an_answer_does_not_depend_on_its_neighbours(lab: Lab) -> None:
    bundle, paths = lab.bundle("svm"), lab.pictures[:19]
    together = list(predict(bundle, paths))
    backwards = list(predict(bundle, paths[::-1]))[::-1]
    alone = [next(predict(bundle, [path])) for path in paths]
    for others in (backwards, alone):
        assert [one.label for one in others] == [one.label for one in together]
        found, expected = ([one.confidence for one in answers] for answers in (others, together))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)  # they are rounded to six digits


def test_the_best_classes_come_first_and_their_confidences_are_one(lab: Lab) -> None:
    bundle = lab.bundle("logreg")
    for answer in predict(bundle, lab.pictures[::10], AnswerOptions(top=3)):
        assert isinstance(answer, Prediction)
        confidences = [choice.confidence for choice in answer.top]
        assert confidences == sorted(confidences, reverse=True)
        assert sum(confidences) == pytest.approx(1, abs=5e-6)
        assert (answer.label, answer.confidence) == (answer.top[0].label, answer.top[0].confidence)
    assert (
        len(next(predict(bundle, lab.pictures[:1], AnswerOptions(top=99))).top) == 3
    )  # no more than there are classes


@pytest.mark.parametrize("head", ["logreg", "svm", "ridge", "knn", "rbf", "dense"])
def test_most_pictures_are_recognised(lab: Lab, head: str) -> None:
    answers = list(predict(lab.bundle(head), lab.pictures))
    right = np.mean([Path(answer.path).parent.name == answer.label for answer in answers])
    assert right > (0.4 if head == "dense" else 0.6)  # the dense head has had four epochs


def test_bytes_are_images_too(lab: Lab) -> None:
    bundle, path = lab.bundle("logreg"), lab.pictures[0]
    from_bytes, bad = predict(bundle, [Path(path).read_bytes(), b"no image"])
    from_file = next(predict(bundle, [path]))
    assert isinstance(from_bytes, Prediction)
    assert (from_bytes.label, from_bytes.confidence) == (from_file.label, from_file.confidence)
    assert (from_bytes.path, bad) == ("image 1", Unread("image 2", "text, not an image"))


def test_bad_images_are_answered_in_their_place(lab: Lab, tmp_path: Path) -> None:
    expected = make_unkind_folder(tmp_path)
    good = lab.pictures[0]
    paths = [good, *[str(tmp_path / name) for name in expected], good]
    answers = list(predict(lab.bundle("logreg"), paths))
    assert [answer.path for answer in answers] == paths
    for answer, reason in zip(answers[1:-1], expected.values(), strict=True):
        if reason is None:
            assert isinstance(answer, Prediction), answer
        else:
            assert isinstance(answer, Unread), answer
            assert reason in answer.reason
    assert answers[0] == answers[-1] == next(predict(lab.bundle("logreg"), [good]))


def test_no_images_give_no_answers(lab: Lab) -> None:
    assert list(predict(lab.bundle("logreg"), [])) == []
    assert Predicted.of([]).as_json() == {"predictions": [], "bad": []}


def test_probabilities_come_batch_by_batch(lab: Lab) -> None:
    batches = list(iter_probabilities(lab.bundle("logreg"), lab.pictures * 3))
    assert len(batches) > 1
    assert np.concatenate([rows for rows, _, _ in batches]).tolist() == list(range(180))
    for _, chances, _ in batches:
        np.testing.assert_allclose(chances.sum(axis=1), 1)


def test_files_are_found_at_any_depth(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    one = shutil.copy(lab.pictures[0], tmp_path / "a" / "b" / "1.png")
    two = shutil.copy(lab.pictures[1], tmp_path / "2.png")
    assert set(find_files([tmp_path / "a", two])) == {str(one), str(two)}
    with pytest.raises(DataError, match=r"No such file or folder: .*gone.*Check the name"):
        find_files([tmp_path / "gone"])


def test_a_csv_has_one_line_per_image(lab: Lab, tmp_path: Path) -> None:
    text = tmp_path / "bad, very.png"
    text.write_text("text")
    answers = predict(lab.bundle("logreg"), [lab.pictures[0], text])
    assert write_answers(tmp_path / "out" / "found.csv", answers) == (1, [Unread(str(text), "text, not an image")])
    with open(tmp_path / "out" / "found.csv", newline="", encoding="utf-8") as file:
        good, bad = csv.DictReader(file)
    assert good["path"] == lab.pictures[0]
    assert good["label"] in {"blue", "green", "red"}
    assert 0 < float(good["confidence"]) <= 1
    assert bad == {"path": str(text), "label": "", "confidence": "", "reason": "text, not an image"}


def test_the_json_object(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    found = Predicted.of(
        predict(lab.bundle("logreg"), [lab.pictures[0], tmp_path / "text.png"], AnswerOptions(top=2))
    ).as_json()
    (one,) = json.loads(json.dumps(found))["predictions"]
    assert set(one) == {"path", "label", "confidence", "top"}
    assert [set(choice) for choice in one["top"]] == [{"label", "confidence"}] * 2
    assert found["bad"] == [{"path": str(tmp_path / "text.png"), "reason": "text, not an image"}]


# --- from a cache ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through a network."""
    seen: list[int] = []
    features = Bundle.features

    def count(self: Bundle, images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return features(self, images)

    monkeypatch.setattr(Bundle, "features", count)
    return seen


def test_cached_features_are_read_and_no_network_runs(lab: Lab, no_network: list[int]) -> None:
    """By the rows that HDF5 gives and the arrays of the head, without a line of featx."""
    bundle = lab.bundle("logreg")
    stored = {}
    wanted = json.loads((bundle.path / "bundle.json").read_text())["key"]
    keys = (lab.root / "cache").glob("*/key.json")
    (store,) = (path.parent for path in keys if json.loads(path.read_text())["key"] == wanted)
    for file in (store / "last@avg").glob("*.h5"):
        with h5py.File(file) as part:
            stored |= dict(zip(map(bytes, part["digest"][:]), part["features"][:].astype(np.float32), strict=True))
    held = arrays_of(bundle.path / "head.npz")
    found = call(
        "predict", *lab.pictures, "--model", bundle.path, "--cache", "cache", "--top", "3", "--json", cwd=lab.root
    )
    assert found.status == 0, found.err
    assert "The features of 60 of 60 images are from cache." in found.err
    assert found.json["cached"] == 60
    assert no_network == []
    for answer in found.json["predictions"]:
        features = stored[hashlib.sha256(Path(answer["path"]).read_bytes()).digest()]
        logits = (features @ held["kernel"] + held["bias"]).astype(np.float64)
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert answer["label"] == bundle.classes[int(expected.argmax())]
        np.testing.assert_allclose([one["confidence"] for one in answer["top"]], np.sort(expected)[::-1], atol=2e-6)


def test_what_a_cache_lacks_is_computed_and_answers_keep_their_order(
    lab: Lab, tmp_path: Path, no_network: list[int]
) -> None:
    """A new image, one that changed under its name, one that cannot be read; and a part of what is cached."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in (0, 30, 59):
        shutil.copy(lab.pictures[number], folder / f"{number:02d}.png")
    new = Image.open(lab.pictures[5]).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90)
    new.save(folder / "10.png")
    (folder / "40.png").write_text("text")
    bundle = lab.bundle("logreg")
    known = [str(folder / name) for name in ("00.png", "30.png", "59.png")]
    with open_cached(lab.root / "cache", bundle) as cached:
        answers = list(predict(bundle, find_files([folder]), AnswerOptions(top=3, max_distance=1.0), cached=cached))
        assert cached.found == 3
    assert sum(no_network) == 1
    assert [Path(one.path).name for one in answers] == ["00.png", "10.png", "30.png", "40.png", "59.png"]
    computed = {one.path: one for one in predict(bundle, find_files([folder]), AnswerOptions(3, max_distance=1.0))}
    assert answers[1] == computed[str(folder / "10.png")]
    assert answers[3] == Unread(str(folder / "40.png"), "text, not an image")
    for one in answers:
        if one.path in known:
            assert isinstance(one, Prediction)
            again = computed[one.path]
            assert one.label == again.label
            np.testing.assert_allclose(one.confidence, again.confidence, atol=5e-3)
            np.testing.assert_allclose(one.distance, again.distance, atol=2e-2)

    shutil.copy(folder / "10.png", folder / "00.png")  # other contents under the same name
    with open_cached(lab.root / "cache", bundle) as cached:
        first = next(predict(bundle, find_files([folder]), cached=cached))
    assert isinstance(first, Prediction)
    assert first.confidence == computed[str(folder / "10.png")].confidence


def test_a_cache_without_features_of_the_network_is_named(lab: Lab, tmp_path: Path) -> None:
    bundle = lab.bundle("logreg").path
    with Cache(tmp_path / "other") as other:
        other.index.remember("kind", "name", 1)
    plain = call("predict", *lab.pictures[:3], "--model", bundle, "--json", cwd=tmp_path)
    found = call("predict", *lab.pictures[:3], "--model", bundle, "--cache", "other", "--json", cwd=tmp_path)
    assert "other has no features of the network of" in found.err
    assert found.json == {**plain.json, "cached": 0}


def test_a_folder_that_is_no_cache_stays_as_it_is(lab: Lab, tmp_path: Path) -> None:
    """An index in a class folder would make it a cache, whose images are left out."""
    shutil.copytree(lab.root / "pictures", tmp_path / "pictures")
    before = sorted(map(str, tmp_path.rglob("*")))
    for folder in ("pictures/red", "gone", "."):
        found = call("predict", "pictures", "--model", lab.bundle("logreg").path, "--cache", folder, cwd=tmp_path)
        assert found.status == 2
        assert f"{folder!r} is not a cache. Name the folder that featx extract or fit-head has made." in found.sentence
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_other_stores_of_a_cache_do_not_matter(lab: Lab, tmp_path: Path) -> None:
    """One that cannot be read, and one with the same key in another folder."""
    bundle = lab.bundle("logreg")
    shutil.copytree(lab.root / "cache", tmp_path / "cache")
    (tmp_path / "cache" / "other-32-deadbeef").mkdir()
    (tmp_path / "cache" / "other-32-deadbeef" / "key.json").write_text("{")
    (tmp_path / "cache" / "aaa").mkdir()
    wanted = json.loads((bundle.path / "bundle.json").read_text())["key"]
    (tmp_path / "cache" / "aaa" / "key.json").write_text(json.dumps({"key": wanted}))
    with open_cached(tmp_path / "cache", bundle) as cached:
        assert len(list(predict(bundle, lab.pictures, cached=cached))) == 60
    assert cached.found == 60


def test_a_part_that_goes_while_it_is_read_is_computed(
    lab: Lab, no_network: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: StoredFeatures) -> np.ndarray:
        raise RemovedPart(Path("part.h5"))

    bundle = lab.bundle("logreg")
    monkeypatch.setattr(StoredFeatures, "asarray", gone)
    with open_cached(lab.root / "cache", bundle) as cached:
        assert list(predict(bundle, lab.pictures[:5], cached=cached)) == list(predict(bundle, lab.pictures[:5]))
    assert cached.found == 0
    assert sum(no_network) == 10


def test_answers_come_before_all_images_are_computed(
    lab: Lab, tmp_path: Path, no_network: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.inference.predict._AT_ONCE", 4)
    write_images(tmp_path / "new", 12)
    with open_cached(lab.root / "cache", lab.bundle("logreg")) as cached:
        answers = predict(lab.bundle("logreg"), find_files([tmp_path / "new"]), cached=cached)
        next(answers)
        assert sum(no_network) <= 4
        assert len(list(answers)) == 11


def test_a_cache_has_no_views(lab: Lab) -> None:
    views = ("--tta", "2", "--flip", "horizontal", "--model", lab.bundle("logreg").path)
    found = call("predict", lab.pictures[0], *views, "--cache", "cache", cwd=lab.root)
    assert found.status == 2
    assert "Leave out --tta or --cache." in found.sentence


def test_a_cache_in_python(lab: Lab, no_network: list[int]) -> None:
    model = featx.load(lab.bundle("svm").path)
    answers = model.predict(lab.pictures[:4], cache=lab.root / "cache")
    assert no_network == []
    assert [one.label for one in answers] == [one.label for one in model.predict(lab.pictures[:4])]
    with pytest.raises(UsageError, match="for image files"):
        model.predict(np.zeros((1, 32, 32, 3), np.uint8), cache=lab.root / "cache")
