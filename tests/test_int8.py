"""`--precision int8`: calibrated once, like float32, compared with it before use, and carried by bundles."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import extract, list_stores
from fitted import COLOURS, write_backbone, write_pictures
from graphs import save_transformer

from featx.config import DataOptions, FeaturesOptions
from featx.dataset import VAL, ImageSet, read_images
from featx.errors import DataError, EngineError
from featx.extraction import quantising
from featx.extraction.extraction import Extraction

pytestmark = pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="nncf is not installed")
LAYERS = ("body@grid:2", "last@avg")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, sixty pictures, and their features in float32 and int8."""
    root = tmp_path_factory.mktemp("int8")
    write_backbone(root / "net.keras")
    write_pictures(root / "pictures")
    for precision in ("float32", "int8"):
        extract(pictures(root), options(root, precision))
    return root


@pytest.fixture
def lab_copy(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root, tmp_path / "lab")
    return tmp_path / "lab"


def pictures(root: Path) -> ImageSet:
    return read_images(str(root / "pictures"), DataOptions())


def options(root: Path, precision: Any = "int8", **more: Any) -> FeaturesOptions:
    made = {"backbone": str(root / "net.keras"), "layer": LAYERS, "storage": "float32", "cache": str(root / "cache")}
    return FeaturesOptions(**{**made, "precision": precision, **more})


def values(done: Extraction, name: str) -> np.ndarray:
    (output,) = [one for one in done.outputs if one.name == name]
    return np.concatenate([*done.features(output, np.arange(len(done.images))).blocks()])


def run_graph(folder: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a graph folder, by OpenVINO alone."""
    import openvino

    compiled = openvino.Core().compile_model(folder / "graph.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = json.loads((folder / "graph.json").read_text())["outputs"]
    found = compiled(images)
    return {name: found[compiled.output(tensor)] for name, tensor in outputs.items()}


def graph_of(root: Path, precision: str) -> Path:
    (store,) = [one for one in list_stores(root / "cache") if one.key.precision.startswith(precision)]
    (folder,) = [path for path in (store.directory / "graph").iterdir() if path.is_dir()]
    return folder


def operations(folder: Path) -> list[str]:
    import openvino

    return [one.get_type_name() for one in openvino.Core().read_model(folder / "graph.xml").get_ops()]


def calibrated(cache: Path) -> dict[str, list[list[str]]]:
    (path,) = (cache / "calibration").glob("*.json")
    return {name: json.loads(path.read_text())[name] for name in ("measured", "held")}


def test_features_are_those_of_float32_but_for_rounding(root: Path) -> None:
    done, exact = (extract(pictures(root), options(root, precision)) for precision in ("int8", "float32"))
    assert done.computed == 0  # all of them in the fixture
    assert done.store.key.precision == "int8/openvino"
    from PIL import Image

    images = np.stack([np.asarray(Image.open(path).resize((32, 32), 2)) for path in done.images.paths[:8]])
    alone = run_graph(graph_of(root, "float32"), images)
    for name in LAYERS:
        a, b = values(done, name).reshape(60, -1), values(exact, name).reshape(60, -1)
        assert np.abs(a - b).max() > 0
        assert np.abs(a - b).max() < 0.1 * np.abs(b).max()
        error = np.linalg.norm(a[:8] - alone[name].reshape(8, -1)) / np.linalg.norm(alone[name])
        assert error < 0.03  # float32 by OpenVINO, of pixels by Pillow
    assert "FakeQuantize" in operations(graph_of(root, "int8"))
    assert "FakeQuantize" not in operations(graph_of(root, "float32"))


def test_what_it_costs_is_measured_on_images_that_were_held_back(root: Path) -> None:
    chosen = calibrated(root / "cache")
    digests = [[one[0] for one in chosen[name]] for name in ("held", "measured")]
    assert [len(some) for some in digests] == [15, 45]
    assert [*digests[0], *digests[1]] == sorted({*digests[0], *digests[1]})
    cost = json.loads((graph_of(root, "int8") / "graph.json").read_text())["int8"]
    done, exact = (extract(pictures(root), options(root, precision)) for precision in ("int8", "float32"))
    place = {digest.hex(): row for row, digest in enumerate(done.digests.tolist())}
    rows = [place[one] for one in digests[0]]
    a, b = (values(one, cost["output"])[rows].reshape(15, -1).astype(np.float64) for one in (done, exact))
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cost["cosine"] == pytest.approx(np.median(cosines), abs=1e-6)
    assert cost["worst"] == pytest.approx(cosines.min(), abs=1e-6)
    assert cost["images"] == 15
    assert cost["calibrated"] == 45
    assert cost["left"] == []


def test_data_that_grow_keep_the_key_and_the_rows(lab_copy: Path) -> None:
    before = extract(pictures(lab_copy), options(lab_copy)).store.key
    write_pictures(lab_copy / "pictures", 7, seed=5)
    done = extract(pictures(lab_copy), options(lab_copy))
    assert (done.computed, done.reused) == (21, 60)
    assert done.store.key == before
    assert len(calibrated(lab_copy / "cache")["measured"]) == 45


@pytest.mark.slow
def test_other_outputs_are_another_network_with_the_same_images(lab_copy: Path) -> None:
    both = extract(pictures(lab_copy), options(lab_copy)).store.key
    turned = extract(pictures(lab_copy), options(lab_copy, layer=LAYERS[::-1]))
    assert (turned.store.key, turned.computed) == (both, 0)
    one = extract(pictures(lab_copy), options(lab_copy, layer=("last",)))
    assert one.store.key.calibration not in {"", both.calibration}
    assert one.computed == 60
    assert len(list((lab_copy / "cache" / "calibration").iterdir())) == 1


@pytest.mark.slow
def test_a_graph_that_is_lost_is_made_of_the_same_images(lab_copy: Path) -> None:
    done = extract(pictures(lab_copy), options(lab_copy))
    before = values(done, "last@avg")
    shutil.rmtree(graph_of(lab_copy, "int8"))
    write_pictures(lab_copy / "pictures", 1, seed=5)
    more = extract(read_images(str(lab_copy / "pictures"), DataOptions()), options(lab_copy))
    assert more.computed == 3
    place = [more.images.paths.index(path) for path in done.images.paths]
    assert np.array_equal(values(more, "last@avg")[place], before)
    images = np.zeros((1, 32, 32, 3), np.uint8)
    assert run_graph(graph_of(lab_copy, "int8"), images).keys() == set(LAYERS)


def test_a_calibration_image_that_is_gone_is_named(lab_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(graph_of(lab_copy, "int8"))
    (path,) = (lab_copy / "cache" / "calibration").iterdir()
    path.write_text(path.read_text().replace(".png", ".gif"))  # as if they had been moved away
    write_pictures(tmp_path / "others", 1, seed=6)
    others = read_images(str(tmp_path / "others"), DataOptions())
    with pytest.raises(DataError, match=r"calibrated on .*\.gif, which is gone\. Put it back"):
        extract(others, options(lab_copy))


def test_images_declared_as_val_or_test_are_left_out(tmp_path: Path, root: Path) -> None:
    for seed, part in enumerate(("train", "val", "test")):
        write_pictures(tmp_path / "pictures" / part, 10, seed=10 + seed)
    images = pictures(tmp_path)
    done = extract(images, options(root, cache=str(tmp_path / "cache")))
    chosen = calibrated(tmp_path / "cache")
    paths = {Path(path) for some in chosen.values() for _, path in some}
    assert len(paths) == 30
    assert {path.parts[-3] for path in paths} == {"train"}
    assert images.declared is not None
    assert (images.declared == VAL).any()
    assert done.computed == 90


def test_few_images_are_refused(tmp_path: Path, root: Path) -> None:
    write_pictures(tmp_path / "pictures", 5)
    with pytest.raises(DataError, match=r"20 or more, and .* has 15 that can be read"):
        extract(pictures(tmp_path), options(root, cache=str(tmp_path / "cache")))


def test_damaged_rows_are_computed_again(lab_copy: Path, featx: Callable[..., Any]) -> None:
    before = values(extract(pictures(lab_copy), options(lab_copy)), "last@avg")
    (store,) = [one for one in list_stores(lab_copy / "cache") if one.key.calibration]
    (part,) = (store.directory / "last@avg").glob("*.h5")
    content = bytearray(part.read_bytes())
    place = content.find(before[3].tobytes())
    assert place > 0
    content[place] ^= 0x40
    part.chmod(0o644)
    part.write_bytes(content)
    featx("cache", "verify", "--repair", "--cache", lab_copy / "cache", status=None)
    done = extract(pictures(lab_copy), options(lab_copy))
    assert np.array_equal(values(done, "last@avg"), before)


@pytest.fixture(scope="module")
def fitted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed bundle of one of two layers, whose calibration images are of the train part."""
    from fitted import call

    folder = tmp_path_factory.mktemp("bundle")
    shared = ("--backbone", root / "net.keras", "--precision", "int8", "--cache", folder / "cache", "--name", "lab")
    layers = [word for layer in LAYERS for word in ("--layer", layer)]
    done = call("fit-head", root / "pictures", *map(str, (*shared, *layers)), "--no-html", "--runs", "runs", cwd=folder)
    assert done.status == 0, done.err
    (bundle,) = (folder / "runs" / "lab").glob("1-*")
    packed = call("bundle", "pack", str(bundle), "--out", str(folder / "model.featx"), cwd=folder)
    assert packed.status == 0, packed.err
    return folder


def test_calibration_images_are_of_the_train_part(fitted: Path) -> None:
    from featx.bundle.bundle import load_bundle

    parts = load_bundle(fitted / "model.featx").split()
    chosen = calibrated(fitted / "cache")
    assert {parts[bytes.fromhex(digest)] for some in chosen.values() for digest, _ in some} == {0}
    assert sum(map(len, chosen.values())) == sum(code == 0 for code in parts.values())


def test_a_packed_bundle_predicts_from_the_quantised_graph_without_nncf(
    fitted: Path, root: Path, monkeypatch: pytest.MonkeyPatch, featx: Callable[..., Any]
) -> None:
    from featx.bundle.bundle import load_bundle

    monkeypatch.setitem(sys.modules, "nncf", None)
    bundle = load_bundle(fitted / "model.featx")
    assert "FakeQuantize" in operations(bundle.path / "graph")
    assert bundle.engine.precision == "int8"
    assert len(bundle.outputs) == 1  # the graph is a part of the one that gave the features
    (store,) = list_stores(fitted / "cache")
    table = store.table(bundle.outputs[0].layer, bundle.outputs[0].pooling)
    images = read_images(str(root / "pictures"), DataOptions())
    from featx.dataset import digest_images
    from featx.images.decoder import load_image
    from featx.store.cache import Cache

    with Cache(fitted / "cache") as cache:
        digests = digest_images(images.paths[:5], cache.index).digest
    pixels = np.stack([load_image(path, (32, 32), "stretch") for path in images.paths[:5]])
    stored = table.read(digests).asarray().reshape(5, -1)
    assert np.allclose(bundle.features(pixels), stored, rtol=1e-3, atol=1e-3 * np.abs(stored).max())
    done = featx("predict", root / "pictures" / "red", "--model", fitted / "model.featx", "--json").json
    assert {one["label"] for one in done["predictions"]} <= set(COLOURS)


def test_export_to_openvino_carries_the_quantised_network(fitted: Path, featx: Callable[..., Any]) -> None:
    done = featx("export", fitted / "model.featx", "--format", "openvino", "--out", fitted / "out", "--json").json
    assert done["exports"][0]["comparison"]["largest"] < 0.05
    (model,) = (fitted / "out").rglob("*.xml")
    import openvino

    kinds = [one.get_type_name() for one in openvino.Core().read_model(model).get_ops()]
    assert "FakeQuantize" in kinds


def test_without_nncf_one_sentence_names_what_to_install(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(EngineError, match=r"is not installed here\. Type: pip install 'featx\[int8\]'"):
        extract(pictures(root), options(root, cache=str(tmp_path / "cache")))
    assert extract(pictures(root), options(root)).reused == 60  # what is there is read


def test_tensorflow_is_refused(root: Path) -> None:
    with pytest.raises(EngineError, match=r"TensorFlow does not compute in int8\. Type --engine openvino"):
        extract(pictures(root), options(root, engine="tensorflow"))


@pytest.mark.slow
def test_a_transformer_of_a_graph_file(root: Path, tmp_path: Path) -> None:
    save_transformer(tmp_path / "vit.onnx", blocks=1)
    more = {"backbone": str(tmp_path / "vit.onnx"), "layer": (), "preprocessing": "half"}
    done, exact = (
        extract(pictures(root), options(root, precision, cache=str(tmp_path / "cache"), **more))
        for precision in ("int8", "float32")
    )
    (output,) = done.outputs
    a, b = (values(one, output.name) for one in (done, exact))
    assert a.shape[0] == 60
    assert 0 < np.linalg.norm(a - b) / np.linalg.norm(b) < 0.1
    assert "FakeQuantize" in operations(next(path for path in (done.store.directory / "graph").iterdir()))


def save_uneven(path: Path, *, depthwise: bool) -> Path:
    """A network whose first map has a channel ten million times as large as the others, which the next layer ignores.

    So what is measured of that map rounds all others to zero, and with them what the features are made of.
    """
    import keras
    from keras import layers

    random = np.random.default_rng(0)
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, 2, "same", activation="relu", name="first")(inputs)
    size = np.array([1e7, *[1.0] * 7])
    if depthwise:
        x = layers.DepthwiseConv2D(3, 1, "same", activation="relu", name="second")(x)
        x = layers.Conv2D(8, 3, 2, "same", activation="relu", name="third")(x)
    else:
        x = layers.Conv2D(8, 3, 2, "same", activation="relu", name="second")(x)
    model = keras.Model(inputs, x)
    kernel, bias = model.get_layer("first").get_weights()
    model.get_layer("first").set_weights([np.abs(random.normal(0, 0.01, kernel.shape)) * size, bias])
    layer = model.get_layer("second")
    kernel, bias = layer.get_weights()
    kernel = np.abs(random.normal(0, 1, kernel.shape))
    layer.set_weights([kernel / size[:, None] if depthwise else kernel * (size < 2)[:, None], bias])
    if depthwise:
        kernel, bias = model.get_layer("third").get_weights()
        model.get_layer("third").set_weights([np.abs(kernel), bias])
    model.save(path)
    return path


def test_a_network_that_int8_ruins_is_refused(root: Path, tmp_path: Path) -> None:
    more = {"backbone": str(save_uneven(tmp_path / "net.keras", depthwise=False)), "layer": ()}
    with pytest.raises(EngineError, match=r"int8 ruins the features of .* left in float32: their cosine .*bfloat16"):
        extract(pictures(root), options(root, cache=str(tmp_path / "cache"), **more))
    assert not list((tmp_path / "cache").glob("*/*@*"))


def test_layers_that_lose_most_are_left_in_float32_first(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(quantising._logger, "warning", lambda text, *more: lines.append(text % more))
    more = {"backbone": str(save_uneven(tmp_path / "net.keras", depthwise=True)), "layer": ()}
    done = extract(pictures(root), options(root, cache=str(tmp_path / "cache"), **more))
    assert done.computed == 60
    (line,) = lines
    assert line.startswith("int8, third@avg: cosine to float32 0.9")
    assert line.endswith("Measured on 15 held images; calibrated on 45, ReduceMean, GroupConvolution left in float32.")
