"""The structure of a graph: its tensors in order, their channel axes, their costs, and its blocks.

A graph is looked at with a fixed input size, so that what only computes shapes is folded away: exporters write hundreds
of such operations. What is left depends on the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones.graphs.blocks import BlockStep, name_steps
from featx.backbones.graphs.reading import ImageInput, read_graph

if TYPE_CHECKING:
    import openvino
from featx.backbones.graphs.fixing import LOOKED_AT, fix_shape
from featx.backbones.graphs.operations import (
    channel_axes,
    image_operations,
    mixes_image,
    multiply_adds,
    name_operations,
    sources_of,
    static_shape,
)

_ACTIVATIONS = frozenset(
    {"Relu", "Clamp", "HSwish", "Swish", "Sigmoid", "Gelu", "Elu", "PRelu", "LeakyRelu", "HSigmoid", "Mish", "Tanh"}
)
_FLOATS = frozenset({"f32", "f16", "bf16", "f64"})


@dataclass(frozen=True)
class Node:
    """One tensor that depends on the image.

    name : the one that the file gives it, or a canonical one, as `conv12`: its kind and number in canonical order
    kind : the operation, as OpenVINO names it
    shape : of one image; maps are (height, width, channels) here, wherever the graph has its channels
    channels : the axis of the channels in the graph, the batch counted; None where it is not known
    share : multiply-adds of all that it needs, as a part of the whole graph's
    parameters : numbers in the constants that this operation alone reads
    clean_cut : whether it is the one tensor that crosses from below to above
    block : the block that it belongs to, "" for none
    usable : whether features can be taken of it: numbers in rows of images
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    channels: int | None
    share: float
    parameters: int
    clean_cut: bool
    block: str
    usable: bool


@dataclass(frozen=True)
class Graph:
    """A graph file, looked at with one input size.

    takes : its image input
    size : (height, width) in pixels that it is looked at with
    batch : images at once that it is fixed to, None for any number
    nodes : in canonical order, the image first
    blocks : name of a block -> name of its last tensor
    """

    path: Path
    takes: ImageInput
    size: tuple[int, int]
    batch: int | None
    nodes: tuple[Node, ...]
    blocks: dict[str, str]

    def find(self, name: str) -> Node:
        """The tensor of this name, or the last one of the block of this name.

        Raises
        ------
        KeyError
            No such name.
        """
        wanted = self.blocks.get(name, name)
        return next(iter(node for node in self.nodes if node.name == wanted), None) or _raise(name)


def _raise(name: str) -> Node:
    raise KeyError(name)


def open_graph(path: Path, size: tuple[int, int]) -> Graph:
    """Look at a graph file with images of (height, width).

    Raises
    ------
    BackboneError
        What `read_graph` raises, or a network that does not work at this size.
    """
    model, takes = read_graph(path)
    batch = fix_shape(model, takes, size, path.name)
    order = image_operations(model)
    names = name_operations(order, trust_names=path.suffix.lower() in {".onnx", ".xml"})
    nodes, blocks = _describe(order, names, takes, batch)
    return Graph(path, takes, size, None if batch == LOOKED_AT else batch, nodes, blocks)


def _describe(
    order: Sequence[openvino.Node], names: Sequence[str], takes: ImageInput, batch: int
) -> tuple[tuple[Node, ...], dict[str, str]]:
    place = {node.get_instance_id(): i for i, node in enumerate(order)}
    reads = [[place[s.get_instance_id()] for s in sources_of(node) if s.get_instance_id() in place] for node in order]
    shapes = [static_shape(node) for node in order]
    axes = channel_axes(order, reads, shapes, takes)
    costs = [multiply_adds(node, shape) for node, shape in zip(order, shapes, strict=True)]
    clean = _clean_cuts(reads)
    steps = [
        BlockStep(bool(cost), mixes_image(node, reads[i]), node.get_type_name() in _ACTIVATIONS, clean[i])
        for i, (node, cost) in enumerate(zip(order, costs, strict=True))
    ]
    blocks = name_steps(steps)
    shares = _shares(reads, costs)
    nodes = tuple(
        Node(
            names[i],
            node.get_type_name(),
            image_shape(shapes[i], axes[i]),
            axes[i],
            shares[i],
            _count_parameters(node, place),
            clean[i],
            blocks[i],
            _is_usable(node, shapes[i], batch) and node.get_type_name() != "Parameter",
        )
        for i, node in enumerate(order)
    )
    ends = {block: names[i] for i, block in enumerate(blocks) if block and clean[i]}
    return nodes, ends


def image_shape(shape: Sequence[int], axis: int | None) -> tuple[int, ...]:
    """The shape for one image, the channels last where they are known."""
    sides = list(shape[1:])
    if axis is not None and axis < len(shape):
        sides.append(sides.pop(axis - 1))
    return tuple(sides)


def _is_usable(node: openvino.Node, shape: Sequence[int], batch: int) -> bool:
    return (
        len(shape) >= 2
        and shape[0] == batch
        and prod(shape[1:]) > 0
        and node.get_output_element_type(0).get_type_name() in _FLOATS
    )


def _count_parameters(node: openvino.Node, place: dict[int, int]) -> int:
    constants = [s for s in sources_of(node) if s.get_instance_id() not in place and s.get_type_name() == "Constant"]
    return sum(int(prod(s.get_output_shape(0))) for s in constants if s.get_output_element_type(0).is_real())


def _clean_cuts(reads: Sequence[Sequence[int]]) -> list[bool]:
    """Whether nothing but a tensor itself crosses from those up to it to those behind it."""
    last_use = list(range(len(reads)))
    for i, below in enumerate(reads):
        for j in below:
            last_use[j] = max(last_use[j], i)
    furthest, clean = -1, []
    for i, use in enumerate(last_use):
        clean.append(furthest <= i)
        furthest = max(furthest, use)
    return clean


def _shares(reads: Sequence[Sequence[int]], costs: Sequence[int]) -> list[float]:
    """For every operation, what it and all that it needs cost, as a part of the whole."""
    needed: list[int] = []
    for i, below in enumerate(reads):
        mask = 1 << i
        for j in below:
            mask |= needed[j]
        needed.append(mask)
    total = sum(costs)
    return [_cost_of(mask, costs) / total if total else 1.0 for mask in needed]


def _cost_of(mask: int, costs: Sequence[int]) -> int:
    return sum(cost for i, cost in enumerate(costs) if cost and mask >> i & 1)
