"""featx look: the contact sheet, what the backbone sees, ImageNet's answers, the depths, the advice."""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arrays import standard_scaler
from fitted import COLOURS, Lab, Outcome, call, make_lab, write_pictures, write_squares
from PIL import Image
from unkind import make_unkind_folder

from featx.backbones import BACKBONES, BackboneSpec, Output, resolve
from featx.backbones.keras_network import preprocess
from featx.backbones.preprocessing import FORMULAS
from featx.config import DataOptions, FeaturesOptions, Pipeline
from featx.dataset import TEST, ImageSet, read_images
from featx.errors import BackboneError
from featx.first_look.advice import Numbers, ScoredOutput, advise, difference_error
from featx.first_look.backbone_view import view_as_backbone
from featx.first_look.contact_sheet import choose_contact_sheet
from featx.first_look.depths import Probe, Probing, choose_depths, extract_depths, find_depths, probe_depths
from featx.first_look.flow import Scope, look
from featx.first_look.imagenet import ImageNetAnswers, ask, class_names
from featx.first_look.recommendation import gather
from featx.first_look.separation import Separation, count_pairs, measure_separation
from featx.first_look.study import Study, declared_test, draw_sample
from featx.images.decoder import load_image
from featx.images.grid import GridImage, draw_grid
from featx.io.context import Context
from featx.store.cache import Cache


def ask_once(images: ImageSet, options: FeaturesOptions) -> ImageNetAnswers:
    with Cache(options.cache) as cache:
        return ask(images, options, cache)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, imagenet_cache: Path) -> Path:
    """A folder with the pictures of the lab and its backbone; its cache serves all tests of this module."""
    lab = make_lab(tmp_path_factory.getbasetemp() / "lab")
    folder = tmp_path_factory.mktemp("look")
    shutil.copytree(imagenet_cache, folder / "cache")
    shutil.copytree(lab.root / "pictures", folder / "pictures")
    (folder / "pictures" / "red" / "broken.png").write_bytes(b"not an image")
    shutil.copy(lab.root / "tiny.keras", folder / "tiny.keras")
    return folder


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, Any]:
    done = run(place, "pictures", "--imagenet", "--show-images", "25")
    assert done.status == 0, done.err
    return done.json


def run(place: Path, *arguments: str | Path) -> Outcome:
    return call("look", *arguments, "--backbone", "tiny.keras", "--json", cwd=place)


def labelled(*sizes: int) -> ImageSet:
    """Images that are not there, so many of each class."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    paths = tuple(f"/nowhere/{row}.png" for row in range(len(labels)))
    return ImageSet("here", "here", paths, labels, tuple(f"c{code}" for code in range(len(sizes))))


# --- the contact sheet -----------------------------------------------------------------------------------------------


def test_the_sheet_shows_images_of_every_class_and_leaves_out_broken_ones(place: Path, told: dict[str, Any]) -> None:
    assert (told["images"], told["shown"]) == (61, 60)
    assert told["classes"] == {"blue": 20, "green": 20, "red": 20}
    assert [(Path(one["path"]).name, one["reason"]) for one in told["bad"]] == [("broken.png", "text, not an image")]
    assert any("featx check" in note for note in told["notes"])
    with Image.open(place / told["sheet"]) as sheet:
        width, height = sheet.size
        rows = np.asarray(sheet.convert("RGB").resize((width // 4, height // 4)))
    for strip, colour in zip(np.array_split(rows, 3), COLOURS, strict=True):
        loudest = strip[(strip.max(axis=2) - strip.min(axis=2)) > 60].mean(axis=0).argmax()  # of what has a colour
        assert loudest == ["red", "green", "blue"].index(colour)


def test_the_sheet_depends_on_the_seed_alone(place: Path) -> None:
    images = read_images(place / "pictures", DataOptions())
    first, again, other = (choose_contact_sheet(images, 2, 3, seed) for seed in (0, 0, 1))
    assert first.lines == again.lines != other.lines
    assert [len(line.rows) for line in first.lines] == [3, 3]
    assert any("2 of 3 classes" in note for note in first.notes)
    for line in first.lines:
        assert line.size == (21 if line.label == "red" else 20)  # whether one is broken shows when it is tried
        assert {images.label_names(row) for row in line.rows} == {(line.label,)}


def test_an_empty_cell_stays_white(tmp_path: Path) -> None:
    black = GridImage("", (), pixels=np.zeros((8, 8, 3), np.uint8))
    with Image.open(draw_grid([black, None, black], tmp_path / "grid.png", columns=2)) as grid:
        dark = np.asarray(grid.convert("L")) < 10
    middle, centre = (side // 2 for side in dark.shape)
    quarters = (dark[:middle, :centre], dark[:middle, centre:], dark[middle:, :centre], dark[middle:, centre:])
    assert [quarter.mean() > 0.3 for quarter in quarters] == [True, False, True, False]


# --- what the backbone sees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
def test_the_formulas_are_those_of_keras_and_undo_themselves(mode: str) -> None:
    from keras.src.applications import imagenet_utils

    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3)).astype(np.float32)
    expected = imagenet_utils.preprocess_input(pixels.copy(), data_format="channels_last", mode=mode)
    np.testing.assert_allclose(FORMULAS[mode].apply(pixels), expected, atol=1e-4)
    np.testing.assert_allclose(np.asarray(preprocess(pixels, FORMULAS[mode])), expected, atol=1e-4)
    np.testing.assert_allclose(FORMULAS[mode].undo(expected), pixels, atol=1e-3)


@pytest.mark.parametrize("name", ["InceptionV3", "VGG16", "DenseNet121", "EfficientNetLite0"])
def test_the_right_preprocessing_gives_the_image_back_and_a_wrong_one_does_not(place: Path, name: str) -> None:
    path, own = str(next((place / "pictures" / "blue").iterdir())), BACKBONES[name].preprocessing
    for mode in FORMULAS:
        spec = resolve(FeaturesOptions(backbone=name, input_size=80, preprocessing=mode, resize="crop"))
        found, decoded = view_as_backbone(path, spec), load_image(path, (80, 80), "crop")
        np.testing.assert_allclose(
            found.values, np.asarray(preprocess(decoded.astype(np.float32), FORMULAS[mode])), atol=1e-4
        )
        if mode == own:
            np.testing.assert_array_equal(found.pixels, decoded)
            assert found.difference == 0
        else:
            expected = np.abs(found.pixels.astype(float) - decoded).mean()
            assert found.difference == pytest.approx(expected, rel=1e-5)
            assert found.difference > 15, (name, mode)  # of 255: nobody takes it for the image


def test_a_wrong_preprocessing_is_told(place: Path) -> None:
    asked = (
        "look",
        "pictures",
        "--no-advice",
        "--backbone",
        "InceptionV3",
        "--out",
        "wrong",
        "--no-html",
        "--show-images",
        "1",
        "--json",
    )
    right = call(*asked, cwd=place).json
    wrong = call(*asked, "--preprocessing", "caffe", cwd=place).json
    assert (right["seen"]["own"], right["seen"]["mean_difference"], right["seen"]["warning"]) == ("tf", 0, None)
    assert wrong["seen"]["mean_difference"] > 50
    assert any("trained with the preprocessing tf and is given caffe" in note for note in wrong["notes"])
    assert {path.name for path in (place / "wrong").iterdir()} == {"sheet.png", "sizes.png", "seen.png"}
    assert wrong["report"] is wrong["advice"] is wrong["imagenet"] is None


# --- ImageNet --------------------------------------------------------------------------------------------------------


def test_there_are_a_thousand_names_in_the_order_of_the_outputs() -> None:
    names = class_names()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 1: "goldfish", 151: "Chihuahua", 207: "golden retriever", 281: "tabby", 340: "zebra"}
    known |= {404: "airliner", 504: "coffee mug", 652: "military uniform", 817: "sports car", 954: "banana"}
    known |= {985: "daisy", 999: "toilet tissue", 134: "crane (bird)", 517: "crane (machine)"}
    assert {code: names[code] for code in known} == known


def test_what_is_on_known_photographs(place: Path, tmp_path: Path) -> None:
    """Names and outputs agree: a portrait of Rear Admiral Hopper in uniform, a flower and a Chinese temple."""
    import matplotlib
    import sklearn.datasets

    sources = [
        Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
        *(Path(sklearn.datasets.__file__).parent / "images" / name for name in ("flower.jpg", "china.jpg")),
    ]
    for source in sources:
        shutil.copy(source, tmp_path)
    images = read_images(tmp_path, DataOptions())
    answers = ask_once(images, FeaturesOptions(cache=str(place / "cache")))
    said = {Path(images.paths[row]).name: answers.top(i) for i, row in enumerate(answers.rows.tolist())}
    assert said["grace_hopper.jpg"][0].label == "military uniform"
    assert "daisy" in [one.label for one in said["flower.jpg"]]
    assert {"palace", "monastery", "bell cote", "stupa"} & {one.label for one in said["china.jpg"]}
    assert answers.notes == ()
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, atol=5e-3)


def test_answers_stand_beside_the_true_label(told: dict[str, Any]) -> None:
    found = told["imagenet"]
    assert found["backbone"] == "EfficientNetLite0"  # a .keras file has no ImageNet top, and a note says so
    assert any("tiny is a network of its own" in note for note in told["notes"])
    assert (found["images"], len(found["predictions"])) == (60, 60)
    for one in found["predictions"]:
        assert Path(one["path"]).parent.name == one["label"]
        confidences = [answer["confidence"] for answer in one["top"]]
        assert len(confidences) == 3
        assert confidences == sorted(confidences, reverse=True)
    first = Counter((one["label"], one["top"][0]["label"]) for one in found["predictions"])
    for one in found["classes"]:
        assert one["images"] == 20
        for name in one["commonest"]:
            assert name["share"] == first[one["label"], name["label"]] / 20
        assert one["commonest"][0]["share"] == max(n for (label, _), n in first.items() if label == one["label"]) / 20
    mean = np.mean([one["commonest"][0]["share"] for one in found["classes"]])
    assert found["separation"]["consistency"] == pytest.approx(mean)


def test_separation_is_what_counting_by_hand_gives() -> None:
    random = np.random.default_rng(0)
    y, first = random.integers(0, 4, 80), random.integers(0, 30, 80) * 7
    first[y == 2] = 500
    found = measure_separation(first, y)
    assert found is not None
    right = 0.0
    for i in range(80):
        others = Counter(y[j] for j in range(80) if j != i and first[j] == first[i])
        best = [code for code, count in others.items() if count == max(others.values())]
        right += (y[i] in best) / len(best) if best else 0
    assert found.purity == pytest.approx(right / 80)
    assert found.largest == np.bincount(y).max() / 80
    table = count_pairs(first, y)
    assert table.sum() == 80
    assert table[2].max() == (y == 2).sum()


def test_information_is_adjusted_for_chance() -> None:
    random = np.random.default_rng(1)
    y = random.integers(0, 3, 300)
    same, none, single = (
        measure_separation(first, y) for first in (y * 11, random.integers(0, 900, 300), np.arange(300))
    )
    assert same is not None
    assert none is not None
    assert single is not None
    assert (same.purity, same.information, same.consistency) == (1, pytest.approx(1), 1)
    assert abs(none.information) < 0.1  # plain purity of it is above 0.8
    assert (single.purity, abs(single.information) < 1e-6) == (0, True)  # plain purity of it is 1
    assert measure_separation(y, np.zeros(300, int)) is None


def test_a_download_that_fails_says_what_to_do(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras.src.utils import file_utils

    def fail(*_: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    monkeypatch.setattr(file_utils, "urlretrieve", fail)
    asked = ("look", "pictures", "--backbone", "MobileNet", "--out", "offline", "--show-images", "1", "--sample", "30")
    asked += ("--json",)  # of a sample this small no network is timed
    refused = call(*asked, "--imagenet", cwd=place)
    assert (refused.status, refused.json["error"]["kind"]) == (1, "backbone")
    assert re.search(r"Cannot download the ImageNet weights of MobileNet.*--weights FILE", refused.sentence)
    error = BackboneError(refused.sentence.removeprefix("featx: "))
    monkeypatch.setattr("featx.first_look.networks.ask", lambda *_: (_ for _ in ()).throw(error))
    plain = call(*asked, cwd=place)  # the rest is told all the same
    assert plain.status == 0
    assert plain.json["advice"] is None
    assert any("No advice: Cannot download" in note for note in plain.json["notes"])
    assert (place / plain.json["sheet"]).is_file()


def test_the_preprocessing_that_was_chosen_is_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[FeaturesOptions] = []
    answers = ImageNetAnswers(resolve(FeaturesOptions()), None, np.arange(0), np.empty((0, 1000)))  # type: ignore[arg-type]
    monkeypatch.setattr(
        "featx.first_look.imagenet._ask", lambda images, options, cache, progress: asked.append(options) or answers
    )
    for backbone in ("EfficientNetLite0", str(place / "tiny.keras")):
        ask_once(labelled(1), FeaturesOptions(backbone=backbone, preprocessing="caffe"))
    assert [(one.backbone, one.preprocessing) for one in asked] == [
        ("EfficientNetLite0", "caffe"),
        ("EfficientNetLite0", "auto"),  # in the place of a network without a top
    ]


@pytest.mark.slow
def test_weights_of_a_file_with_a_top_are_asked_themselves(place: Path, tmp_path: Path) -> None:
    import keras

    network = keras.applications.MobileNet(weights=None, include_top=True)
    network.save_weights(tmp_path / "top.weights.h5")
    notop = keras.Model(network.inputs, network.get_layer("conv_pw_13_relu").output)
    notop.save_weights(tmp_path / "notop.weights.h5")
    images = replace(read_images(place / "pictures", DataOptions()), labels=None, classes=()).take(np.arange(2))
    options = FeaturesOptions(backbone="MobileNet", cache=str(place / "cache"))
    own = ask_once(images, replace(options, weights=str(tmp_path / "top.weights.h5")))
    assert (own.spec.name, own.notes) == ("MobileNet", ())
    pixels = np.stack([load_image(path, (224, 224), "stretch") for path in images.paths]).astype(np.float32)
    expected = network(keras.applications.mobilenet.preprocess_input(pixels))
    np.testing.assert_allclose(own.probabilities, np.asarray(expected), rtol=2e-3, atol=1e-6)
    other = ask_once(images, replace(options, weights=str(tmp_path / "notop.weights.h5")))
    assert other.spec.name == "EfficientNetLite0"
    assert "no ImageNet top" in other.notes[0]


# --- the sample and the depths ---------------------------------------------------------------------------------------


def test_a_sample_has_as_many_of_each_class_as_there_are() -> None:
    images = labelled(100, 3, 50)
    rows = draw_sample(images, 60, 0, without=[100])
    assert np.bincount(images.labels[rows]).tolist() == [20, 2, 20]
    assert 100 not in rows
    np.testing.assert_array_equal(rows, draw_sample(images, 60, 0, without=[100]))
    assert not np.array_equal(rows, draw_sample(images, 60, 1, without=[100]))
    many = labelled(*[9] * 200)
    drawn = np.bincount(many.labels[draw_sample(many, 50, 0)], minlength=200)
    assert sorted(np.unique(drawn)) == [0, 5]
    assert (drawn > 0).sum() == 10
    plain = replace(images, labels=None, classes=())
    assert len(draw_sample(plain, 60, 0)) == len(set(draw_sample(plain, 60, 0))) == 60


def test_images_without_a_group_are_not_one(place: Path) -> None:
    images = replace(labelled(3, 3), groups=("a", "", "a", "", "", "b"))
    groups = Study(images, images, Pipeline(), Cache("cache")).groups(np.array([0, 1, 2, 3, 5]))
    assert groups is not None
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 4
    assert Study(labelled(2), labelled(2), Pipeline(), Cache("cache")).groups(np.arange(2)) is None


@pytest.mark.slow
def test_no_network_is_run_on_declared_test_images(place: Path, tmp_path: Path) -> None:
    for part, names in (("train", ("blue", "red")), ("test", ("blue", "red"))):
        for name in names:
            files = sorted((place / "pictures" / name).glob("0-*.png"))
            (tmp_path / part / name).mkdir(parents=True)
            for path in files[:12] if part == "train" else files[12:]:
                shutil.copy(path, tmp_path / part / name)
    found = run(place, tmp_path).json
    assert found["depths"]["images"] == 24
    assert "No network was run on the 16 images declared as test, so that they choose nothing." in found["notes"]
    shutil.rmtree(tmp_path / "train")
    images = read_images([str(path) for path in sorted(tmp_path.rglob("*.png"))], DataOptions())
    assert declared_test(images) == []
    assert declared_test(replace(images, declared=np.full(len(images), TEST, np.uint8))) == []  # there are no others


def test_depths_are_the_last_layers_before_the_map_shrinks() -> None:
    spec = resolve(FeaturesOptions(input_size=64))
    depths = find_depths(spec, "top_activation")
    inner = ["block1a_project_bn", "block2b_add", "block3b_add", "block5c_add"]
    assert [depth.layer for depth in depths] == [*inner, "top_activation"]
    assert [depth.side for depth in depths] == [32, 16, 8, 4, 2]
    shares = [depth.share for depth in depths]
    assert shares == sorted(shares)
    assert (0 < shares[0] < 0.2, shares[-1]) == (True, 1)
    assert depths[-1].outputs == (Output("top_activation", "avg"), Output("top_activation", "grid:2"))
    assert depths[0].outputs[1] == Output("block1a_project_bn", "grid:4")


def test_depths_of_networks_of_other_shapes() -> None:
    flat: tuple[int | None, ...] = (128,)
    assert [one.layer for one in choose_depths([("dense", "dense", 0.5, flat)], "top", flat)] == ["top"]
    (only,) = choose_depths([], "conv", (1, 1, 8))
    assert only.outputs == (Output("conv", "avg"),)
    deep = [(f"conv{i}", f"conv{i}", i / 10, (100 - i, 100 - i, 4)) for i in range(1, 10)]
    found = choose_depths(deep, "conv9", (91, 91, 4))
    assert [one.layer for one in found] == ["conv5", "conv6", "conv7", "conv8", "conv9"]


def test_a_probe_is_the_best_ridge_of_scikit_learn(place: Path, told: dict[str, Any]) -> None:
    from sklearn.linear_model import RidgeClassifier

    from featx.heads.table import head_kind
    from featx.selection.folds import make_folds

    images = read_images(place / "pictures", DataOptions())
    rows = np.flatnonzero([Path(path).name != "broken.png" for path in images.paths])
    images = images.take(rows)
    options = FeaturesOptions(backbone=str(place / "tiny.keras"), cache=str(place / "cache"))
    with Cache(options.cache) as cache:
        features = extract_depths(images, options, cache)
    assert features.extraction.computed == 0  # the command had computed them
    assert images.labels is not None
    probing = probe_depths(features, np.arange(60), images.labels)
    assert probing is not None
    held = make_folds(images.labels, None, 5, 0)
    for probe, said in zip(probing.probes, told["depths"]["probes"], strict=True):
        assert said == {"output": probe.output.name, "share": probe.share, "score": probe.score}
        assert probe.right is not None
        assert probe.right.mean() == pytest.approx(probe.score)
    for probe in (probing.probes[0], probing.probes[-1]):
        X = features.extraction.features(probe.output, np.arange(60)).asarray().astype(np.float64)
        scaled = standard_scaler(X).transform(X)  # of all rows: it knows no labels
        best = 0.0
        for strength in head_kind("ridge").strengths[::2]:
            right = 0
            for fold in range(5):
                head = RidgeClassifier(1 / strength).fit(scaled[held != fold], images.labels[held != fold])
                right += (head.predict(scaled[held == fold]) == images.labels[held == fold]).sum()
            best = max(best, right / 60)
        assert probe.score == pytest.approx(best, abs=1.1 / 60)  # a tie may fall either way
    assert [probe.output.layer for probe in probing.last] == ["last", "last"]
    assert not {"last"} & {probe.output.layer for probe in probing.inner}


# --- advice ----------------------------------------------------------------------------------------------------------

INNER, LAST = ScoredOutput("block3@grid:4", 0.2, 0.8), ScoredOutput("top@avg", 1.0, 0.8)


def numbers(images: int, inner: float | None, last: float, information: float | None = None, **more: Any) -> Numbers:
    separation = None if information is None else Separation(0.5, 0.1, information, 0.5)
    known: dict[str, Any] = {"images": images, "classes": 10, "median": images / 10, "judged": 500, "error": 0.01}
    return Numbers(
        inner=None if inner is None else replace(INNER, score=inner),
        last=replace(LAST, score=last),
        separation=separation,
        **known | more,
    )


@pytest.mark.parametrize(
    ("images", "inner", "last", "size", "similarity", "output", "clf", "tune", "words"),
    [
        (500, 0.80, 0.95, "small", "similar", "top@avg", "logreg", None, "linear head on the last layer. With so few"),
        (500, 0.98, 0.90, "small", "different", "block3@grid:4", "svm", None, "SVM on an inner layer. With so few"),
        (20_000, 0.80, 0.95, "large", "similar", "top@avg", "logreg", "top@avg", "then a fine-tune"),
        (20_000, 0.98, 0.90, "large", "different", "block3@grid:4", "svm", "top@avg", "A fine-tune of the whole"),
    ],
)
def test_the_four_corners(
    images: int, inner: float, last: float, size: str, similarity: str, output: str, clf: str, tune: str, words: str
) -> None:
    found = advise(numbers(images, inner, last))
    assert (found.size, found.similarity, found.output, found.clf, found.tune) == (size, similarity, output, clf, tune)
    assert words in found.summary
    assert f"{images:,} images in 10 classes" in found.reasons[0]
    assert f"{inner:.3f} on the best inner layer (block3@grid:4, after 20%" in found.reasons[1]
    assert f"{last:.3f} on the last one (top@avg)" in found.reasons[1]


def test_where_layers_do_not_differ_the_names_decide() -> None:
    for information, similarity, output in ((0.6, "similar", "top@avg"), (0.05, "different", "block3@grid:4")):
        found = advise(numbers(500, 0.91, 0.90, information))
        assert (found.similarity, found.output) == (similarity, output)
        assert "which could be chance" in found.reasons[1]
        assert f"adjusted mutual information {information:.2f}" in found.reasons[2]
    unlike = advise(numbers(500, 0.90, 0.905, 0.05))  # unlike, and yet the last layer is no worse
    assert (unlike.similarity, unlike.output, unlike.clf) == ("different", "top@avg", "svm")
    assert "on the last layer" in unlike.summary
    assert advise(numbers(500, 0.90, 0.905)).similarity == "similar"  # nothing says otherwise


def test_where_witnesses_disagree_the_layers_are_believed() -> None:
    found = advise(numbers(500, 0.98, 0.90, 0.7))
    assert found.similarity == "different"
    assert "better evidence" in found.reasons[2]
    assert "better witness" not in advise(numbers(500, 0.98, 0.90, 0.1)).reasons[2]


def test_chance_widens_the_margin() -> None:
    assert advise(numbers(500, 0.95, 0.90, error=0.02)).similarity == "different"
    assert advise(numbers(500, 0.95, 0.90, error=0.03)).similarity == "similar"
    assert advise(numbers(500, 0.905, 0.90, error=0.0)).similarity == "similar"  # too little to be worth it
    assert advise(numbers(500, 0.95, 0.90, error=None)).similarity == "different"
    alone = advise(numbers(500, None, 0.9))
    assert (alone.similarity, alone.output) == ("similar", "top@avg")
    assert "no layer below it was judged" in alone.reasons[1]


def test_many_images_are_many_of_a_class_too() -> None:
    assert advise(numbers(20_000, 0.5, 0.9, median=40)).size == "small"
    assert advise(numbers(1_000, 0.5, 0.9, median=500)).size == "small"


def test_the_error_of_a_difference_is_that_of_the_pairs() -> None:
    random = np.random.default_rng(0)
    one, other = random.random(200) < 0.9, random.random(200) < 0.8
    gaps = one.astype(float) - other
    assert difference_error(one.tolist(), other.tolist()) == pytest.approx(gaps.std(ddof=1) / 200**0.5)
    assert difference_error([True], [False]) is None


def test_what_is_advised_can_be_typed(place: Path, told: dict[str, Any]) -> None:
    found = told["advice"]
    assert found["size"] == "small"
    assert found["numbers"]["median"] == 20
    (command,) = found["commands"]
    program, *arguments = shlex.split(command)
    assert program == "featx"
    done = call(*arguments, "--strength", "0.01", "--no-html", "--json", cwd=place)
    assert done.status == 0, done.err
    assert (done.json["output"], done.json["clf"]) == (found["output"], found["clf"])


def test_options_come_back_in_the_commands(place: Path) -> None:
    asked = ["look", "pictures", "--backbone", "tiny.keras", "--workers", "1", "--seed", "3", "--out", "p"]
    asked += ["--show-images", "1"]
    found = call(*asked, "--name", "my run", "--split", "0.6,0.2,0.2", cwd=place)
    assert found.status == 2  # look splits nothing
    found = call(*asked, "--name", "my run", "--json", cwd=place)
    expected = "featx fit-head pictures --seed 3 --backbone tiny.keras --workers 1 --name 'my run' --layer "
    assert found.json["advice"]["commands"][0].startswith(expected)


# --- the command -----------------------------------------------------------------------------------------------------


def test_one_page_holds_all_of_it_and_loads_nothing(place: Path, told: dict[str, Any]) -> None:
    folder = place / "runs" / "pictures" / "look"
    names = ("sheet", "sizes", "seen", "imagenet", "depths")
    assert {path.name for path in folder.iterdir()} == {"index.html", *(f"{name}.png" for name in names)}
    page = (place / told["report"]).read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == len(names)
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert told["advice"]["summary"] in page
    assert told["advice"]["commands"][0] in re.sub(r"</?span[^>]*>", "", page)
    assert "broken.png" in page
    for one in told["depths"]["probes"]:
        assert one["output"] in page


def test_people_read_tables_and_reasons(place: Path) -> None:
    done = call("look", "pictures", "--imagenet", "--backbone", "tiny.keras", cwd=place)
    assert done.status == 0, done.err
    assert "61 images in 3 classes, 20 in each" in done.out
    assert "1 image could not be read" in done.out
    assert re.search(r"^image +class +first +second +third$", done.out, re.M)
    assert re.search(r"^blue +20 +\w.* \d+%", done.out, re.M)
    assert re.search(r"^last@avg +100\.0% +\d", done.out, re.M)
    assert "Few images, " in done.out
    assert "Try:\n  featx fit-head pictures --backbone tiny.keras --layer " in done.out


def test_a_picture_that_is_not_drawn_again_goes(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("depths.png", "imagenet.png", "index.html", "mine.png"):
        (out / name).write_bytes(b"of an earlier run")
    found = run(place, "pictures", "--out", out, "--show-images", "1", "--no-advice", "--no-html").json
    assert {path.name for path in out.iterdir()} == {"sheet.png", "sizes.png", "seen.png", "mine.png"}
    assert found["sheet"] == str(out / "sheet.png")


# --- unkind data -----------------------------------------------------------------------------------------------------


def test_without_labels_there_is_a_sheet_and_no_advice(place: Path) -> None:
    make_unkind_folder(place / "unkind")
    found = run(place, "unkind").json
    assert (found["images"], found["shown"], len(found["bad"])) == (13, 7, 6)
    assert (found["classes"], found["sizes"], found["advice"], found["imagenet"]) == ({}, None, None, None)
    assert "No advice: the images have no labels." in found["notes"]
    asked = run(place, "unkind", "--imagenet").json
    assert [one["label"] for one in asked["imagenet"]["predictions"]] == [None] * 7
    assert asked["imagenet"]["separation"] is None


def test_one_class_one_image_and_classes_of_one(place: Path) -> None:
    source = next((place / "pictures" / "blue").iterdir())
    for name in ("single/only", "pair/a", "pair/b"):
        (place / name).mkdir(parents=True)
        shutil.copy(source, place / name / "x.png")
    other = next((place / "pictures" / "green").iterdir())
    shutil.copy(other, place / "pair" / "b" / "x.png")
    single = run(place, "single").json
    assert (single["images"], single["shown"], single["classes"]) == (1, 1, {"only": 1})
    assert any("there is one class (only)" in note for note in single["notes"])
    pair = run(place, "pair").json
    assert pair["advice"] is None
    assert any("takes two classes" in note for note in pair["notes"])
    assert pair["imagenet"]["images"] == 2


def test_nothing_to_look_at_is_an_error_of_one_sentence(place: Path) -> None:
    (place / "empty").mkdir()
    (place / "broken" / "a").mkdir(parents=True)
    for number in range(3):
        (place / "broken" / "a" / f"{number}.jpg").write_text("no image")
    for data, words in (("empty", "it is empty"), ("broken", "None of the 3 images"), ("gone", "No such file")):
        done = run(place, data)
        assert (done.status, done.json["exit_status"]) == (1, 1)
        assert words in done.sentence
        assert words in done.json["error"]["message"]
    assert not (place / "runs" / "broken" / "look").exists()


def test_a_class_whose_images_are_all_broken_is_named(place: Path) -> None:
    write_pictures(place / "partly", per_class=4, seed=5)
    for path in (place / "partly" / "green").iterdir():
        path.write_bytes(b"")
    found = run(place, "partly", "--show-images", "2").json
    assert any("No readable image of green" in note for note in found["notes"])
    assert found["classes"]["green"] == 0
    assert found["advice"] is not None


def test_several_labels_per_image(place: Path) -> None:
    table = write_squares(place / "squares", count=24)
    found = run(place, table, "--label-separator", "$", "--show-images", "1").json
    assert set(found["classes"]) == {"red", "green", "blue"}
    assert found["depths"]["metric"] == "average_precision"
    assert found["advice"]["numbers"]["error"] is None
    assert "--label-separator '$'" in found["advice"]["commands"][0]
    assert {label for one in found["imagenet"]["classes"] for label in one["label"].split(" + ")} >= {
        "red",
        "(no label)",
    }
    scores = [one["score"] for one in found["depths"]["probes"]]
    assert all(0 < score <= 1 for score in scores)


@pytest.mark.slow
def test_digits_are_few_and_unlike_photographs(place: Path, tmp_path: Path) -> None:
    call("data", "digits", "--out", "all", cwd=tmp_path)
    for path in (one for folder in (tmp_path / "all").iterdir() for one in sorted(folder.iterdir())[:12]):
        (tmp_path / "digits" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "digits" / path.parent.name)
    asked = ("look", "digits", "--input-size", "64", "--sample", "60", "--cache", place / "cache", "--json")
    asked += ("--show-images", "1", "--no-html")
    done = call(*asked, cwd=tmp_path)
    assert done.status == 0, done.err
    advice = done.json["advice"]
    assert (advice["size"], advice["similarity"], advice["clf"], advice["tune"]) == ("small", "different", "svm", None)
    assert advice["output"].split("@")[0] in {"block2b_add", "block3b_add", "block5c_add"}
    assert "best inner layer" in advice["reasons"][1]
    assert "have lost what separates these classes" in advice["reasons"][1]
    assert advice["numbers"]["inner"]["score"] > advice["numbers"]["last"]["score"] + 0.02


def test_the_function_takes_a_pipeline(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    pipeline = Pipeline(data=DataOptions(path="pictures"), features=FeaturesOptions(backbone="tiny.keras"))
    with Cache(pipeline.features.cache) as cache:
        found = look(pipeline, cache, tmp_path / "out", Scope(classes=1, images=2, advice=False))
    assert found.shown == 2
    assert (tmp_path / "out" / "index.html").is_file()


def test_another_top_than_imagenets_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.first_look.imagenet.class_names", lambda: ("a", "b"))
    images = replace(read_images(place / "pictures", DataOptions()), labels=None, classes=()).take(np.arange(1))
    with pytest.raises(BackboneError, match="has 1,000 classes, which are not those of ImageNet"):
        ask_once(images, FeaturesOptions(cache=str(place / "cache")))


def test_a_spec_of_a_file_has_no_preprocessing_of_its_own(place: Path) -> None:
    spec = BackboneSpec(str(place / "tiny.keras"), "bundled", 0, (32, 32), "tf")
    path = str(next((place / "pictures" / "red").iterdir()))
    assert view_as_backbone(path, spec).difference == 0


def test_the_output_with_fewer_features_is_recommended_where_the_scores_are_within_noise() -> None:
    """0.9048 averaged against 0.9079 over a grid of 16 cells, and a difference that is more than noise."""
    images = 1000
    ordered = np.arange(images)

    def probe(layer: str, pooling: str, score: float, shift: int = 0) -> Probe:
        return Probe(Output(layer, pooling), 1.0, score, np.roll(ordered < round(score * images), shift))

    def chosen(averaged: float, grid: float) -> str:
        probes = (probe("block", "avg", 0.5), probe("top", "avg", averaged), probe("top", "grid:4", grid, 20))
        return gather(
            ImageSet("x", "x", ("",) * images, ordered % 2, ("a", "b")), Probing(probes, "accuracy", images), None
        ).last.name

    assert chosen(0.905, 0.908) == "top@avg"
    assert chosen(0.908, 0.905) == "top@avg"
    assert chosen(0.7, 0.9) == "top@grid:4"


def test_a_slow_network_is_run_on_fewer_images_and_a_note_says_so(
    lab: Lab, tmp_path: Path, imagenet_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(imagenet_cache, tmp_path / "cache")
    pictures = write_pictures(tmp_path / "pictures", per_class=15)

    class Clock:
        now = 0.0

        @classmethod
        def perf_counter(cls) -> float:
            return cls.now

    def slow(stage: str, done: int, total: int, /, **counts: int) -> None:
        if stage == "extract" and done == total:
            Clock.now += done * 0.005

    monkeypatch.setattr("featx.first_look.budget.time", Clock)

    features = replace(lab.pipeline.features, cache=str(tmp_path / "cache"))
    pipeline = replace(lab.pipeline, data=DataOptions(path=str(pictures)), features=features)
    with Cache(features.cache) as cache:
        context = Context("", slow)
        short = look(pipeline, cache, tmp_path / "short", Scope(1, 1, seconds=0.0), context=context)
        long = look(pipeline, cache, tmp_path / "long", Scope(1, 1, seconds=600.0), context=context)
    assert short.depths is not None
    assert long.depths is not None
    assert (short.depths.images, long.depths.images) == (39, 45)  # of three classes as many of each
    assert [note for note in short.notes if note.startswith("Networks were run on 39 images")]
    assert not [note for note in long.notes if note.startswith("Networks were run")]


# --- the scale of values -----------------------------------------------------------------------------------------


def write_textures(folder: Path, count: int = 12) -> list[str]:
    """Images of stripes of different width, direction and colour."""
    random, paths = np.random.default_rng(2), []
    across = np.arange(64)[None, :, None] + np.zeros((64, 1, 3))
    for number in range(count):
        turned = across if number % 2 else across.transpose(1, 0, 2)
        wave = np.sin(turned * random.uniform(0.1, 1.5) + random.uniform(0, 6, 3)) / 3
        path = folder / f"{number}.png"
        Image.fromarray((127 + 90 * wave + random.normal(0, 8, wave.shape)).clip(0, 255).astype(np.uint8)).save(path)
        paths.append(str(path))
    return paths


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The lower third of EfficientNetLite0 as a file that does not say what it takes, which is 0 to 255."""
    import keras

    from featx.backbones.build import build

    path = tmp_path / "lite0.keras"
    network = build(resolve(FeaturesOptions(input_size=64)))
    keras.Model(network.inputs, network.get_layer("block3b_add").output).save(path)
    return path


@pytest.mark.slow
def test_values_that_are_far_too_small_or_too_large_are_warned_of(trained: Path, tmp_path: Path) -> None:
    from featx.first_look.scale import warn_of_scale

    paths = write_textures(tmp_path)

    def warning(**values: Any) -> str | None:
        return warn_of_scale(resolve(FeaturesOptions(backbone=str(trained), input_size=64, **values)), paths)

    assert warning() is None
    small = warning(scale=1 / 255)
    assert small is not None
    assert small.startswith("lite0 may be given values that are far too small (0 to 1)")
    large = warning(scale=255.0)
    assert large is not None
    assert "far too large (0 to 6.5e+04)" in large


def test_a_scale_is_judged_by_distances_of_features() -> None:
    from featx.first_look.scale import Scale, measure_scale

    assert Scale(spread=1e-4, larger=0.4, changed=1e-3).too_small
    assert not Scale(spread=1e-4, larger=2e-3, changed=1e-3).too_small  # images that are alike
    assert Scale(spread=0.4, larger=0.4, changed=1e-3).too_large
    assert not Scale(spread=0.4, larger=0.4, changed=0.04).too_large
    assert Scale(spread=0.4, larger=0.4, changed=1e-3).fault(255) == "large"
    assert (
        Scale(spread=0.4, larger=0.4, changed=1e-3).fault(2.6) is None
    )  # no network takes less than normalised values
    assert Scale(spread=1e-4, larger=0.4, changed=1e-3).fault(1) == "small"
    assert Scale(spread=1e-4, larger=0.4, changed=1e-3).fault(150) is None
    assert not Scale(spread=0.0, larger=0.0, changed=0.0).too_large  # a network that is dead
    random = np.random.default_rng(0)
    rows = random.normal(size=(4, 16))
    found = measure_scale({0.5: rows * 0.5, 1.0: rows, 2.0: rows * 2, 255.0: rows[:, ::-1]})
    assert found is not None
    cosines = [
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for i, a in enumerate(rows) for b in np.delete(rows, i, 0)
    ]
    assert found.spread == pytest.approx(1 - np.mean(cosines))
    assert found.changed == pytest.approx(0, abs=1e-12)
    assert measure_scale(dict.fromkeys((0.5, 1.0, 2.0, 255.0), rows[:, :4])) is None
