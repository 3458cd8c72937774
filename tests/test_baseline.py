"""The networks from scratch: their shapes by hand, what they learn, and the bundles they become."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arrays import arrays_of, weights_of
from fitted import Outcome, call
from kills import Kill
from PIL import Image
from test_report import open_page, outward

from featx.baseline.networks import OUTPUT, feature_network, make_network
from featx.bundle.bundle import Bundle, load_bundle
from featx.config import AugmentOptions, BaselineOptions, DataOptions, FeaturesOptions, Pipeline, ReportOptions
from featx.io.context import Context
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.publish import publish_baseline

COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (200, 50, 40)}
CONV = {"conv1": [(3, 32)], "conv3": [(3, 32), (32, 64), (64, 128)]}
CONV["conv6"] = [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)]


def write_colours(root: Path, per_class: int = 16) -> Path:
    """Pictures that a single pixel tells apart."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(np.array(colour) + random.normal(0, 12, (20, 24, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours") / "colours")


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., Outcome]:
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def pipeline(data: Path, folder: Path, **options: Any) -> Pipeline:
    return Pipeline(
        data=DataOptions(path=str(data), split=(0.5, 0.25, 0.25)),
        features=FeaturesOptions(cache=str(folder / "cache")),
        baseline=replace(BaselineOptions(net="conv1", input_size=16, epochs=3, batch_size=7), **options),
        report=ReportOptions(runs=str(folder / "runs"), html=False),
    )


# --- the networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "pools", "dense"),
    [("conv1", 1, 0), ("conv3", 3, 1024), ("conv6", 3, 256)],
)
def test_layers_and_parameters_are_those_one_counts(net: str, pools: int, dense: int) -> None:
    model = make_network(net, 40, 5, 0.5, seed=0)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") == int(net[-1])
    side = 40 // 2**pools
    flat = side * side * CONV[net][-1][1]
    parameters = sum(9 * taken * given + given for taken, given in CONV[net])
    width = dense or flat
    parameters += flat * dense + dense + width * 5 + 5
    assert model.count_params() == parameters
    assert model.input_shape == (None, 40, 40, 3)
    assert model.output_shape == (None, 5)
    assert {name: one.shape for name, one in feature_network(model)(np.zeros((2, 40, 40, 3))).items()} == {
        OUTPUT: (2, width)
    }


def test_the_seed_alone_tells_the_first_weights() -> None:
    one, again, other = (make_network("conv1", 16, 3, 0.5, seed).get_weights() for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])
    limit = np.sqrt(6 / (9 * 3 + 9 * 32))  # Glorot and Bengio: of fan in and fan out
    assert 0.95 * limit < np.abs(one[0]).max() <= limit


# --- from the command line ---------------------------------------------------------------------------------------


def by_keras(bundle: Path, paths: list[Path]) -> np.ndarray:
    """Probabilities of images at the network's size by Keras and NumPy alone."""
    import keras

    images = [np.asarray(Image.open(path).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)) for path in paths]
    backbone = keras.saving.load_model(bundle / "backbone.keras", compile=False)
    with np.load(bundle / "head.npz") as held:
        logits = np.asarray(backbone(np.float32(images))[OUTPUT]) @ held["kernel"] + held["bias"]
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def test_what_is_easily_told_apart_is_learned(colours: Path, work: Callable[..., Outcome], tmp_path: Path) -> None:
    shape = ("--net", "conv3", "--input-size", "16", "--epochs", "8", "--batch-size", "8")
    done = work("baseline", colours, *shape, "--split", "0.5,0.25,0.25", "--json")
    assert done.status == 0, done.err
    told = done.json
    assert told["bundle"] == "runs/colours/1-conv3"
    assert (told["clf"], told["val"]["accuracy"], told["test"]["accuracy"]) == ("conv3", 1.0, 1.0)
    assert told["params"]["parameters"] == make_network("conv3", 16, 3, 0.5, 0).count_params()
    assert told["test"]["images"] == 12
    assert told["summary"]["text"].startswith("12 of 12 test images right (100 %, between ")

    bundle = tmp_path / told["bundle"]
    manifest = load_bundle(bundle).manifest
    assert manifest.baseline.net == "conv3"
    assert [one.values["f1"] for one in manifest.per_class["test"]] == [1.0, 1.0, 1.0]
    assert manifest.split.classes["test"] == dict.fromkeys(("blue", "green", "red"), 4)
    with open(bundle / "training.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert len(log) == len(manifest.history) >= manifest.baseline.best_epoch
    best = manifest.history[manifest.baseline.best_epoch - 1]
    assert best.values["val_accuracy"] == told["val"]["accuracy"]
    page = open_page(tmp_path / told["report"])
    assert "conv3" in page.row("from scratch")[1]
    assert (tmp_path / told["report"]).with_name("learning.png").exists()

    # Others understand it: evaluate, predict, verify, pack, fine-tune.
    measured = work("evaluate", told["bundle"], "--data", colours, "--json").json
    assert (measured["images"], measured["accuracy"]) == (48, 1.0)
    paths = sorted(colours.rglob("*.png"))[::7]
    answers = work("predict", *paths, "--model", told["bundle"], "--top", "3", "--max-distance", "1e9", "--json").json
    expected = by_keras(bundle, paths)
    for one, chances in zip(answers["predictions"], expected, strict=True):
        assert one["label"] == sorted(COLOURS)[chances.argmax()]
        assert [choice["confidence"] for choice in one["top"]] == pytest.approx(np.sort(chances)[::-1], abs=0.02)
        assert one["distance"] >= 0
    assert work("bundle", "verify", told["bundle"]).status == 0
    refused = work("similar", paths[0], "--data", colours, "--model", told["bundle"])
    assert refused.status == 1
    assert "trained from scratch" in refused.sentence


def test_bad_images_and_copies_are_left_out_as_they_are_of_heads(
    colours: Path, work: Callable[..., Outcome], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(colours, tmp_path / "mixed")
    (tmp_path / "mixed" / "red" / "bad.png").write_text("no image")
    shutil.copy(tmp_path / "mixed" / "red" / "00.png", tmp_path / "mixed" / "red" / "copy.png")
    done = work("baseline", "mixed", "--net", "conv1", "--input-size", "8", "--epochs", "1", "--no-html", "--json")
    assert done.status == 0, done.err
    assert [Path(one["path"]).name for one in done.json["bad"]] == ["bad.png"]
    assert sum(load_bundle(tmp_path / done.json["bundle"]).manifest.split.images.values()) == 48


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (("--split", "0.8,0,0.2"), 1, "needs a val part"),
        (("--dropout", "1"), 2, "baseline.dropout must be less than 1"),
        (("--input-size", "4"), 2, "baseline.input_size must be at least 8"),
        (("--epochs", "0"), 2, "baseline.epochs must be at least 1"),
        (("--net", "conv9"), 2, "conv9"),
    ],
)
def test_what_makes_no_sense_is_refused(
    colours: Path, work: Callable[..., Outcome], tmp_path: Path, more: tuple[str, ...], status: int, words: str
) -> None:
    refused = work("baseline", colours, *more)
    assert (refused.status, words in refused.err) == (status, True), refused.err
    assert not list(tmp_path.glob("runs/*/*-conv*"))


def test_several_labels_per_image_are_refused(colours: Path, work: Callable[..., Outcome], tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name}$all" for path in colours.rglob("*.png")]
    (tmp_path / "several.csv").write_text("path,label\n" + "\n".join(rows))
    refused = work("baseline", "several.csv", "--label-separator", "$")
    assert refused.status == 1
    assert "several labels per image" in refused.sentence


# --- beside a head -----------------------------------------------------------------------------------------------


def test_the_report_of_the_best_head_tells_of_the_baseline(
    colours: Path,
    tiny_backbone: Path,
    cache: Path,
    work: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In words: figures are not looked at."""
    monkeypatch.setattr("featx.report.report.draw_figures", lambda *_: {})
    shared = (colours, "--cache", cache, "--split", "0.5,0.25,0.25", "--json")
    features = ("--backbone", tiny_backbone, "--layer", "high", "--strength", "0.01")
    head = work("fit-head", *shared, *features, "--no-html").json
    done = work("baseline", *shared, "--net", "conv1", "--input-size", "8", "--epochs", "1", "--batch-size", "4")
    assert done.status == 0, done.err
    manifests = [load_bundle(tmp_path / one["bundle"]).manifest for one in (head, done.json)]
    assert manifests[0].split == manifests[1].split
    assert not [row for row in open_page(tmp_path / done.json["report"]).rows if "conv1 from scratch" in "".join(row)]

    later = work("fit-head", *shared, *features, "--clf", "ridge").json
    other, (low, high) = done.json["test"]["accuracy"], done.json["test"]["intervals"]["accuracy"]
    for one in (head, later):  # written by the baseline, and by a fit that comes after it
        page, own = open_page(tmp_path / one["bundle"] / "report" / "index.html"), one["test"]["accuracy"]
        column = page.part("test, conv1 from scratch")
        assert (column["images"], column["accuracy"]) == ("12", f"{other:.2f}{outward(low, high)}")
        told = f"accuracy of {other:.2f} on test, this model one of {own:.2f}: a difference of {own - other:+.2f}"
        assert told in page.text

    scores = {one["bundle"]: one["val"]["accuracy"] for one in (head, done.json, later)}
    best = Run(tmp_path / "runs" / "colours").best().path
    assert scores[str(best.relative_to(tmp_path))] == max(scores.values())


# --- killed and resumed ------------------------------------------------------------------------------------------


def weights(bundle: Bundle) -> list[np.ndarray]:
    network, head = weights_of(bundle.path / "backbone.keras"), arrays_of(bundle.path / "head.npz")
    return [*(array for arrays in network.values() for array in arrays), head["kernel"], head["bias"]]


def train(wanted: Pipeline, context: Context = Context()) -> Bundle:
    with Cache(wanted.features.cache) as cache:
        return publish_baseline(wanted, cache, context)[0]


@pytest.mark.usefixtures("deterministic")
def test_killed_and_resumed_it_ends_with_the_same_weights(colours: Path, tmp_path: Path) -> None:
    altered = AugmentOptions(rotation=20, flip="both")
    whole, part = (replace(pipeline(colours, tmp_path / name), augment=altered) for name in ("whole", "part"))
    kill = Kill(tmp_path / "whole" / "runs" / "colours", tmp_path / "part" / "runs" / "colours", "epoch 2/3", 10)
    expected = train(whole, kill.context)
    told: list[str] = []
    resumed = train(part, Context(notify=told.append))
    assert told[0] == "Going on after epoch 1."
    for one, other in zip(weights(expected), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list((tmp_path / "part" / "runs").rglob(".baseline-*"))
    plain = train(pipeline(colours, tmp_path / "plain", epochs=1))
    losses = [one.manifest.history[0].values["loss"] for one in (plain, expected)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)  # augmentation has a part in it
