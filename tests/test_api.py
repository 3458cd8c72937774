"""The public functions: the results of the command line, from Python, with the same options and the same errors."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from fitted import Lab, Outcome, call, write_pictures
from PIL import Image

import featx
from featx.config import SECTIONS, help_of
from featx.errors import BackboneError, BundleError, DataError, ExportError, FeatxError, UsageError
from featx.inference.predict import Unread


@pytest.fixture
def work(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """`tmp_path` is the working directory, with the pictures and the lab's cache; returns what runs commands there."""
    assert lab.prepared.extraction.readable.all()  # the features of the pictures are there
    shutil.copytree(lab.root / "cache", tmp_path / "cache")
    shutil.copytree(lab.root / "pictures", tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call(*arguments, cwd=tmp_path)


@pytest.fixture
def options(lab: Lab) -> dict[str, Any]:
    """Of the features that the lab has already."""
    return {"backbone": lab.root / "tiny.keras"}


SPLIT = {"split": (0.5, 0.25, 0.25)}
FIT = {"clf": "logreg", "strength": 0.01, "html": False, **SPLIT}


def flags(options: dict[str, Any]) -> list[str]:
    """The same options on the command line."""
    found: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            found.append(flag if value else f"--no-{flag[2:]}")
        else:
            found += [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return found


# --- extract and read --------------------------------------------------------------------------------------------


def test_extract_tells_what_the_command_tells(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    done = featx.extract("pictures", **options)
    told = work("extract", "pictures", *flags(options), "--json").json
    assert (done.computed, done.reused, done.duplicates, done.bad) == (0, 60, 0, [])
    assert {key: told[key] for key in ("computed", "reused", "duplicates", "bad")} == {
        "computed": done.computed,
        "reused": done.reused,
        "duplicates": done.duplicates,
        "bad": done.bad,
    }
    assert told["store"] == str(done.store.directory)
    assert len(done.images.paths) == len(done.images.labels) == 60
    assert done.images.classes == ("blue", "green", "red")


def test_extract_tells_its_progress(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    told: list[tuple[str, int, int]] = []
    featx.extract("pictures", progress=lambda stage, done, total, **_: told.append((stage, done, total)), **options)
    assert ("hash", 60, 60) in told


def test_features_are_those_of_keras(work: Callable[..., Outcome], lab: Lab, options: dict[str, Any]) -> None:
    import keras

    network = keras.saving.load_model(lab.root / "tiny.keras")
    found = featx.read_features(Path("pictures"), layer=["last@avg", "last@none"], storage="float32", **options)
    assert len(found) == 60
    images = np.stack(
        [np.asarray(Image.open(path).resize((32, 32), Image.Resampling.BILINEAR)) for path in found.paths]
    )
    maps = np.asarray(network(images.astype(np.float32)))
    assert found.features["last@none"].shape == maps.shape
    np.testing.assert_allclose(found.features["last@none"], maps, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.features["last@avg"], maps.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)
    assert found.features["last@avg"].dtype == np.float32
    assert [Path(path).parent.name for path in found.paths] == found.classes[found.labels].tolist()
    with pytest.raises(UsageError, match=r"There are features of last@avg, last@none"):
        _ = found.X


def test_read_features_gives_what_the_export_writes(
    work: Callable[..., Outcome], options: dict[str, Any], tmp_path: Path
) -> None:
    import h5py

    shutil.copy("pictures/red/0-00.png", "pictures/red/copy.png")
    found = featx.read_features("pictures", **SPLIT, **options)
    work("cache", "export", "pictures", "--out", "all.h5", *flags(SPLIT | options))
    with h5py.File(tmp_path / "all.h5") as file:
        np.testing.assert_array_equal(found.X, file["features"][:].astype(np.float32))
        np.testing.assert_array_equal(found.labels, file["labels"][:])
        assert found.paths.tolist() == [path.decode() for path in file["paths"][:]]
        assert found.classes.tolist() == [name.decode() for name in file["classes"][:]]
        assert found.split.tolist() == [part.decode() for part in file["split"][:]]
    assert len(found) == 60  # the copy is no other image
    assert {part: (found.split == part).sum() for part in ("train", "val", "test")} == {
        "train": 30,
        "val": 15,
        "test": 15,
    }


def test_features_come_in_blocks_that_join_to_the_whole(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    whole = featx.read_features("pictures", **SPLIT, **options)
    blocks = list(featx.iter_features("pictures", rows=25, **SPLIT, **options))
    assert [len(block) for block in blocks] == [25, 25, 10]
    np.testing.assert_array_equal(np.concatenate([block.X for block in blocks]), whole.X)
    for name in ("labels", "paths", "split"):
        joined = np.concatenate([getattr(block, name) for block in blocks])
        np.testing.assert_array_equal(joined, getattr(whole, name))
    unlabelled = list(featx.iter_features("pictures/red", rows=15, **options))
    assert [(len(block), block.labels, block.split) for block in unlabelled] == [(15, None, None), (5, None, None)]
    assert [len(block) for block in featx.iter_features("pictures", **SPLIT, **options)] == [60]
    with pytest.raises(featx.FeatxError, match=r"rows=-1 is not a number of images"):
        featx.iter_features("pictures", rows=-1, **options)


def test_images_without_labels_have_features_and_no_split(
    work: Callable[..., Outcome], options: dict[str, Any]
) -> None:
    shutil.copy("pictures/red/0-00.png", "pictures/red/copy.png")
    Path("pictures/red/broken.png").write_bytes(b"\x89PNG")
    found = featx.read_features("pictures/red", **options)
    assert (len(found), found.labels, found.split) == (20, None, None)
    one_class = featx.read_features("pictures", relabel=None, **options)
    assert one_class.labels is not None
    shutil.rmtree("pictures/blue")
    shutil.rmtree("pictures/green")
    one_class = featx.read_features("pictures", **options)
    assert (one_class.labels.tolist(), one_class.split) == ([0] * 20, None)
    np.testing.assert_array_equal(one_class.X, found.X)


def test_images_whose_labels_are_to_come_have_features(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    Path("pictures/later").mkdir()
    found = featx.read_features("pictures", **options)
    assert found.classes.tolist() == ["blue", "green", "later", "red"]
    assert len(found) == len(found.split) == 60
    images = [f"pictures/red/0-{number:02}.png" for number in range(4)]
    Path("begun.csv").write_text("\n".join(["path,label", f"{images[0]},cat", *(f"{path}," for path in images[1:])]))
    begun = featx.read_features("begun.csv", **options)
    assert (begun.labels.tolist(), begun.split) == ([0, -1, -1, -1], None)
    assert begun._repr_html_().count("cat") == 1
    Path("begun.csv").write_text("\n".join(["path,label", *(f"{path}," for path in images)]))
    begun = featx.read_features("begun.csv", **options)
    assert (len(begun), begun.labels) == (4, None)
    assert images[0] in begun._repr_html_()


def test_several_labels_are_a_matrix(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    lines = [
        f"pictures/{name}/0-{number:02}.png,{name}{'$even' if number % 2 == 0 else ''}"
        for name in ("blue", "green", "red")
        for number in range(20)
    ]
    Path("index.csv").write_text("\n".join(["path,label", *lines]))
    found = featx.read_features("index.csv", label_separator="$", **options)
    assert found.classes.tolist() == ["blue", "even", "green", "red"]
    assert found.labels.dtype == bool
    even = [int(Path(path).stem[-2:]) % 2 == 0 for path in found.paths]
    assert found.labels[:, 1].tolist() == even


def test_a_table_of_pandas(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    pytest.importorskip("pandas")
    found = featx.read_features("pictures", layer=["last", "last@grid:2"], **SPLIT, **options)
    table = found.to_pandas()
    assert table.shape == (60, 3 + 16 + 64)
    assert table.columns[:4].tolist() == ["path", "label", "split", "last@avg_0"]
    assert table["label"].tolist() == found.classes[found.labels].tolist()
    assert table["split"].tolist() == found.split.tolist()
    np.testing.assert_array_equal(table["last@grid:2_63"], found.features["last@grid:2"][:, 63])


def test_without_pandas_its_absence_is_told(
    work: Callable[..., Outcome], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = featx.read_features("pictures", **options)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FeatxError, match="pip install pandas"):
        found.to_pandas()


# --- fit, predict, evaluate, finetune ----------------------------------------------------------------------------


def test_a_head_is_that_of_the_command(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    model = featx.fit_head("pictures", **FIT, **options)
    told = work("fit-head", "pictures", *flags(FIT | options), "--json").json
    for part in ("val", "test"):
        assert model.metrics[part]["accuracy"] == told[part]["accuracy"]
        assert model.metrics[part]["log_loss"] == told[part]["log_loss"]
    assert model.path == Path("runs/pictures/1-logreg")
    assert told["bundle"] == "runs/pictures/2-logreg"
    assert model.classes == ("blue", "green", "red")
    assert model.bundle.manifest.command.startswith("featx.fit_head('pictures', clf='logreg', strength=0.01")


def test_predictions_are_those_of_the_command(work: Callable[..., Outcome], lab: Lab) -> None:
    path = lab.bundle("logreg").path
    model = featx.load(path)
    Path("new").mkdir()
    for number in range(3):
        shutil.copy(f"pictures/green/0-0{number}.png", f"new/{number}.png")
    Path("new/3.png").write_bytes(b"")
    told = work("predict", "new", "--model", path, "--top", "3", "--json").json
    found = model.predict("new", top=3)
    assert [one.path for one in found] == [*(one["path"] for one in told["predictions"]), told["bad"][0]["path"]]
    assert found.labels.tolist() == [*(one["label"] for one in told["predictions"]), None]
    np.testing.assert_array_equal(found.confidence, [*(one["confidence"] for one in told["predictions"]), np.nan])
    assert [(one.path, one.reason) for one in found.bad] == [(told["bad"][0]["path"], "empty file")]
    assert [choice.label for choice in found[0].top] == [choice["label"] for choice in told["predictions"][0]["top"]]

    chances = model.predict_proba(["new/1.png", "new/0.png", "new/1.png"])  # in their order, as often as they are given
    np.testing.assert_array_equal(chances[0], chances[2])
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert chances[1].max() == pytest.approx(found.confidence[0], abs=1e-6)
    with pytest.raises(DataError, match=r"new/3\.png cannot be read \(empty file\)"):
        model.predict_proba(["new/0.png", "new/3.png"])


def test_what_is_in_memory_is_predicted_as_its_file(lab: Lab) -> None:
    model = featx.load(lab.bundle("logreg").path)
    paths = lab.pictures[:4]
    expected = model.predict_proba(paths)
    pictures = [Image.open(path) for path in paths]
    arrays = np.stack([np.asarray(one) for one in pictures])
    contents = [Path(path).read_bytes() for path in paths]
    for images in (arrays, list(arrays), pictures, contents, np.array(paths)):
        np.testing.assert_array_equal(model.predict_proba(images), expected)
    assert model.predict(arrays).labels.tolist() == model.predict(paths).labels.tolist()
    assert model.predict(arrays)[0].path == "image 1"


def test_unsure_unknown_and_several_labels(work: Callable[..., Outcome], lab: Lab, options: dict[str, Any]) -> None:
    model = featx.load(lab.bundle("logreg").path)
    noise = np.random.default_rng(0).integers(0, 2, (1, 32, 32, 3), np.uint8) * 255
    assert model.predict(noise, min_confidence=1.0).labels.tolist() == ["unsure"]
    assert model.predict(noise, max_distance=0.0).labels.tolist() == ["unknown"]
    lines = [
        f"pictures/{name}/0-{n:02}.png,{name}{'$any' if n % 2 else ''}" for name in ("blue", "red") for n in range(20)
    ]
    Path("index.csv").write_text("\n".join(["path,label", *lines]))
    several = featx.fit_head("index.csv", label_separator="$", thresholds="none", **FIT, **options)
    paths = [line.partition(",")[0] for line in lines]
    chances = several.predict_proba(paths)
    given = several.predict(paths).labels
    classes = np.array(several.classes)
    assert [set(one) for one in given] == [set(classes[row >= 0.5]) for row in chances]
    assert {name for one in given for name in one} >= {"blue", "red"}


def test_a_bundle_is_evaluated_as_by_the_command(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    model = featx.fit_head("pictures", **FIT, **options)
    told = work("evaluate", "runs/pictures", "--data", "pictures", "--split", "test", "--no-html", "--json").json
    found = model.evaluate("pictures", "test")
    assert found["accuracy"] == told["accuracy"] == model.metrics["test"]["accuracy"]
    assert (found["images"], found["bad"]) == (15, [])
    assert model.evaluate("pictures")["images"] == 60
    with pytest.raises(UsageError, match="part must be one of train, val, test or all, got 'tset'"):
        model.evaluate("pictures", "tset")


def test_a_bundle_is_evaluated_on_its_own_images(
    work: Callable[..., Outcome], options: dict[str, Any], tmp_path: Path
) -> None:
    """Not on those of the default pipeline file, which are the demo's, and not on what it was fitted on."""
    model = featx.fit_head("pictures", **FIT, **options)
    told = work("evaluate", "runs/pictures", "--no-html", "--json").json
    found = model.evaluate()
    assert (found["images"], found["accuracy"]) == (told["images"], told["accuracy"]) == (15, told["accuracy"])
    assert model.evaluate(part="all")["images"] == 60
    packed = featx.load(model.pack(tmp_path / "elsewhere.featx"))
    with pytest.raises(UsageError, match=r"not known where its images are now\. Give their folder or CSV as data, and"):
        packed.evaluate()


def test_a_model_is_pickled_and_copied(work: Callable[..., Outcome], lab: Lab, tmp_path: Path) -> None:
    model = featx.load(lab.bundle("logreg").path)
    images = sorted(str(path) for path in Path("pictures").rglob("*.png"))
    expected = model.predict_proba(images)  # the network is ready to run from now on
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(images), expected)
    np.testing.assert_array_equal(copy.deepcopy(model).predict_proba(images), expected)
    packed = featx.load(model.pack(tmp_path / "one.featx"))
    stored = pickle.dumps(packed)
    del packed  # and the folder that it was unpacked to
    np.testing.assert_array_equal(pickle.loads(stored).predict_proba(images), expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"top": "2"}, "top must be a whole number, got '2'"),
        ({"top": True}, "top must be a whole number, got True"),
        ({"tta": "1"}, "tta must be a whole number, got '1'"),
        ({"workers": "all"}, "workers must be a whole number, got 'all'"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"coverage": True}, "coverage must be a number or None, got True"),
        ({"per_class": "no"}, "per_class must be True or False, got 'no'"),
        ({"cache": 1}, "cache must be a path or None, got 1"),
        ({"top": 2.5}, "top must be a whole number, got 2.5"),
        ({"top": np.int64(0)}, "top must be at least 1, got 0"),
        ({"min_confidence": "0.8"}, "min_confidence must be a number, got '0.8'"),
        ({"min_confidence": np.float32(2)}, "min_confidence must be at most 1, got 2.0"),
        ({"max_distance": np.float32(-1)}, "max_distance must be at least 0, got -1.0"),
    ],
)
def test_numbers_are_checked_also_where_they_are_texts_or_numpys(
    work: Callable[..., Outcome], lab: Lab, options: dict[str, Any], sentence: str
) -> None:
    model, file = featx.load(lab.bundle("logreg").path), next(Path("pictures").rglob("*.png"))
    with pytest.raises(UsageError, match=re.escape(sentence)):
        model.predict(file, **options)
    assert len(model.predict(file, top=np.int64(2), max_distance=None)[0].top) == 2


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("evaluate", {"tta": "1"}, "tta must be a whole number, got '1'"),
        ("evaluate", {"part": ["test"]}, "part must be a text or None, got ['test']"),
        ("evaluate", {"force": "no"}, "force must be True or False, got 'no'"),
        ("evaluate", {"against": 5}, "against must be a path or a featx.Model or None, got 5"),
        ("evaluate", {"progress": "bar"}, "progress must be a function or True or False, got 'bar'"),
        ("explain", {"images": "x", "labels": 1}, "labels must be a text or a list of texts, got 1"),
        ("explain", {"images": "x", "labels": [1]}, "labels must be a text or a list of texts, got [1]"),
        ("explain", {"images": "x", "top": "1"}, "top must be a whole number or None, got '1'"),
        ("explain", {"images": "x", "out": ["a"]}, "out must be a path or None, got ['a']"),
        ("similar", {"images": 5}, "images must be a path or a list of paths, got 5"),
        ("similar", {"images": "x", "top": True}, "top must be a whole number, got True"),
        ("export", {"out": "x", "format": None}, "format must be one of savedmodel, onnx, openvino, litert, keras or"),
        ("export", {"out": "x", "precision": "int4"}, "No precision 'int4'. Choose one of float32, float16, int8"),
        ("next", {"out": 5}, "out must be a path or None, got 5"),
        ("drift", {"pipeline": ["a"]}, "pipeline must be a path or None, got ['a']"),
        ("finetune", {"dry_run": "no"}, "dry_run must be True or False, got 'no'"),
        ("pack", {"out": "x", "keep_paths": "no"}, "keep_paths must be True or False, got 'no'"),
    ],
)
def test_arguments_of_other_kinds_are_a_sentence(
    work: Callable[..., Outcome], lab: Lab, name: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        getattr(featx.load(lab.bundle("logreg").path), name)(**options)


@pytest.mark.parametrize(
    ("function", "options", "sentence"),
    [
        (featx.check, {"features": "no"}, "features must be True or False, got 'no'"),
        (featx.check, {"features": True, "near": "0.9"}, "near must be a number, got '0.9'"),
        (featx.compare, {"data": 5}, "data must be a path or a list of paths, got 5"),
        (featx.load, {"bundle": 5}, "bundle must be a path, got 5"),
        (featx.load, {"bundle": "x", "imports": None}, "imports must be a text or a list of texts, got None"),
        (featx.look, {"show_images": True}, "show_images must be a whole number, got True"),
        (featx.look, {"imagenet": "no"}, "imagenet must be True or False, got 'no'"),
        (featx.map, {"data": "x", "model": "runs/x"}, "model must be a featx.Model or None, got 'runs/x'"),
        (featx.models, {"runs": None}, "runs must be a path, got None"),
        (featx.extract, {"data": "x", "progress": "bar"}, "progress must be a function or True or False, got 'bar'"),
    ],
)
def test_arguments_of_functions_are_checked_as_well(
    function: Callable[..., Any], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        function(**options)


def test_files_beside_arrays_are_refused_by_name(work: Callable[..., Outcome], lab: Lab) -> None:
    model, file = featx.load(lab.bundle("logreg").path), next(Path("pictures").rglob("*.png"))
    with pytest.raises(featx.FeatxError, match=r"image 1 is a file, and image 2 is a ndarray\. Predict them apart"):
        model.predict([file, np.zeros((8, 8, 3), np.uint8), file])
    for missing in (None, float("nan")):  # as columns of pandas have them
        with pytest.raises(featx.FeatxError, match=rf"Image 2 is missing: {missing}\. Leave it out\."):
            model.predict([file, missing, file])


class Column(list[str]):
    """As pandas has it: there is no answer to whether it is true."""

    def __bool__(self) -> bool:
        raise ValueError("The truth value of a Series is ambiguous.")


class Table(dict[str, Column]):
    """As pandas has it: to go through it gives the names of its columns."""

    shape = (2, 2)

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self)

    def to_csv(self) -> None:
        """Nothing is written."""


def test_columns_and_tables_of_pandas(work: Callable[..., Outcome], lab: Lab, options: dict[str, Any]) -> None:
    model = featx.fit_head("pictures", **FIT, **options)
    table = Table(path=Column(lab.pictures[:2]), label=Column(["red", "red"]))
    assert len(model.predict(table["path"])) == 2
    assert len(model.similar(table["path"], "pictures").found) == 2
    (found,) = model.explain(lab.pictures[0], labels=Column(["red", "blue"]))
    assert {one.label for one in found.classes} == {"red", "blue"}
    with pytest.raises(featx.FeatxError, match=r"one column of a table.* this one has 'path', 'label'\."):
        model.predict(table)
    with pytest.raises(UsageError, match=r"got a Table\. Write it as a CSV with the columns path and label"):
        featx.fit_head(table)


def test_unreadable_files_are_listed_once_and_in_one_place(
    work: Callable[..., Outcome], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.report.report.draw_figures", lambda *_: {})
    bundle, folder = lab.bundle("logreg").path, Path("pictures").resolve()
    (folder / "red" / "empty.jpg").write_bytes(b"")
    (folder / "red" / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "blue" / "text.jpg").write_text("no picture at all\n" * 20)
    names = ["blue/text.jpg", "red/dangling.jpg", "red/empty.jpg"]
    found = work("evaluate", bundle, "--data", "pictures", "--json").json
    bad = sorted(found["bad"], key=lambda one: one["path"])
    assert [one["path"] for one in bad] == [str(folder / name) for name in names]
    predicted = work("predict", folder, "--model", bundle, "--json").json["bad"]
    assert bad == sorted(predicted, key=lambda one: one["path"])
    assert found["notes"] == ["30 of these images were trained on: the figures flatter the model."]
    assert featx.load(bundle).evaluate("pictures")["bad"] == found["bad"]
    shown = work("evaluate", bundle, "--data", "pictures", "--report", "page")
    assert "3 images could not be read and were left out:" in shown.out
    assert [(shown.out + shown.err).count(name) for name in names] == [1, 1, 1]
    rows = [*(f"{name},red" for name in ("gone.png", "away.png", "gone.png")), f"{lab.pictures[0]},blue"]
    Path("some.csv").write_text("\n".join(["path,label", *rows]))
    found = work("evaluate", bundle, "--data", "some.csv", "--json").json
    assert [Path(one["path"]).name for one in found["bad"]] == ["gone.png", "away.png"]


def test_finetune_starts_from_the_model(
    work: Callable[..., Outcome], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = featx.fit_head("pictures", **FIT, **options)
    Path("views.yaml").write_text("data: {path: pictures}\naugment: {flip: horizontal, views: 2}\n")
    monkeypatch.setattr(
        "featx.workflow.prepare.extract_views", lambda *_: pytest.fail("features of views are of no use to it")
    )
    tuned = model.finetune(
        pipeline="views.yaml", epochs=1, batch_size=8, name="pictures", html=False, **SPLIT, **options
    )
    assert tuned.bundle.manifest.origin.digest == model.bundle.manifest.digest
    assert tuned.path.parent == model.path.parent
    best = featx.load("runs/pictures")  # a run stands for its best bundle
    scores = {one.path: one.metrics["val"]["accuracy"] for one in (model, tuned)}
    assert scores[best.path] == max(scores.values())


def test_a_model_is_fine_tuned_on_its_own_images_and_in_its_own_run(
    work: Callable[..., Outcome], options: dict[str, Any], tmp_path: Path
) -> None:
    """Not on those of the default pipeline file, which are the demo's, nor by its options."""
    fitted = {name: one for name, one in FIT.items() if name != "name"}
    model = featx.fit_head("pictures", **fitted, name="mine", runs="results", **options)
    plan = model.finetune(dry_run=True, **options)
    assert plan.folder == "results/mine"
    assert "5 epochs on 60 images, --unfreeze" in plan.steps[-1].what
    tuned = model.finetune(epochs=1, batch_size=8, html=False, **options)
    assert tuned.path.parent == model.path.parent
    assert tuned.bundle.manifest.data.source == "pictures"
    assert model.finetune(dry_run=True, name="other", **options).folder == "runs/other"
    packed = featx.load(model.pack(tmp_path / "elsewhere.featx"))
    with pytest.raises(UsageError, match=r"not known where its images are now\. Give their folder or CSV as data\."):
        packed.finetune()


def test_a_packed_bundle_predicts_the_same(lab: Lab, tmp_path: Path) -> None:
    model = featx.load(lab.bundle("logreg").path)
    packed = featx.load(model.pack(tmp_path / "one.featx"))
    paths = lab.pictures[:5]
    np.testing.assert_array_equal(packed.predict_proba(paths), model.predict_proba(paths))


# --- options -----------------------------------------------------------------------------------------------------


def test_options_override_a_pipeline_file(work: Callable[..., Outcome], lab: Lab) -> None:
    Path("some.yaml").write_text(
        f"data: {{path: pictures, split: [0.5, 0.25, 0.25]}}\nfeatures: {{backbone: "
        f"{lab.root / 'tiny.keras'}}}\nhead: {{clf: svm, strength: 0.01}}\nreport: {{html: false}}"
    )
    model = featx.fit_head(pipeline="some.yaml")
    assert model.path == Path("runs/some/1-svm")
    assert featx.fit_head(pipeline="some.yaml", clf="ridge", name="other").path == Path("runs/other/1-ridge")
    assert featx.extract(pipeline=Path("some.yaml")).reused == 60


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: featx.extract("pictures", laier="last"),
            r"featx\.extract has no option 'laier'\. Did you mean 'layer'\?",
        ),
        (lambda: featx.extract("pictures", clf="svm"), r"featx\.extract has no option 'clf'"),
        (lambda: featx.fit_head("pictures", clv="svm"), r"featx\.fit_head has no option 'clv'\. Did you mean 'clf'\?"),
        (
            lambda: featx.fit_head("pictures", clf="forest"),
            r"head\.clf must be a kind of head .*got 'forest'\. .*logreg",
        ),
        (lambda: featx.fit_head("pictures", path="x"), r"featx\.fit_head has no option 'path'"),
        (lambda: featx.read_features("pictures", input_size="big"), r"features\.input_size: .*got 'big'"),
        (lambda: featx.extract("pictures", input_size=0), r"features\.input_size must be at least 1"),
        (lambda: featx.extract(["a.png", "b.png"]), r"data must be one folder, CSV or image file; got a list"),
        (lambda: featx.extract(pipeline="gone.yaml"), r"No pipeline file gone\.yaml"),
    ],
)
def test_a_mistake_is_told_as_in_a_pipeline_file(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_other_mistakes_are_of_the_one_tree(work: Callable[..., Outcome]) -> None:
    with pytest.raises(DataError, match="No such file or folder: gone"):
        featx.fit_head("gone")
    with pytest.raises(BackboneError, match="Did you mean 'VGG19' or 'VGG16'"):
        featx.extract("pictures", backbone="VGG61")
    with pytest.raises(BundleError, match="No bundle at gone"):
        featx.load("gone")
    with pytest.raises(featx.FeatxError):
        featx.load("pictures")


@pytest.mark.parametrize(
    ("function", "sections"),
    [
        ("extract", ("data", "features")),
        ("read_features", ("data", "features", "report")),
        ("iter_features", ("data", "features", "report")),
        ("fit_head", ("data", "features", "head", "report", "tracking")),
        ("check", ("data", "features", "report")),
        ("look", ("data", "features", "report")),
        ("similar", ("data", "features", "report")),
        ("compare", ("report",)),
    ],
)
def test_the_signature_shows_every_option_and_its_default(function: str, sections: tuple[str, ...]) -> None:
    shown = inspect.signature(getattr(featx, function)).parameters
    for section in sections:
        for entry in fields(SECTIONS[section]):
            if entry.name != "path":
                assert shown[entry.name].default == entry.default
                assert help_of(SECTIONS[section], entry) in inspect.getdoc(getattr(featx, function))


# --- notebooks ---------------------------------------------------------------------------------------------------


def texts_of(html: str) -> list[list[str]]:
    """The texts of the rows of an HTML table, as a parser reads them."""
    root = ElementTree.fromstring(html)
    return [[cell.text or "" for cell in row] for row in root.iter("tr")]


def test_predictions_are_a_short_line_and_a_table(work: Callable[..., Outcome], lab: Lab) -> None:
    answers = featx.Model(lab.bundle("logreg")).predict("pictures", top=2)
    found = answers[0]
    odd = featx.Predictions((*answers, replace(found, path="<b>&.png"), Unread("no.png", "it is <empty>")))
    counts = Counter(answers.labels)
    counts[found.label] += 1
    line = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    assert repr(odd) == f"<featx.Predictions: 62 images, {line}, 1 that cannot be read>"
    rows = texts_of(odd._repr_html_())
    assert len(rows) == 1 + 20
    assert rows[1] == [found.path, found.label, f"{found.confidence:.1%}", rows[1][3]]
    assert "the first 20 of 62" in odd._repr_html_()
    assert texts_of(featx.Predictions(odd[-2:])._repr_html_())[1:] == [
        ["<b>&.png", *rows[1][1:]],
        ["no.png", "cannot be read", "", "it is <empty>"],
    ]


def test_predictions_as_a_table_of_pandas(work: Callable[..., Outcome], lab: Lab) -> None:
    pytest.importorskip("pandas")
    answers = featx.Model(lab.bundle("logreg")).predict("pictures", top=2)
    table = featx.Predictions((*answers, Unread("no.png", "it is empty"))).to_pandas()
    head = ["path", "label", "confidence", "top_1", "top_1_confidence", "top_2", "top_2_confidence", "reason"]
    assert list(table.columns) == head
    assert list(table["label"][:-1]) == list(answers.labels)
    np.testing.assert_array_equal(table["confidence"][:-1], answers.confidence)
    assert [one.top[1].label for one in answers] == list(table["top_2"][:-1])
    assert table["reason"].iloc[-1] == "it is empty"
    assert table["label"].isna().sum() == 1


def test_others_are_short_lines_and_tables(work: Callable[..., Outcome], lab: Lab, options: dict[str, Any]) -> None:
    done, arrays = featx.extract("pictures", **options), featx.read_features("pictures", **SPLIT, **options)
    assert repr(done) == "<featx Extraction: 60 images, 0 computed, 60 reused, 0 bad; last@avg of tiny.keras>"
    assert ["reused", "60"] in texts_of(done._repr_html_())
    assert repr(arrays) == "<featx.FeatureArrays: 60 images of 3 classes; last@avg (60, 16)>"
    rows = texts_of(arrays._repr_html_())
    assert rows[1] == [str(arrays.paths[0]), str(arrays.classes[arrays.labels[0]]), str(arrays.split[0])]
    assert len(rows) == 21
    model = featx.Model(lab.bundle("logreg"))
    cells = {row[0]: row[1:] for row in texts_of(model._repr_html_())[1:]}
    assert cells["3 classes"][0] == "blue, green, red"
    value = model.metrics["test"]["accuracy"]
    assert float(cells["accuracy on test"][0]) == pytest.approx(value, abs=0.005)
    low, high = map(float, cells["accuracy on test"][1].split(" to "))
    assert low < value < high


# --- data and models, studied ------------------------------------------------------------------------------------


def test_progress_is_shown_where_it_is_asked_for(
    work: Callable[..., Outcome], options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Callable[..., Any]] = [
        lambda **more: featx.check("pictures", **more),
        lambda **more: featx.check("pictures", features=True, html=False, **SPLIT, **options, **more),
        lambda **more: featx.look("pictures", show_images=1, advice=False, html=False, **options, **more),
        lambda **more: featx.similar("pictures/red/0-00.png", "pictures", top=1, **options, **more),
    ]
    for ask in calls:
        ask(progress=True)
        capsys.readouterr()
        ask()
        assert capsys.readouterr().err == ""


def test_data_are_checked_as_by_the_command(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    shutil.copy("pictures/blue/0-00.png", "pictures/red/copy.png")
    Path("pictures/red/broken.png").write_bytes(b"not a picture")
    stages: list[str] = []
    found = featx.check("pictures", progress=lambda stage, *_, **__: stages.append(stage))
    told = work("check", "pictures", "--json").json
    assert found.as_json() == told
    assert (found.readable, len(found.conflicts), len(found.unreadable)) == (61, 1, 1)
    assert set(stages) == {"check"}
    review = featx.check("pictures", features=True, near=0.9, out="found", html=False, **SPLIT, **options)
    typed = flags(SPLIT | options | {"html": False, "near": 0.9, "out": "found"})
    told = work("check", "pictures", "--features", *typed, "--json").json
    assert json.loads(json.dumps(review.as_json())) == told | {
        "computed": review.as_json()["computed"],
        "reused": review.as_json()["reused"],
    }
    assert Path("found/label_errors.csv").is_file()


def test_a_first_look_is_that_of_the_command(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    asked = {"show_classes": 2, "show_images": 3, "advice": False, "html": False, **options}
    found = featx.look("pictures", **asked)
    assert found.shown == 6
    assert json.loads(json.dumps(found.as_json())) == work("look", "pictures", *flags(asked), "--json").json
    for wrong, message in (
        ({"show_images": 41}, "show_images must be at most 40"),
        ({"sample": 9}, "sample must be at"),
    ):
        with pytest.raises(UsageError, match=message):
            featx.look("pictures", **wrong)
    assert inspect.signature(featx.look).parameters["show_images"].default == 6


def test_similar_images_are_those_of_the_command(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    model = featx.fit_head("pictures", **FIT, **options)
    own = featx.similar("pictures/red/0-03.png", "pictures", top=2, out="drawn.png", **options)
    told = work("similar", "pictures/red/0-03.png", "--data", "pictures", "--top", "2", *flags(options), "--json").json
    assert json.loads(json.dumps(own.as_json()))["images"] == told["images"]
    assert own.found[0].similar[0].path == str(Path("pictures/red/0-03.png").resolve())
    assert Path("drawn.png").is_file()
    for asked in (model.similar, featx.similar):  # the best of the run has the same features
        (found,) = asked(["pictures/red/0-03.png"], "pictures", top=2).found
        assert [near.path for near in found.similar] == [near.path for near in own.found[0].similar]
    with pytest.raises(UsageError, match="top must be at least 1"):
        model.similar("pictures/red/0-03.png", "pictures", top=0)


def test_a_comparison_is_that_of_the_command(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    Path("split.yaml").write_text("data: {split: [0.5, 0.25, 0.25]}\nhead: {strength: 0.01}\n")
    asked = {"clf": ("logreg", "ridge"), "resize": "crop", "html": False, **options}
    done = featx.compare("pictures", pipeline="split.yaml", **asked)
    assert [row.place.clf for row in done.rows] == ["logreg", "ridge"]
    assert all(row.score is not None for row in done.rows)
    told = work("compare", "pictures", "-p", "split.yaml", *flags(asked), "--json").json
    assert not any(told["computed"].values())  # it is the same comparison
    assert told["rows"] == json.loads(json.dumps(done.as_json()))["rows"]
    with pytest.raises(UsageError, match="no option 'klf'"):
        featx.compare("pictures", klf="svm")


def test_an_explanation_is_that_of_the_command(work: Callable[..., Outcome], lab: Lab) -> None:
    model = featx.Model(lab.bundle("logreg"))
    pixels = np.asarray(Image.open("pictures/blue/0-00.png"))
    (found,) = model.explain(pixels[None], labels=["red", "blue"])
    drawn = model.explain("pictures/blue/0-00.png", out="maps", labels=["red", "blue"])
    typed = ("--class", "red", "--class", "blue", "--out", "maps", "--force")
    told = work("explain", "pictures/blue/0-00.png", "--model", model.path, *typed, "--json").json
    assert json.loads(json.dumps(drawn.as_json())) == told
    for one, written in zip(found.classes, drawn.images[0].classes, strict=True):
        np.testing.assert_allclose(one.map, np.load(next(iter(written.arrays.values()))), atol=1e-5)
        assert one.map.mean() + one.bias == pytest.approx(one.score, abs=1e-4)  # cam takes the logit apart
    (bad,) = model.explain([b"not a picture"])
    assert bad.reason
    with pytest.raises(UsageError, match=r"has no class 'reed'\. Did you mean 'red'"):
        model.explain(pixels[None], labels="reed")


def test_a_head_that_is_not_a_network_is_not_exported(lab: Lab) -> None:
    with pytest.raises(ExportError, match="not a network and cannot be exported"):
        featx.Model(lab.bundle("knn")).export("out", "savedmodel")


@pytest.mark.slow
def test_an_export_is_checked_and_refused_as_by_the_command(
    work: Callable[..., Outcome], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = featx.Model(lab.bundle("logreg"))
    done = model.export("out", ["savedmodel"], data="pictures/red")
    assert done.results[0].comparison is not None
    assert done.results[0].comparison.agreement == 1
    assert json.loads(Path("out/savedmodel-float32/model.json").read_text())["classes"] == list(model.classes)
    with pytest.raises(ExportError, match="exists already"):
        model.export("out", "savedmodel")
    monkeypatch.setattr("featx.export.flow.judge", lambda *_: "it says something else")
    with pytest.raises(ExportError, match=r"^savedmodel float32 was not kept: it says something else. Try --format"):
        model.export("out", "savedmodel", data="pictures/red", force=True)


# --- names -------------------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    for name in featx.__all__:
        assert getattr(featx, name) is not None
    assert set(featx.__all__) <= set(dir(featx))
    with pytest.raises(AttributeError, match="no attribute 'extrakt'"):
        featx.extrakt  # noqa: B018


def test_new_images_join_and_nothing_is_computed_twice(work: Callable[..., Outcome], options: dict[str, Any]) -> None:
    before = featx.read_features("pictures", **SPLIT, **options)
    write_pictures(Path("pictures"), per_class=2, seed=9)
    assert featx.extract("pictures", **options).computed == 6
    after = featx.read_features("pictures", **SPLIT, **options)
    assert len(after) == 66
    parts = dict(zip(after.paths, after.split, strict=True))
    assert all(parts[path] == part for path, part in zip(before.paths, before.split, strict=True))
