"""What trains: blocks, gradual unfreezing, the rate of every depth, decay of weights."""

from __future__ import annotations

import pytest

from featx.backbones import Block, block_index, find_blocks
from featx.finetune.unfreezing import epochs_until_all, first_in_epoch, first_trained, rate_share

# --- blocks ------------------------------------------------------------------------------------------------------


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
