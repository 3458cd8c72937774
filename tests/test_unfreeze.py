"""What trains: blocks by name, gradual unfreezing, the rate of every depth, decay of weights."""

from __future__ import annotations

from typing import Any

import pytest

from featx.backbones import Block, block_index, find_blocks, has_kernel, resolve
from featx.backbones.build import construct
from featx.config import FeaturesOptions
from featx.finetune.unfreezing import epochs_until_all, first_in_epoch, first_trained, rate_share

# --- blocks ------------------------------------------------------------------------------------------------------

BLOCKS = [
    # backbone, side, the blocks from the bottom up, (a block: its first layer)
    ("VGG16", 32, ["block1", "block2", "block3", "block4", "block5"], {"block5": "block5_conv1"}),
    (
        "EfficientNetLite0",
        32,
        ["stem", "block1", "block2", "block3", "block4", "block5", "block6", "block7", "top"],
        {"block3": "block3a_expand_conv", "top": "top_conv"},
    ),
    (
        "MobileNet",
        32,
        ["conv1", *(f"conv_{i}" for i in range(1, 14))],
        {"conv_13": "conv_dw_13", "conv_12": "conv_pad_12"},
    ),
]
SLOW_BLOCKS = [
    (
        "MobileNetV2",
        32,
        ["Conv1", "expanded_conv", *(f"block_{i}" for i in range(1, 17)), "Conv_1"],
        {"block_16": "block_16_expand"},
    ),
    (
        "MobileNetV3Small",
        32,
        ["conv", "expanded_conv", *(f"expanded_conv_{i}" for i in range(1, 11)), "conv_1"],
        {"expanded_conv_10": "expanded_conv_10_expand"},
    ),
    ("ResNet50", 32, ["conv1", "conv2", "conv3", "conv4", "conv5"], {"conv2": "conv2_block1_1_conv"}),
    ("DenseNet121", 32, ["conv1", "conv2", "conv3", "conv4", "conv5"], {"conv5": "conv5_block1_0_bn"}),
    ("Xception", 71, [f"block{i}" for i in range(1, 15)], {"block14": "block14_sepconv1"}),
    ("ConvNeXtTiny", 32, ["stem", "stage_0", "stage_1", "stage_2", "stage_3"], {}),
    ("EfficientNetB0", 32, ["stem", *(f"block{i}" for i in range(1, 8)), "top"], {"block7": "block7a_expand_conv"}),
    ("EfficientNetV2B0", 32, ["stem", *(f"block{i}" for i in range(1, 7)), "top"], {}),
    ("ResNet50V2", 32, ["conv1", "conv2", "conv3", "conv4", "conv5"], {"conv5": "conv5_block1_preact_bn"}),
    (
        "InceptionResNetV2",
        75,
        ["mixed_5b", "block35", "mixed_6a", "block17", "mixed_7a", "block8", "conv_7b"],
        {"conv_7b": "conv_7b"},
    ),
    (
        "NASNetMobile",
        32,
        [
            "stem", "stem_1", "stem_2", *(f"cell_{i}" for i in range(4)), "reduce_4",
            *(f"cell_{i}" for i in range(5, 9)), "reduce_8", *(f"cell_{i}" for i in range(9, 13)),
        ],
        {},
    ),
]  # fmt: skip


def one_name(value: object) -> str:
    return value if isinstance(value, str) else ""


def network_of(backbone: str, side: int) -> Any:
    return construct(resolve(FeaturesOptions(backbone=backbone, input_size=side, weights="random")))


def blocks_of(network: Any) -> tuple[list[str], list[Block]]:
    names = [layer.name for layer in network.layers]
    return names, find_blocks(names, [has_kernel(layer) for layer in network.layers])


def check_blocks(backbone: str, side: int, expected: list[str], firsts: dict[str, str]) -> None:
    names, blocks = blocks_of(network_of(backbone, side))
    assert [block.name for block in blocks] == expected
    assert blocks[0].start == 0
    for block in blocks:
        if block.name in firsts:
            assert names[block.start] == firsts[block.name]


@pytest.mark.parametrize(
    ("backbone", "side", "expected", "firsts"), BLOCKS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_blocks_are_found_by_the_names_of_layers(
    backbone: str, side: int, expected: list[str], firsts: dict[str, str]
) -> None:
    check_blocks(backbone, side, expected, firsts)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "side", "expected", "firsts"), SLOW_BLOCKS, ids=one_name)
def test_blocks_of_large_networks_are_found_too(
    backbone: str, side: int, expected: list[str], firsts: dict[str, str]
) -> None:
    check_blocks(backbone, side, expected, firsts)


@pytest.mark.slow
def test_a_block_of_inception_is_what_lies_between_two_concatenations() -> None:
    network = network_of("InceptionV3", 75)
    names, blocks = blocks_of(network)
    assert [block.name for block in blocks] == [f"mixed{i}" for i in range(11)]
    below = {"mixed8", *names[: names.index("mixed8")]}
    start = next(block.start for block in blocks if block.name == "mixed9")
    assert set(names[:start]) == below
    # an independent look at the graph: of the layers that mixed9 needs, those that mixed8 does not
    needed = ancestors(network, "mixed9") - ancestors(network, "mixed8")
    assert set(names[start : names.index("mixed9") + 1]) == needed


def ancestors(network: Any, name: str) -> set[str]:
    import keras

    return {layer.name for layer in keras.Model(network.inputs, network.get_layer(name).output).layers}


def test_in_a_network_without_such_names_every_layer_with_a_kernel_begins_a_block() -> None:
    names = ["image", "scale", "first", "first_bn", "relu", "second", "second_bn", "out"]
    blocks = find_blocks(names, [name in {"first", "second", "out"} for name in names])
    assert blocks == [Block("first", 0), Block("second", 5), Block("out", 7)]
    assert [block_index(blocks, i) for i in range(8)] == [0, 0, 0, 0, 0, 1, 1, 2]
    assert find_blocks(["image", "scale"], [False, False]) == []


# --- which layers train ------------------------------------------------------------------------------------------

NAMES = ["image", "block1_conv", "block1_pool", "block2_conv", "block2_pool", "block3_conv", "block3_pool"]
THREE = find_blocks(NAMES, [name.endswith("conv") for name in NAMES])


@pytest.mark.parametrize(
    ("what", "first"),
    [
        ("all", 0), ("none", 7), ("0", 7), ("2", 5), ("3", 4), ("99", 0), ("-1", 0),
        ("block2", 3), ("block1", 0), ("block2_pool", 4), ("image", 0),
    ],
)  # fmt: skip
def test_the_lowest_layer_that_trains(what: str, first: int) -> None:
    assert first_trained(NAMES, THREE, what) == first


def test_a_name_of_a_block_and_a_layer_is_the_blocks() -> None:
    names = ["conv2d", "mixed0", "conv2d_1", "mixed1"]
    assert first_trained(names, find_blocks(names, [True, False, True, False]), "mixed1") == 2


@pytest.mark.parametrize(
    ("gradual", "first", "firsts"),
    [
        (0, 0, [0, 0, 0, 0]),
        (1, 0, [7, 5, 3, 0, 0]),
        (2, 0, [7, 7, 5, 5, 3, 3, 0, 0]),
        (1, 3, [7, 5, 3, 3, 3]),
        (1, 4, [7, 5, 4, 4]),  # it begins inside of a block
        (1, 7, [7, 7, 7]),
    ],
)
def test_gradual_unfreezing_adds_a_block_from_the_top(gradual: int, first: int, firsts: list[int]) -> None:
    assert [first_in_epoch(7, THREE, first, gradual, epoch) for epoch in range(len(firsts))] == firsts
    reached = next(epoch for epoch, found in enumerate(firsts) if found == first)
    assert epochs_until_all(7, THREE, first, gradual) == reached


def test_the_rate_falls_by_block_from_the_head_down() -> None:
    shares = [rate_share(THREE, position, 0.5) for position in range(7)]
    assert shares == [0.125, 0.125, 0.125, 0.25, 0.25, 0.5, 0.5]
    assert {rate_share(THREE, position, 1.0) for position in range(7)} == {1.0}
