"""Networks of keras.applications and featx', each built once: its blocks, its row of the table, its clean cuts."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab
from test_backbones import assert_close, features, reference
from test_cuts import check_halves, noise
from test_grafting import check_first_step, fitted, pictures

from featx.backbones import (
    BACKBONES,
    Block,
    Output,
    clean_cuts,
    find_blocks,
    has_kernel,
    nearest_clean_cuts,
    open_network,
    resolve,
    split_network,
    weights,
)
from featx.backbones.build import build, construct
from featx.backbones.keras_network import cut_model
from featx.backbones.spec import BackboneSpec
from featx.config import FeaturesOptions, HeadOptions
from featx.errors import BackboneError

# backbone: side, the blocks from the bottom up, (a block: its first layer)
QUICK: dict[str, tuple[int, list[str], dict[str, str]]] = {
    "VGG16": (32, ["block1", "block2", "block3", "block4", "block5"], {"block5": "block5_conv1"}),
    "EfficientNetLite0": (
        32,
        ["stem", "block1", "block2", "block3", "block4", "block5", "block6", "block7", "top"],
        {"block3": "block3a_expand_conv", "top": "top_conv"},
    ),
    "MobileNet": (
        32,
        ["conv1", *(f"conv_{i}" for i in range(1, 14))],
        {"conv_13": "conv_dw_13", "conv_12": "conv_pad_12"},
    ),
}
SLOW: dict[str, tuple[int, list[str], dict[str, str]]] = {
    "MobileNetV2": (
        32,
        ["Conv1", "expanded_conv", *(f"block_{i}" for i in range(1, 17)), "Conv_1"],
        {"block_16": "block_16_expand"},
    ),
    "MobileNetV3Small": (
        32,
        ["conv", "expanded_conv", *(f"expanded_conv_{i}" for i in range(1, 11)), "conv_1"],
        {"expanded_conv_10": "expanded_conv_10_expand"},
    ),
    "ResNet50": (32, ["conv1", "conv2", "conv3", "conv4", "conv5"], {"conv2": "conv2_block1_1_conv"}),
    "ResNet50V2": (32, ["conv1", "conv2", "conv3", "conv4", "conv5"], {"conv5": "conv5_block1_preact_bn"}),
    "DenseNet121": (32, ["conv1", "conv2", "conv3", "conv4", "conv5"], {"conv5": "conv5_block1_0_bn"}),
    "Xception": (71, [f"block{i}" for i in range(1, 15)], {"block14": "block14_sepconv1"}),
    "ConvNeXtTiny": (32, ["stem", "stage_0", "stage_1", "stage_2", "stage_3"], {}),
    "EfficientNetB0": (32, ["stem", *(f"block{i}" for i in range(1, 8)), "top"], {"block7": "block7a_expand_conv"}),
    "EfficientNetV2B0": (32, ["stem", *(f"block{i}" for i in range(1, 7)), "top"], {}),
    "InceptionV3": (75, [f"mixed{i}" for i in range(11)], {}),
    "InceptionResNetV2": (
        75,
        ["mixed_5b", "block35", "mixed_6a", "block17", "mixed_7a", "block8", "conv_7b"],
        {"conv_7b": "conv_7b"},
    ),
    "NASNetMobile": (
        32,
        [
            "stem", "stem_1", "stem_2", *(f"cell_{i}" for i in range(4)), "reduce_4",
            *(f"cell_{i}" for i in range(5, 9)), "reduce_8", *(f"cell_{i}" for i in range(9, 13)),
        ],
        {},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A network of the table and what is to be found of it."""

    name: str
    spec: BackboneSpec
    network: Any
    side: int
    blocks: list[str]
    firsts: dict[str, str]

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.network.layers]

    def find_blocks(self) -> list[Block]:
        return find_blocks(self.names, [has_kernel(layer) for layer in self.network.layers])


def marked(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


def only(*names: str) -> pytest.MarkDecorator:
    """Of these networks alone."""
    return pytest.mark.parametrize("built", marked(names), indirect=True)


@pytest.fixture(scope="module", params=marked([*QUICK, *SLOW]))
def built(request: pytest.FixtureRequest) -> Built:
    """Each of the networks for all tests; pytest runs those of one network in a row."""
    side, *found = {**QUICK, **SLOW}[request.param]
    weights = "auto" if request.param == "EfficientNetLite0" else "random"
    spec = resolve(FeaturesOptions(backbone=request.param, weights=weights, input_size=side))
    return Built(request.param, spec, build(spec), side, *found)


def test_blocks_are_found_by_the_names_of_layers(built: Built) -> None:
    names, blocks = built.names, built.find_blocks()
    assert [block.name for block in blocks] == built.blocks
    assert blocks[0].start == 0
    for block in blocks:
        if block.name in built.firsts:
            assert names[block.start] == built.firsts[block.name]


@only("InceptionV3")
def test_a_block_of_inception_is_what_lies_between_two_concatenations(built: Built) -> None:
    names, blocks = built.names, built.find_blocks()
    below = {"mixed8", *names[: names.index("mixed8")]}
    start = next(block.start for block in blocks if block.name == "mixed9")
    assert set(names[:start]) == below
    # an independent look at the graph: of the layers that mixed9 needs, those that mixed8 does not
    needed = ancestors(built.network, "mixed9") - ancestors(built.network, "mixed8")
    assert set(names[start : names.index("mixed9") + 1]) == needed


def ancestors(network: Any, name: str) -> set[str]:
    import keras

    return {layer.name for layer in keras.Model(network.inputs, network.get_layer(name).output).layers}


def test_rows_of_the_table_are_what_the_network_is(built: Built) -> None:
    entry = BACKBONES[built.name]
    assert built.names[-1] == entry.layer
    assert built.network.output.shape[-1] == entry.features


TOPS = (
    *("EfficientNetLite0", "MobileNetV3Small", "MobileNet", "ConvNeXtTiny"),
    *("InceptionV3", "EfficientNetB0", "NASNetMobile", "VGG16"),
)


@only(*TOPS)
def test_tops_of_the_table_are_what_the_whole_network_has_more(built: Built) -> None:
    names = set(built.names)
    spec = replace(built.spec, weights="imagenet")  # random ones are drawn twice for an EfficientNet
    whole = [layer.name for layer in construct(spec, top=True).layers]
    assert tuple(name for name in whole if name not in names) == BACKBONES[built.name].top


def leads_around(network: Any, layer: str) -> bool:
    """Whether an output can be traced back to an input without the layer; Keras' own record of calls is the graph."""
    inputs = {id(tensor) for tensor in network.inputs}
    waiting, seen = list(network.outputs), set()
    while waiting:
        tensor = waiting.pop()
        operation, number, _ = tensor._keras_history
        if operation.name == layer or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if id(tensor) in inputs:
            return True
        waiting += operation._inbound_nodes[number].input_tensors
    return False


def test_a_layer_is_a_clean_cut_exactly_when_nothing_leads_around_it(built: Built) -> None:
    import keras

    network = built.network
    layers = [one.name for one in network.layers if not isinstance(one, keras.layers.InputLayer)]
    expected = [name for name in layers if not leads_around(network, name)]
    found = clean_cuts(network)
    assert found == expected
    assert 0 < len(found) <= len(layers)
    config, before = network.get_config(), [keras.ops.copy(one) for one in network.weights]
    images = noise(built.side, count=1)
    given = network(images)
    for name, cuts in ((found[len(found) // 3], None), (found[-2], found)):
        check_halves(network, split_network(network, name, cuts), images, given)
    assert network.get_config() == config
    for one, other in zip(before, network.weights, strict=True):
        assert keras.ops.all(keras.ops.equal(one, other)), other.path
    for name in set(layers) - set(found):
        near = nearest_clean_cuts(network, name, found)
        places = [layers.index(one) for one in near]
        assert set(near) <= set(found)
        assert 1 <= len(near) <= 2
        assert places[0] < layers.index(name) < places[1] if len(near) == 2 else name != near[0]


@only("MobileNetV2")
def test_a_cut_inside_a_branch_is_not_clean_and_names_its_neighbours(built: Built) -> None:
    assert nearest_clean_cuts(built.network, "block_4_add") == ["block_4_add"]
    assert nearest_clean_cuts(built.network, "block_4_depthwise") == ["block_3_project_BN", "block_4_add"]
    clean = set(clean_cuts(built.network))
    assert {"Conv1", "block_1_depthwise", "out_relu"} <= clean
    assert "block_2_expand" not in clean


@only("MobileNetV2")
def test_nothing_behind_the_deepest_layer_is_in_the_cut(built: Built) -> None:
    outputs = [Output("block_2_add", "avg"), Output("block_5_add", "avg")]
    names = [layer.name for layer in cut_model(built.network, built.spec, outputs).layers]
    assert "block_5_add" in names
    assert not [name for name in names if re.match(r"block_([6-9]|1\d)_|Conv_1|out_relu", name)]


@only("VGG16")
def test_a_pooling_that_a_layer_does_not_have_is_refused(built: Built) -> None:
    with pytest.raises(BackboneError, match=r"2 x 2, too small for a grid of 4 x 4.*grid:2"):
        cut_model(built.network, built.spec, [Output("block4_pool", "grid:4")])
    with pytest.raises(BackboneError, match="a grid needs a map"):
        open_network(built.spec).cut([Output("fc1", "grid:2")])  # a layer of the top


@only("Xception")
def test_two_networks_in_one_process_have_the_same_names_and_features(built: Built) -> None:
    layers = "block4_sepconv2@avg", "conv2d_1@avg", "batch_normalization_3@avg", "add_11@avg"
    pixels = noise(built.side)
    first = features(built.spec, pixels, *layers, network=built.network)
    second = features(built.spec, pixels, *layers)
    assert list(first) == list(layers)
    assert all(np.array_equal(first[key], second[key]) for key in layers)


RELOADED = {
    "VGG16": "block3_pool",
    "EfficientNetLite0": "block3b_add",
    "ConvNeXtTiny": "convnext_tiny_stage_1_block_2_identity",
}


@only(*RELOADED)
def test_a_cut_is_reloaded_by_plain_keras(built: Built, tmp_path: Path) -> None:
    import keras

    outputs = [Output(RELOADED[built.name], p) for p in ("avg", "max", "grid:4", "flatten", "none")]
    model = cut_model(built.network, built.spec, outputs)
    pixels = noise(built.side)
    expected = {key: np.asarray(value) for key, value in model(pixels).items()}
    model.save(tmp_path / "cut.keras")
    again = keras.models.load_model(tmp_path / "cut.keras")  # safe mode, no custom objects
    assert not [one for one in again.layers if isinstance(one, keras.Model) and built.name != "ConvNeXtTiny"]
    found = again(pixels)
    assert sorted(found) == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(np.asarray(found[key]), value, rtol=1e-6, atol=1e-6)


# a layer or two of each, its poolings and the head on them
GRAFTED: dict[str, tuple[tuple[str, ...], Any]] = {
    "ResNet50V2": (("conv3_block1_out@avg",), "svm"),
    "DenseNet121": (("pool2_conv@grid:2",), "ridge"),
    "EfficientNetV2B0": (("block2b_add@avg", "block3a_expand_activation@max"), "logreg"),
    "InceptionV3": (("mixed0@avg",), "dense"),
    "Xception": (("block3_sepconv2_bn@max",), "svm"),
    "ConvNeXtTiny": (("convnext_tiny_stage_1_block_0_identity@avg",), "logreg"),
}


@only(*GRAFTED)
def test_a_grafted_network_gives_the_logits_of_the_bundle(built: Built, lab: Lab, tmp_path: Path) -> None:
    """Of a file of what is below the layers: the same layers with the same preprocessing, and no second building."""
    import keras

    layers, clf = GRAFTED[built.name]
    deepest = built.network.get_layer(layers[-1].partition("@")[0])
    keras.Model(built.network.inputs[0], deepest.output).save(tmp_path / "part.keras")
    options = FeaturesOptions(
        backbone=str(tmp_path / "part.keras"),
        layer=layers,
        preprocessing=built.spec.preprocessing,
        cache=str(tmp_path / "cache"),
        engine="tensorflow",
    )
    head = HeadOptions(clf=clf, strength=None if clf == "dense" else 0.01, hidden="8", epochs=2, combine="all")
    check_first_step(fitted(lab, tmp_path, options, head), pictures(lab, built.side), training=False)


FAMILIES = {
    "ResNet50": "conv3_block4_out",
    "DenseNet121": "pool3_conv",
    "MobileNetV2": "block_6_expand_relu",
    "VGG16": "block3_pool",
    "Xception": "block4_sepconv2",
    "MobileNetV3Small": "expanded_conv_4_add",
}


@only(*FAMILIES)
def test_features_equal_an_independent_predict(built: Built, tmp_path: Path) -> None:
    """The last test of each of them: it gives the network other weights."""
    import keras

    name, layer = built.name, FAMILIES[built.name]
    network = reference(name, built.side)
    path = tmp_path / f"{name}.weights.h5"
    network.save_weights(path)
    module = importlib.import_module(f"keras.applications.{BACKBONES[name].family}")
    pixels = noise(built.side)
    part = keras.Model(network.input, network.get_layer(layer).output)
    expected = np.asarray(part(module.preprocess_input(pixels.copy()), training=False))

    spec = resolve(FeaturesOptions(backbone=name, weights=str(path), input_size=built.side))
    weights.assign(built.network, spec, top=False)
    asked = [f"{layer}@{pooling}" for pooling in ("none", "avg", "max")]
    found = features(spec, pixels, *asked, network=built.network)
    assert_close(found[f"{layer}@none"], expected)
    assert_close(found[f"{layer}@avg"], expected.mean((1, 2)))
    assert_close(found[f"{layer}@max"], expected.max((1, 2)))
