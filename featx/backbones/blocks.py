"""The blocks of a network, found by the names of its layers.

A block begins at the first layer that carries its name and ends where the next one begins: `block5` of VGG16 is
`block5_conv1` to `block5_pool`. Inception's blocks are named by their last layer, so `mixed9` begins behind `mixed8`.
What lies above the last block belongs to it, what lies below the first one to that. In a network whose names say
nothing, every layer with a kernel begins a block of its name.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from featx.backbones.runtime import KerasLayer

# (a layer's name, the name of its block, whether the layers without a name below it belong to it); the first that
# matches counts. The names are those of `keras.applications` and of EfficientNetLite0.
_RULES: tuple[tuple[str, str, bool], ...] = (
    (r"(mixed\d+|mixed_\d[a-z])", r"\1", True),  # InceptionV3, InceptionResNetV2
    (r"(block(?:35|17|8))_\d+_.*", r"\1", True),  # InceptionResNetV2
    (r"(block\d+)(?:[a-z]?_.*)?", r"\1", False),  # VGG, Xception, EfficientNet; transformers of KerasHub
    (r"(conv_7b)(_.*)?", r"\1", False),  # InceptionResNetV2
    (r"conv_(?:dw|pw|pad)_(\d+)(_.*)?", r"conv_\1", False),  # MobileNet
    (r"(block_\d+)_.*", r"\1", False),  # MobileNetV2
    (r"(expanded_conv(?:_\d+)?)_.*", r"\1", False),  # MobileNetV2, MobileNetV3
    (r".*_stage_(\d+)_.*", r"stage_\1", False),  # ConvNeXt
    (r".*_downsampling_block_([0-2])", r"stage_", False),  # ConvNeXt: of the stage above
    (r"(?:normal|adjust|separable_conv|reduction)_.*?((?:stem|reduce)_\d+)", r"\1", False),  # NASNet
    (r"(?:normal|adjust|separable_conv)_.*_(\d+)", r"cell_\1", False),  # NASNet
    (r"(?:.*_)?(stem)(?:_.*)?", r"\1", False),
    (r"(top)_.*", r"\1", False),  # EfficientNet
    (r"([Cc]onv_?\d*)(_.*)?", r"\1", False),  # ResNet, DenseNet, the ends of MobileNet
)
_COMPILED = tuple((re.compile(pattern), block, named_by_last) for pattern, block, named_by_last in _RULES)


@dataclass(frozen=True)
class Block:
    """Some layers of a network, one after the other.

    start : position of the first of them in the network's order
    """

    name: str
    start: int


def find_blocks(names: Sequence[str], kernels: Sequence[bool]) -> list[Block]:
    """Return the blocks of a network from the bottom up; the first begins at 0.

    Parameters
    ----------
    names : its layers in the network's order
    kernels : which of them have a kernel; see `has_kernel`
    """
    starts = _named_starts(names)
    if len(starts) < 2:
        starts = {name: i for i, (name, kernel) in enumerate(zip(names, kernels, strict=True)) if kernel}
    blocks = [Block(name, start) for name, start in sorted(starts.items(), key=lambda item: item[1])]
    return [Block(block.name, block.start if i else 0) for i, block in enumerate(blocks)]


def _named_starts(names: Sequence[str]) -> dict[str, int]:
    starts: dict[str, int] = {}
    behind = 0  # the last layer that has the name of a block
    for position, name in enumerate(names):
        found = _block_name(name)
        if found is not None:
            block, named_by_last = found
            starts.setdefault(block, behind if named_by_last else position)
            behind = position + 1
    return starts


def _block_name(layer: str) -> tuple[str, bool] | None:
    for pattern, block, named_by_last in _COMPILED:
        found = pattern.fullmatch(layer)
        if found and block == "stage_":
            return f"stage_{int(found[1]) + 1}", False
        if found:
            return found.expand(block), named_by_last
    return None


def block_index(blocks: Sequence[Block], position: int) -> int:
    """Return which of the blocks a layer belongs to, 0 for the lowest."""
    return bisect_right([block.start for block in blocks], position) - 1


def name_blocks(names: Sequence[str], kernels: Sequence[bool]) -> list[str]:
    """Return the name of the block that each layer belongs to, empty in a network without any."""
    blocks = find_blocks(names, kernels)
    return [blocks[block_index(blocks, position)].name if blocks else "" for position in range(len(names))]


def has_kernel(layer: KerasLayer) -> bool:
    """Whether a layer has weights that mix its inputs: normalisation and scaling have one number per channel."""
    return any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ()))
