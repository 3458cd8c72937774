"""Class activation maps: exact where they are said to be, on the object that decides, gone with the head's weights."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arrays import arrays_of
from cached import prepare
from conftest import save_backbone
from fitted import call
from PIL import Image
from unkind import gradient, rotated_jpeg

from featx.bundle.bundle import Bundle, load_bundle
from featx.bundle.sealing import seal
from featx.config import DataOptions, FeaturesOptions, FinetuneOptions, HeadOptions, Pipeline, ReportOptions
from featx.errors import BundleError, UsageError
from featx.images.decoder import decode, load_image
from featx.images.resize import place
from featx.inference.explain import Explainer, Explanation
from featx.inference.overlays import strength
from featx.inference.placing import map_box, spread
from featx.inference.predict import AnswerOptions, Prediction, Unread, predict
from featx.workflow.publish import publish_finetuned, publish_head

OBJECTS = {"blue": (30, 60, 240), "green": (40, 220, 60), "red": (240, 50, 40)}
SIDE = 32  # of the scenes
QUADRANTS = ((0, 0), (0, 1), (1, 0), (1, 1))


def scene(objects: dict[tuple[int, int], str], random: np.random.Generator) -> np.ndarray:
    """Grey noise with a coloured square in each of these quadrants: uint8 (32, 32, 3)."""
    pixels = 110 + random.normal(0, 12, (SIDE, SIDE, 3))
    half = SIDE // 2
    for (down, across), name in objects.items():
        top, left = random.integers(2, half - 10, 2) + np.array([down, across]) * half
        pixels[top : top + 8, left : left + 8] = OBJECTS[name] + random.normal(0, 12, (8, 8, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_network(path: Path) -> None:
    """Three convolutions without biases, of random weights, to which the grey of the scenes is nothing."""
    import keras
    from keras import layers

    x = inputs = keras.Input((SIDE, SIDE, 3), name="pixels")
    x = layers.Rescaling(1 / 127, offset=-110 / 127, name="scale")(x)
    for seed, (name, channels) in enumerate({"stem": 8, "body": 16, "last": 16}.items()):
        start = keras.initializers.GlorotUniform(seed)
        conv = layers.Conv2D(
            channels, 3, 2, "same", activation="relu", use_bias=False, kernel_initializer=start, name=name
        )
        x = conv(x)
    keras.Model(inputs, x).save(path)


@dataclass
class Scenes:
    """Scenes with one object each, where it is, and bundles that tell its colour."""

    root: Path
    where: dict[str, tuple[int, int]] = field(default_factory=dict)
    bundles: dict[tuple[Any, ...], Bundle] = field(default_factory=dict)

    def write(self) -> None:
        random = np.random.default_rng(0)
        for name in OBJECTS:
            (self.root / "scenes" / name).mkdir(parents=True)
            for number in range(24):
                quadrant = QUADRANTS[number % 4]
                path = self.root / "scenes" / name / f"{number:02}.png"
                Image.fromarray(scene({quadrant: name}, random)).save(path)
                self.where[str(path)] = quadrant
        write_network(self.root / "tiny.keras")

    def pipeline(self, layers: tuple[str, ...], name: str, **head: Any) -> Pipeline:
        given = {
            "strength": {"knn": 5.0, "dense": None}.get(head["clf"], 0.1),
            "combine": "all",
            "hidden": "16",
            "epochs": 30,
            "learning_rate": 1e-2,
        }
        return Pipeline(
            data=DataOptions(path=str(self.root / "scenes"), split=(0.5, 0.25, 0.25)),
            features=FeaturesOptions(
                backbone=str(self.root / "tiny.keras"), layer=layers, cache=str(self.root / "cache")
            ),
            head=HeadOptions(**(given | head)),
            finetune=FinetuneOptions(epochs=1, batch_size=8, learning_rate=1e-3),
            report=ReportOptions(runs=str(self.root / "runs"), name=name, html=False),
        )

    def bundle(self, *layers: str, **head: Any) -> Bundle:
        key = (*layers, *sorted(head.items()))
        if key not in self.bundles:
            self.bundles[key] = publish_head(prepare(self.pipeline(layers, f"run{len(self.bundles)}", **head)))
        return self.bundles[key]

    def paths(self, step: int = 5) -> list[str]:
        return sorted(self.where)[::step]


@cache
def make_scenes(root: Path) -> Scenes:
    scenes = Scenes(root)
    scenes.write()
    return scenes


@pytest.fixture
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return make_scenes(tmp_path_factory.getbasetemp() / "scenes")


def explained(bundle: Bundle, paths: Sequence[str | Path | bytes], *more: Any, **options: Any) -> list[Explanation]:
    found = list(Explainer(bundle, *more, **options).explain(paths))
    assert all(isinstance(one, Explanation) for one in found)
    return found  # type: ignore[return-value]


def logits_of(bundle: Bundle, paths: Sequence[str]) -> np.ndarray:
    """As the bundle itself predicts, through its engine."""
    images = np.stack([load_image(path, bundle.input_size, "stretch") for path in paths])
    return bundle.head(bundle.transform.apply(bundle.features(images)))


def map_of(scenes: Scenes, path: str, layer: str) -> np.ndarray:
    """float32 (height, width, channels) of a layer of the network that was given, by plain Keras."""
    import keras

    network = keras.saving.load_model(scenes.root / "tiny.keras", compile=False)
    cut = keras.Model(network.inputs[0], network.get_layer(layer).output)
    return np.asarray(cut(np.asarray(Image.open(path), np.float32)[None]))[0]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


# --- exact maps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "head"),
    [
        (("body@avg",), {"clf": "logreg"}),
        (("body@grid:2",), {"clf": "svm"}),
        (("body@grid:3",), {"clf": "ridge"}),  # 8 places in 3 cells: these overlap
        (("last@flatten",), {"clf": "logreg"}),
        (("last@avg", "body@grid:2"), {"clf": "logreg"}),
        (("body@avg",), {"clf": "logreg", "normalize": "l2"}),
        (("body@grid:2", "last@avg"), {"clf": "logreg", "normalize": "l2", "pca": 12}),
    ],
)
def test_the_mean_of_an_exact_map_and_the_bias_are_the_logit(
    scenes: Scenes, layers: tuple[str, ...], head: dict[str, Any]
) -> None:
    bundle, paths = scenes.bundle(*layers, **head), scenes.paths()
    logits = logits_of(bundle, paths)
    size = float(np.abs(logits).max())
    for answer, expected in zip(explained(bundle, paths, top=3), logits, strict=True):
        assert answer.method == "cam"
        for one in answer.classes:
            column = bundle.classes.index(one.label)
            parts = [one.maps[output.name] for output in bundle.outputs]
            assert all(part.dtype == np.float32 for part in parts)
            assert one.bias is not None
            found = sum(float(part.mean(dtype=np.float64)) for part in parts) + one.bias
            assert found == pytest.approx(expected[column], abs=2e-4 * size)
            assert one.score == pytest.approx(expected[column], abs=2e-4 * size)


def test_an_averaged_map_is_the_head_at_every_place(scenes: Scenes) -> None:
    bundle, path = scenes.bundle("body@avg", clf="logreg"), scenes.paths()[0]
    held = arrays_of(bundle.path / "head.npz")
    expected = map_of(scenes, path, "body") @ held["kernel"]  # a 1 x 1 convolution
    (answer,) = explained(bundle, [path], top=3)
    for one in answer.classes:
        np.testing.assert_allclose(one.map, expected[..., bundle.classes.index(one.label)], rtol=1e-4, atol=1e-4)


def test_a_flattened_map_has_weights_of_its_own_at_every_place(scenes: Scenes) -> None:
    bundle, path = scenes.bundle("last@flatten", clf="logreg"), scenes.paths()[0]
    values = map_of(scenes, path, "last")
    kernel = arrays_of(bundle.path / "head.npz")["kernel"].reshape(*values.shape, -1)
    expected = 16 * (values[..., None] * kernel).sum(axis=2)
    (answer,) = explained(bundle, [path], top=3)
    for one in answer.classes:
        np.testing.assert_allclose(one.map, expected[..., bundle.classes.index(one.label)], rtol=1e-4, atol=1e-3)


def test_the_cells_of_a_grid_have_weights_of_their_own(scenes: Scenes) -> None:
    bundle, path = scenes.bundle("body@grid:2", clf="svm"), scenes.paths()[0]
    values = map_of(scenes, path, "body")
    cells = arrays_of(bundle.path / "head.npz")["kernel"].reshape(2, 2, values.shape[2], -1)
    expected = np.einsum("hwc,hwck->hwk", values, 4 * cells.repeat(4, axis=0).repeat(4, axis=1))
    (answer,) = explained(bundle, [path], top=3)
    for one in answer.classes:
        np.testing.assert_allclose(one.map, expected[..., bundle.classes.index(one.label)], rtol=1e-4, atol=1e-3)


def test_several_layers_have_a_map_each_and_their_sum(scenes: Scenes) -> None:
    bundle = scenes.bundle("last@avg", "body@grid:2", clf="logreg")
    for answer in explained(bundle, scenes.paths(20)):
        (one,) = answer.classes
        shapes = {name: values.shape for name, values in one.maps.items()}
        assert shapes == {"last@avg": (4, 4), "body@grid:2": (8, 8), "sum": (SIDE, SIDE)}
        assert one.map is one.maps["sum"]
        means = [one.maps[name].mean() for name in ("last@avg", "body@grid:2")]
        assert one.map.mean() == pytest.approx(sum(means), abs=0.05 * float(np.abs(one.map).max()))


# --- gradients -------------------------------------------------------------------------------------------------------


def test_on_averages_grad_cam_of_a_linear_head_is_cam(scenes: Scenes) -> None:
    bundle, paths = scenes.bundle("body@avg", clf="logreg"), scenes.paths(9)
    for exact, other in zip(explained(bundle, paths, "cam"), explained(bundle, paths, "gradcam"), strict=True):
        (one,), (two,) = exact.classes, other.classes
        assert (one.label, two.label, two.bias) == (exact.label, exact.label, None)
        np.testing.assert_allclose(two.map, one.map, rtol=1e-3, atol=1e-3)


def test_behind_unit_length_the_gradient_leaves_out_what_lengthens(scenes: Scenes) -> None:
    bundle, path = scenes.bundle("body@avg", clf="logreg", normalize="l2"), scenes.paths()[0]
    (answer,) = explained(bundle, [path], "gradcam", top=3)
    values = map_of(scenes, path, "body").astype(np.float64)
    features = values.mean(axis=(0, 1))
    kernel, length = arrays_of(bundle.path / "head.npz")["kernel"], np.linalg.norm(features)
    direction = features / length
    weights = (kernel - np.outer(direction, direction @ kernel)) / length  # the derivative of kernel' f / |f|
    for one in answer.classes:
        expected = values @ weights[:, bundle.classes.index(one.label)]
        np.testing.assert_allclose(one.map, expected, atol=1e-3 * np.abs(expected).max())


def test_grad_cam_of_a_dense_head_follows_its_differences(scenes: Scenes) -> None:
    import keras

    bundle, path = scenes.bundle("body@avg", clf="dense"), scenes.paths()[7]
    (answer,) = explained(bundle, [path], top=3)
    assert answer.method == "gradcam"
    head = keras.saving.load_model(bundle.path / "head.keras", compile=False)
    scale, hidden, last = head.layers
    mean, variance = (np.asarray(one, np.float64).ravel() for one in (scale.mean, scale.variance))

    def logits(features: np.ndarray) -> np.ndarray:  # in float64, so that small steps have precise differences
        x = np.maximum(0, (features - mean) / np.sqrt(variance) @ np.float64(hidden.kernel) + np.float64(hidden.bias))
        return (x @ np.float64(last.kernel) + np.float64(last.bias)) / bundle.temperature

    values = map_of(scenes, path, "body").astype(np.float64)
    features, step = values.mean(axis=(0, 1)), 1e-7 * np.eye(values.shape[2])
    weights = (logits(features + step) - logits(features - step)) / 2e-7  # a channel raised everywhere, and lowered
    for one in answer.classes:
        column = bundle.classes.index(one.label)
        assert one.score == pytest.approx(float(logits(features)[column]), abs=1e-3)
        expected = values @ weights[:, column]
        np.testing.assert_allclose(one.map, expected, atol=1e-3 * np.abs(expected).max())


def test_grad_cam_of_a_maximum_weighs_channels_as_the_head_does(scenes: Scenes) -> None:
    bundle, path = scenes.bundle("body@max", clf="logreg"), scenes.paths()[0]
    (answer,) = explained(bundle, [path], top=3)
    assert answer.method == "gradcam"
    expected = map_of(scenes, path, "body") @ arrays_of(bundle.path / "head.npz")["kernel"]
    for one in answer.classes:
        np.testing.assert_allclose(one.map, expected[..., bundle.classes.index(one.label)], rtol=1e-3, atol=1e-4)


def test_without_a_map_of_its_own_a_layer_is_explained_by_the_last_one_below(scenes: Scenes, tmp_path: Path) -> None:
    save_backbone(tmp_path / "pooled.keras")  # its features are those of the layer `pool`, one number per channel
    pipeline = scenes.pipeline(("pool",), "pooled", clf="logreg")
    features = replace(pipeline.features, backbone=str(tmp_path / "pooled.keras"))
    report = replace(pipeline.report, runs=str(tmp_path / "runs"))
    bundle = publish_head(prepare(replace(pipeline, features=features, report=report)))
    assert bundle.manifest.output_names == ("pool@avg",)
    (answer,) = explained(bundle, scenes.paths()[:1])
    import keras

    network = keras.saving.load_model(tmp_path / "pooled.keras", compile=False)
    image = load_image(scenes.paths()[0], bundle.input_size, "stretch")
    values = np.asarray(
        keras.Model(network.inputs[0], network.get_layer("high").output)(image[None].astype(np.float32))
    )
    kernel = arrays_of(bundle.path / "head.npz")["kernel"][:, bundle.classes.index(answer.label)]
    assert answer.method == "gradcam"
    np.testing.assert_allclose(answer.classes[0].map, values[0] @ kernel, rtol=1e-3, atol=1e-3)


# --- occlusion -------------------------------------------------------------------------------------------------------


def test_an_occlusion_map_is_what_the_logit_loses(scenes: Scenes) -> None:
    bundle, path = scenes.bundle("body@avg", clf="svm", kernel="rbf", strength=10.0), scenes.paths()[3]
    (answer,) = explained(bundle, [path], top=3)
    assert answer.method == "occlusion"
    image = load_image(path, (SIDE, SIDE), "stretch")
    before = bundle.head(bundle.features(image[None]))[0]
    colour = image.reshape(-1, 3).mean(axis=0).round()
    for down, across in [(0, 0), (7, 4), (15, 15)]:  # places of 2 pixels, squares of 6
        covered = image.copy()
        covered[max(0, 2 * down - 2) : 2 * down + 4, max(0, 2 * across - 2) : 2 * across + 4] = colour
        after = bundle.head(bundle.features(covered[None]))[0]
        for one in answer.classes:
            column = bundle.classes.index(one.label)
            assert one.map.shape == (16, 16)
            assert one.map[down, across] == pytest.approx(before[column] - after[column], abs=1e-4)


# --- what the maps are good for --------------------------------------------------------------------------------------


def quadrant_of(values: np.ndarray) -> tuple[int, int]:
    """The quadrant in which a map is largest."""
    down, across = np.unravel_index(values.argmax(), values.shape)
    return int(down) * 2 // values.shape[0], int(across) * 2 // values.shape[1]


@pytest.mark.parametrize(
    ("layers", "head", "method"),
    [
        (("body@avg",), {"clf": "logreg"}, "cam"),
        (("body@grid:2",), {"clf": "svm"}, "cam"),
        (("last@avg", "body@grid:2"), {"clf": "logreg"}, "cam"),
        (("body@avg",), {"clf": "logreg", "normalize": "l2"}, "cam"),
        (("body@max",), {"clf": "logreg"}, "gradcam"),
        (("body@avg",), {"clf": "dense"}, "gradcam"),
        (("body@avg",), {"clf": "logreg"}, "occlusion"),
        (("body@avg",), {"clf": "svm", "kernel": "rbf", "strength": 10.0}, "occlusion"),
    ],
)
def test_the_object_pulls_the_map_to_its_quadrant(
    scenes: Scenes, layers: tuple[str, ...], head: dict[str, Any], method: str
) -> None:
    bundle, paths = scenes.bundle(*layers, **head), scenes.paths(5 if method != "occlusion" else 11)
    right = [one for one in explained(bundle, paths, method) if Path(one.path).parent.name == one.label]
    assert len(right) > 0.8 * len(paths)
    hits = [quadrant_of(one.classes[0].map) == scenes.where[one.path] for one in right]
    assert np.mean(hits) > 0.8  # by chance: 0.25


def with_kernel(bundle: Bundle, folder: Path, kernel: np.ndarray) -> Bundle:
    """A copy of a bundle with another head."""
    shutil.copytree(bundle.path, folder)
    np.savez(folder / "head.npz", kernel=kernel, bias=arrays_of(folder / "head.npz")["bias"])
    seal(folder, bundle.manifest)
    return load_bundle(folder)


def test_random_weights_of_the_head_destroy_the_map(scenes: Scenes, tmp_path: Path) -> None:
    bundle, paths = scenes.bundle("body@avg", clf="logreg"), scenes.paths()
    kernel = arrays_of(bundle.path / "head.npz")["kernel"]
    before = [one.classes[0] for one in explained(bundle, paths)]

    def like(other: Bundle) -> float:
        after = [
            next(one for one in answer.classes if one.label == old.label)
            for answer, old in zip(explained(other, paths, top=3), before, strict=True)
        ]
        return float(np.mean([correlation(a.map, b.map) for a, b in zip(before, after, strict=True)]))

    random = np.random.default_rng(0)
    shuffled = [random.permutation(kernel.ravel()).reshape(kernel.shape) for _ in range(5)]
    found = [like(with_kernel(bundle, tmp_path / str(i), one)) for i, one in enumerate(shuffled)]
    assert like(with_kernel(bundle, tmp_path / "same", kernel)) == pytest.approx(1, abs=1e-5)
    assert abs(np.mean(found)) < 0.4
    assert max(found) < 0.9


def test_of_two_classes_the_maps_are_opposite(scenes: Scenes, tmp_path: Path) -> None:
    for name in ("blue", "red"):
        shutil.copytree(scenes.root / "scenes" / name, tmp_path / "two" / name)
    pipeline = scenes.pipeline(("body@avg",), "two", clf="logreg")
    report = replace(pipeline.report, runs=str(tmp_path / "runs"))
    bundle = publish_head(
        prepare(replace(pipeline, data=replace(pipeline.data, path=str(tmp_path / "two")), report=report))
    )
    paths = [str(tmp_path / "two" / name / "05.png") for name in ("blue", "red")]
    for answer, logits in zip(explained(bundle, paths, top=2), logits_of(bundle, paths), strict=True):
        one, two = answer.classes
        assert one.label == Path(answer.path).parent.name
        np.testing.assert_allclose(one.map, -two.map)
        assert one.score == -two.score == pytest.approx(abs(logits[1] - logits[0]), abs=1e-3)
        assert one.bias is not None
        assert one.map.mean() + one.bias == pytest.approx(one.score, abs=1e-3)


def test_every_label_has_a_map_on_its_own_object(scenes: Scenes, tmp_path: Path) -> None:
    random, names = np.random.default_rng(5), sorted(OBJECTS)
    rows, truth = [["path", "label"]], {}
    for number in range(80):
        count = 1 + number % 2
        where = [QUADRANTS[i] for i in random.permutation(4)[:count]]
        objects = dict(zip(where, random.permutation(names)[:count].tolist(), strict=True))
        path = tmp_path / f"{number:02}.png"
        Image.fromarray(scene(objects, random)).save(path)
        truth[str(path)] = {name: quadrant for quadrant, name in objects.items()}
        rows.append([path.name, "|".join(objects.values())])
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    pipeline = scenes.pipeline(("body@avg",), "several", clf="logreg")
    data = replace(pipeline.data, path=str(tmp_path / "labels.csv"), label_separator="|")
    report = replace(pipeline.report, runs=str(tmp_path / "runs"))
    bundle = publish_head(prepare(replace(pipeline, data=data, report=report)))
    paths, right = sorted(truth), []
    for answer, said in zip(explained(bundle, paths), predict(bundle, paths), strict=True):
        assert isinstance(said, Prediction)
        assert answer.labels == said.labels
        assert tuple(one.label for one in answer.classes) == (answer.labels or (answer.label,))
        objects = truth[answer.path]
        right += [quadrant_of(one.map) == objects[one.label] for one in answer.classes if one.label in objects]
    assert len(right) > 80  # of 120 objects
    assert np.mean(right) > 0.8
    (forced,) = explained(bundle, paths[:1], "gradcam", labels=["red"])  # a sigmoid for each label has a gradient too
    assert [one.label for one in forced.classes] == ["red"]


def test_a_fine_tuned_bundle_is_explained_by_its_own_network(scenes: Scenes) -> None:
    pipeline = scenes.pipeline(("last@avg",), "tuned", clf="logreg")
    pipeline = replace(pipeline, features=replace(pipeline.features, engine="tensorflow"))
    prepared = prepare(pipeline)
    bundle = publish_head(prepared)
    tuned, paths = publish_finetuned(bundle, prepared), scenes.paths(24)
    logits, old = logits_of(tuned, paths), explained(bundle, paths, top=3)
    size = float(np.abs(logits).max())
    for answer, expected, before in zip(explained(tuned, paths, top=3), logits, old, strict=True):
        assert answer.method == "cam"
        for one in answer.classes:
            assert one.bias is not None
            found = one.map.mean() + one.bias
            assert found == pytest.approx(expected[tuned.classes.index(one.label)], abs=1e-3 * size)
        assert not np.allclose(answer.classes[0].map, before.classes[0].map, rtol=1e-3)


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clf", ["logreg", "dense", "knn"])
def test_what_is_said_is_what_the_bundle_predicts(scenes: Scenes, clf: str) -> None:
    bundle, paths = scenes.bundle("body@avg", clf=clf), scenes.paths(12 if clf != "knn" else 30)
    for answer, said in zip(explained(bundle, paths, top=2), predict(bundle, paths, AnswerOptions(top=2)), strict=True):
        assert isinstance(said, Prediction)
        assert (answer.path, answer.label) == (said.path, said.label)
        assert [one.label for one in answer.classes] == [choice.label for choice in said.top]
        found = [one.confidence for one in answer.classes]
        np.testing.assert_allclose(found, [choice.confidence for choice in said.top], atol=2e-3)


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_a_map_does_not_depend_on_its_neighbours(scenes: Scenes, method: str) -> None:
    bundle, paths = scenes.bundle("body@avg", clf="logreg"), scenes.paths(2)
    explainer = Explainer(bundle, method)
    together = list(explainer.explain(paths))
    assert len(together) == len(paths) > 32  # more than a batch
    for row in (0, 17, 35):
        (alone,) = explainer.explain([paths[row]])
        assert isinstance(alone, Explanation)
        assert (alone.path, alone.label) == (together[row].path, together[row].label)  # type: ignore[union-attr]
        np.testing.assert_allclose(alone.classes[0].map, together[row].classes[0].map, rtol=1e-3, atol=1e-3)  # type: ignore[union-attr]


def test_bytes_are_images_and_bad_ones_are_answered_in_their_place(scenes: Scenes) -> None:
    content = Path(scenes.paths()[0]).read_bytes()
    first, bad, last = Explainer(scenes.bundle("body@avg", clf="logreg")).explain([content, b"text", content])
    assert bad == Unread("image 2", "text, not an image")
    assert isinstance(first, Explanation)
    assert isinstance(last, Explanation)
    assert (first.path, last.path) == ("image 1", "image 3")
    np.testing.assert_array_equal(first.classes[0].map, last.classes[0].map)


def test_what_cannot_be_is_refused_with_the_choices(scenes: Scenes) -> None:
    bundle = scenes.bundle("body@avg", clf="logreg")
    with pytest.raises(UsageError, match=r"no class 'gren'. Did you mean 'green'\? It has blue, green, red\."):
        Explainer(bundle, labels=["gren"])
    with pytest.raises(UsageError, match=r"No method 'saliency'\. Choose one of auto, cam, gradcam, occlusion"):
        Explainer(bundle, "saliency")
    with pytest.raises(BundleError, match=r"cam needs a linear head.* has dense on body@avg\. Choose --method auto"):
        _ = Explainer(scenes.bundle("body@avg", clf="dense"), "cam").method
    with pytest.raises(BundleError, match=r"cam needs a linear head.* has logreg on body@max\. Choose"):
        _ = Explainer(scenes.bundle("body@max", clf="logreg"), "cam").method
    with pytest.raises(BundleError, match=r"the head knn has none\. Choose --method auto or occlusion"):
        _ = Explainer(scenes.bundle("body@avg", clf="knn"), "gradcam").method


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(40, 40), (40, 60)])
def test_a_map_lies_where_the_backbone_saw_it(
    tmp_path: Path, resize: str, orientation: int, size: tuple[int, int]
) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(rotated_jpeg(gradient(120, 200), orientation))
    upright = decode(path)
    seen = load_image(path, size, resize)
    box = place(upright.size, size, resize).seen
    for channel in (0, 1):  # what the network sees, taken for a map, has to come to lie on itself
        found = spread(seen[..., channel].astype(np.float32), upright.size, box)
        assert found.shape == (upright.height, upright.width)
        inside = ~np.isnan(found)
        wrong = np.abs(found - np.asarray(upright, np.float32)[..., channel])
        margin = np.zeros_like(inside)
        margin[6:-6, 6:-6] = True  # at the edges the resizer has fewer pixels to mix
        assert np.nanmax(np.where(margin, wrong, np.nan)) < 8
        if resize == "crop":
            across, down = inside.any(axis=0).sum(), inside.any(axis=1).sum()
            assert across / down == pytest.approx(size[1] / size[0], rel=0.02)
            assert (across == upright.width) or (down == upright.height)
        else:
            assert inside.all()


def _network(kind: str) -> Any:
    """A small linear network whose every place sees all of its receptive field alike."""
    import keras

    layers, ones = keras.layers, {"kernel_initializer": "ones", "use_bias": False}
    given = x = keras.Input((24, 32, 1))
    if kind == "first pixels":  # as in ResNet50
        for _ in range(3):
            x = layers.Conv2D(1, 1, 2, padding="valid", **ones)(x)
    elif kind == "padded below":  # as in MobileNetV2
        for _ in range(2):
            x = layers.Conv2D(1, 3, 2, padding="valid", **ones)(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    elif kind == "valid":
        x = layers.AveragePooling2D(2)(layers.Conv2D(1, 5, 1, padding="valid", **ones)(x))
    elif kind == "same":
        x = layers.DepthwiseConv2D(3, 2, padding="same", depthwise_initializer="ones", use_bias=False)(x)
        x = layers.Conv2D(1, 2, 1, padding="same", dilation_rate=2, **ones)(x)
    else:  # two ways to one place, one of them through a network of its own
        inside = keras.Sequential([keras.Input((24, 32, 1)), layers.Conv2D(1, 2, 2, padding="same", **ones)])
        x = layers.Add()(
            [
                inside(x),
                layers.Cropping2D(((1, 0), (1, 0)))(
                    layers.Conv2D(1, 3, 2, padding="same", **ones)(layers.ZeroPadding2D(((2, 0), (2, 0)))(x))
                ),
            ]
        )
    return keras.Model(given, layers.Activation("linear", name="map")(x))


@pytest.mark.parametrize("kind", ["first pixels", "padded below", "valid", "same", "two ways"])
def test_a_place_of_a_map_lies_where_the_middle_of_what_it_sees_is(kind: str) -> None:
    """The middle by what a place gives of every single pixel, which no padding cuts off."""
    network = _network(kind)
    pixels = np.eye(24 * 32, dtype=np.float32).reshape(-1, 24, 32, 1)
    found = np.asarray(network(pixels, training=False))[..., 0]
    row, column = found.shape[1] // 2, found.shape[2] // 2
    seen = np.abs(found[:, row, column]).reshape(24, 32)
    along, across = (np.average(np.arange(n) + 0.5, weights=seen.sum(axis=1 - axis)) for axis, n in ((0, 24), (1, 32)))
    left, top, right, bottom = map_box(network, "map")
    step = (right - left) * 32 / found.shape[2], (bottom - top) * 24 / found.shape[1]
    assert left * 32 + (column + 0.5) * step[0] == pytest.approx(across, abs=0.3 if kind == "two ways" else 1e-4)
    assert top * 24 + (row + 0.5) * step[1] == pytest.approx(along, abs=0.3 if kind == "two ways" else 1e-4)


@pytest.mark.parametrize(
    ("name", "layer", "off"), [("ResNet50", "conv5_block3_out", -0.47), ("MobileNetV2", "out_relu", 0.49)]
)
def test_the_places_of_networks_that_pad_on_one_side(name: str, layer: str, off: float) -> None:
    import keras

    network = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(224, 224, 3))
    box = map_box(network, layer)
    np.testing.assert_allclose(box, np.array([0, 0, 1, 1]) + off / 7, atol=0.02 / 7)


def test_a_map_that_lies_beside_the_image_goes_on_to_its_edges() -> None:
    values = np.array([[1, 2], [3, 4]], np.float32)
    found = spread(values, (8, 8), (-2.0, -2.0, 6.0, 6.0), (0.0, 0.0, 8.0, 7.0))
    assert found[0, 0] == pytest.approx(1.375)  # (0.5, 0.5) is an eighth of the way from (0, 0) to (4, 4), in x and y
    np.testing.assert_array_equal(found[4:7, 4:], 4)
    assert np.isnan(found[7]).all()
    assert not np.isnan(found[:7]).any()


def test_only_what_speaks_for_the_class_has_colour() -> None:
    found = strength(np.array([[-3.0, 0.0], [1.0, 4.0], [np.nan, 2.0]], np.float32))
    np.testing.assert_array_equal(found, np.array([[0, 0], [0.25, 1], [np.nan, 0.5]], np.float32))
    np.testing.assert_array_equal(strength(np.full((2, 2), -1.0, np.float32)), np.zeros((2, 2), np.float32))


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_writes_pictures_arrays_and_a_grid(scenes: Scenes, tmp_path: Path) -> None:
    bundle = scenes.bundle("body@avg", clf="logreg")
    for name, (side, source) in {"a": (64, "red/05.png"), "b": (300, "blue/06.png")}.items():
        (tmp_path / name).mkdir()
        large = Image.open(scenes.root / "scenes" / source).resize((side * 2, side), Image.Resampling.NEAREST)
        large.save(tmp_path / name / "same.png")
    (tmp_path / "b" / "broken.jpg").write_bytes(rotated_jpeg(gradient(), 1)[:-300])
    done = call("explain", "a", "b", "--model", bundle.path, "--out", "maps", "--top", "2", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    found = done.json
    assert (found["method"], found["out"], found["grid"]) == ("cam", "maps", "maps/grid.png")
    assert [(Path(one["path"]).name, "truncated" in one["reason"]) for one in found["bad"]] == [("broken.jpg", True)]
    said = [(Path(one["path"]).relative_to(tmp_path).as_posix(), one["label"]) for one in found["images"]]
    assert said == [("a/same.png", "red"), ("b/same.png", "blue")]
    written = {"maps/grid.png"}
    for image, size in zip(found["images"], [(256, 128), (600, 300)], strict=True):
        assert len(image["classes"]) == 2
        assert image["classes"][0]["label"] == image["label"]
        for one in image["classes"]:
            values = np.load(tmp_path / one["arrays"]["body@avg"])
            assert (values.shape, values.dtype) == ((8, 8), np.float32)
            assert values.mean() + one["bias"] == pytest.approx(one["score"], abs=1e-3)
            assert one["range"] == [values.min(), values.max()]
            with Image.open(tmp_path / one["files"]["overlay"]) as over:
                assert (over.size, over.mode) == (size, "RGB")
            with Image.open(tmp_path / one["files"]["heatmap"]) as alone:
                assert (alone.size, alone.mode) == (size, "RGBA")
            written |= {*one["files"].values(), *one["arrays"].values()}
    assert written == {str(path.relative_to(tmp_path)) for path in (tmp_path / "maps").iterdir()}
    assert len(written) == 13  # nothing was written over, though both are called same.png


def test_the_brightest_colour_is_on_the_object(scenes: Scenes, tmp_path: Path) -> None:
    bundle = scenes.bundle("body@avg", clf="logreg")
    right = []
    for number in range(4):
        path = scenes.root / "scenes" / "red" / f"{number:02}.png"
        done = call(
            "explain", path, "--model", bundle.path, "--out", f"o{number}", "--class", "red", "--json", cwd=tmp_path
        )
        with Image.open(tmp_path / done.json["images"][0]["classes"][0]["files"]["heatmap"]) as heat:
            light = np.asarray(heat.convert("L"), float)
        down, across = np.unravel_index(light.argmax(), light.shape)
        right.append((down * 2 // light.shape[0], across * 2 // light.shape[1]) == QUADRANTS[number])
    assert sum(right) >= 3


def test_for_people_there_is_a_table(scenes: Scenes, tmp_path: Path) -> None:
    bundle = scenes.bundle("body@avg", clf="logreg")
    path = scenes.root / "scenes" / "green" / "00.png"
    done = call("explain", path, "--model", bundle.path, "--out", tmp_path / "maps", cwd=tmp_path)
    assert done.status == 0
    assert "by cam" in done.err
    assert str(tmp_path / "maps" / "00-green-overlay.png") in done.out
    assert "grid.png" in done.out


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--class", "purple"], 2, "no class 'purple'. It has blue, green, red."),
        (["--class", "red", "--top", "2"], 2, "--class and --top exclude each other"),
        (["--method", "gradcam"], 0, ""),
        (["--top", "99"], 0, ""),
    ],
)
def test_options_are_checked(scenes: Scenes, tmp_path: Path, arguments: list[str], status: int, sentence: str) -> None:
    bundle, path = scenes.bundle("body@avg", clf="logreg"), scenes.paths()[0]
    done = call("explain", path, "--model", bundle.path, "--out", "maps", *arguments, "--json", cwd=tmp_path)
    assert done.status == status
    assert sentence in done.err
    assert (tmp_path / "maps").exists() == (status == 0)
    if arguments == ["--top", "99"]:
        assert [one["label"] for one in done.json["images"][0]["classes"]] != []
        assert len(done.json["images"][0]["classes"]) == 3


def test_it_fails_when_no_image_can_be_read(scenes: Scenes, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    bundle = scenes.bundle("body@avg", clf="logreg")
    done = call("explain", "text.jpg", "--model", bundle.path, "--out", "maps", "--json", cwd=tmp_path)
    assert done.status == 1
    assert "None of the images could be read." in done.err
    found = json.loads(done.out)
    assert (found["images"], found["grid"]) == ([], None)
    assert [one["reason"] for one in found["bad"]] == ["text, not an image"]
