"""Networks of keras.applications and featx', each built once: its blocks, its row of the table, its clean cuts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from test_cuts import check_halves, noise

from featx.backbones import (
    BACKBONES,
    Block,
    clean_cuts,
    find_blocks,
    has_kernel,
    nearest_clean_cuts,
    resolve,
    split_network,
)
from featx.backbones.build import build
from featx.backbones.spec import BackboneSpec
from featx.config import FeaturesOptions

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


@pytest.mark.parametrize("built", marked(["InceptionV3"]), indirect=True)
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


@pytest.mark.parametrize("built", marked(TOPS), indirect=True)
def test_tops_of_the_table_are_what_the_whole_network_has_more(built: Built) -> None:
    names = set(built.names)
    whole = [layer.name for layer in build(built.spec, top=True).layers]
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
    config, before = network.get_config(), network.get_weights()
    images = noise(built.side)
    given = network(images)
    for name in {found[len(found) // 3], found[-2]}:
        check_halves(network, split_network(network, name), images, given)
    assert network.get_config() == config
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in set(layers) - set(found):
        near = nearest_clean_cuts(network, name, found)
        places = [layers.index(one) for one in near]
        assert set(near) <= set(found)
        assert 1 <= len(near) <= 2
        assert places[0] < layers.index(name) < places[1] if len(near) == 2 else name != near[0]
