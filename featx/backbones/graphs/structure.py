"""What a graph is made of: its tensors in order, where their channels are, what each costs, and its blocks.

A graph is looked at with a fixed input size, so that what only computes shapes is folded away: exporters write hundreds
of such operations. What is left depends on the image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones.graphs.blocks import BlockStep, name_steps
from featx.backbones.graphs.reading import ImageInput, read_graph
from featx.errors import BackboneError

if TYPE_CHECKING:
    import openvino

_LOOKED_AT = 2  # images: so that a first axis of 2 is the batch, and one of anything else is not
_CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData"})
_CHANNELS_FIRST = _CONVOLUTIONS | {
    *("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "BatchNormInference", "Interpolate"),
    *("DepthToSpace", "SpaceToDepth", "LRN", "GroupNormalization"),
}
_ACTIVATIONS = frozenset(
    {"Relu", "Clamp", "HSwish", "Swish", "Sigmoid", "Gelu", "Elu", "PRelu", "LeakyRelu", "HSigmoid", "Mish", "Tanh"}
)
_KINDS = {  # in canonical names, where an operation's own name says less
    "Convolution": "conv",
    "GroupConvolution": "conv",
    "BatchNormInference": "norm",
    "MaxPool": "pool",
    "AvgPool": "pool",
}
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
    return Graph(path, takes, size, None if batch == _LOOKED_AT else batch, nodes, blocks)


def fix_shape(model: openvino.Model, takes: ImageInput, size: tuple[int, int], name: str) -> int:
    """Give the input a fixed shape, in place, and fold what only computed shapes; returns the images at once.

    Raises
    ------
    BackboneError
        A size that the network refuses.
    """
    reason: RuntimeError | None = None
    for batch in dict.fromkeys((_LOOKED_AT, takes.batch or 1)):
        try:
            model.reshape(takes.shape(batch, size))
            fold_constants(model)
        except RuntimeError as error:
            reason = error
            continue
        if _gives_rows(model, batch):
            return batch
    raise BackboneError(_explain_size(name, takes, size)) from reason


def _explain_size(name: str, takes: ImageInput, size: tuple[int, int]) -> str:
    height, width = takes.size
    if height and width and (height, width) != size:
        return (
            f"{name} takes images of {height} x {width} pixels alone; received {size[0]} x {size[1]}. Leave out "
            "--input-size, or export the network with dynamic axes."
        )
    return (
        f"{name} does not work with images of {size[0]} x {size[1]} pixels: a part of it has a constant shape. Choose "
        "the --input-size that it was exported for, or export it with dynamic axes."
    )


def _gives_rows(model: openvino.Model, batch: int) -> bool:
    """Whether the first output still has a row for each image: a constant reshape can mix them without an error."""
    shape = model.outputs[0].get_partial_shape()
    return bool(shape.rank.is_static and len(shape) and (shape[0].is_dynamic or shape[0].get_length() == batch))


def fold_constants(model: openvino.Model) -> None:
    """Compute what does not depend on the image, in place."""
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)


def image_operations(model: openvino.Model) -> list[openvino.Node]:
    """The operations that depend on the image, each behind those that it reads, in an order without names.

    The order is that of a walk from the outputs down, inputs first: it is the same however the file lists its
    operations. Outputs are walked in the order of their digests (`featx.backbones.graphs.digest`).
    """
    from featx.backbones.graphs.digest import digest_operations

    digests = digest_operations(model)
    depends: set[int] = set()
    for node in model.get_ordered_ops():
        sources = [port.get_source_output().get_node().get_instance_id() for port in node.inputs()]
        if node.get_type_name() == "Parameter" or depends.intersection(sources):
            depends.add(node.get_instance_id())
    roots = sorted(model.get_results(), key=lambda node: digests[node.get_instance_id()].full)
    order: list[openvino.Node] = []
    done: set[int] = set()
    for root in roots:
        order += _walk(root, done, depends)
    return [node for node in order if node.get_type_name() != "Result"]


def _walk(root: openvino.Node, done: set[int], depends: set[int]) -> Iterator[openvino.Node]:
    """The operations below a root that depend on the image and were not met before, inputs first."""
    stack = [(root, iter(_sources(root)))]
    done.add(root.get_instance_id())
    while stack:
        node, sources = stack[-1]
        below = next(
            (one for one in sources if one.get_instance_id() in depends and one.get_instance_id() not in done), None
        )
        if below is None:
            stack.pop()
            yield node
        else:
            done.add(below.get_instance_id())
            stack.append((below, iter(_sources(below))))


def _sources(node: openvino.Node) -> list[openvino.Node]:
    return [port.get_source_output().get_node() for port in node.inputs()]


def name_operations(order: Sequence[openvino.Node], trust_names: bool) -> list[str]:
    """A name for the first tensor of every operation: the file's own, else its kind and number in canonical order.

    trust_names : whether the names in the file are the same each time it is read, as in ONNX and in IR
    """
    found, taken, numbers = [], set(), Counter[str]()
    for node in order:
        kind = _KINDS.get(node.get_type_name(), node.get_type_name().lower())
        numbers[kind] += 1
        own = sorted(node.output(0).get_names(), key=lambda name: (len(name), name)) if trust_names else []
        name = next((one for one in own if one not in taken), f"{kind}{numbers[kind]}")
        taken.add(name)
        found.append(name)
    return found


def _describe(
    order: Sequence[openvino.Node], names: Sequence[str], takes: ImageInput, batch: int
) -> tuple[tuple[Node, ...], dict[str, str]]:
    place = {node.get_instance_id(): i for i, node in enumerate(order)}
    reads = [[place[s.get_instance_id()] for s in _sources(node) if s.get_instance_id() in place] for node in order]
    shapes = [_static_shape(node) for node in order]
    axes = _channel_axes(order, reads, shapes, takes)
    costs = [multiply_adds(node, shape) for node, shape in zip(order, shapes, strict=True)]
    clean = _clean_cuts(reads)
    steps = [
        BlockStep(bool(cost), _mixes_image(node, reads[i]), node.get_type_name() in _ACTIVATIONS, clean[i])
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


def _static_shape(node: openvino.Node) -> tuple[int, ...]:
    """The shape of an operation's first tensor, () where it is not known."""
    shape = node.get_output_partial_shape(0)
    return tuple(shape.to_shape()) if shape.is_static else ()


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


def _channel_axes(
    order: Sequence[openvino.Node],
    reads: Sequence[Sequence[int]],
    shapes: Sequence[tuple[int, ...]],
    takes: ImageInput,
) -> list[int | None]:
    """Where the channels of every tensor are, found by following them from the image up."""
    axes: list[int | None] = []
    for node, below, shape in zip(order, reads, shapes, strict=True):
        known = [(axes[i], shapes[i]) for i in below if axes[i] is not None]
        axes.append(_channel_axis(node, known, shape, takes))
    return axes


def _channel_axis(
    node: openvino.Node, known: Sequence[tuple[int | None, tuple[int, ...]]], shape: tuple[int, ...], takes: ImageInput
) -> int | None:
    kind, rank = node.get_type_name(), len(shape)
    if kind == "Parameter":
        return 1 if takes.layout == "NCHW" else 3
    if kind in _CHANNELS_FIRST:
        return 1
    if kind == "MatMul" or rank < 3:  # rows of numbers, and tokens: the last axis is what a product mixes
        return rank - 1 if rank in {2, 3} else None
    axis, before = known[0] if known else (None, ())
    if kind == "Transpose" and axis is not None:
        order_of_axes = [int(one) for one in _constant(node, 1)]
        return order_of_axes.index(axis) if axis in order_of_axes else None
    if axis is not None and rank == len(before):
        return axis
    if axis is not None and rank == 3:  # a map whose places were put in a row
        kept = before[axis]
        return 1 if axis == 1 and shape[1] == kept else 2 if shape[2] == kept else None
    return 2 if rank == 3 else None


def _constant(node: openvino.Node, port: int) -> Sequence[int]:
    source = node.input(port).get_source_output().get_node()
    return list(source.get_data().flatten()) if source.get_type_name() == "Constant" else []


def multiply_adds(node: openvino.Node, shape: Sequence[int]) -> int:
    """Multiplications of one operation for one image."""
    kind = node.get_type_name()
    if kind in _CONVOLUTIONS and len(shape) > 2:
        kernel = node.get_input_shape(1)  # (out, in, ...) or (groups, out, in, ...)
        grouped = kind == "GroupConvolution"
        return int(prod(shape[1:]) * prod(kernel[2 if grouped else 1 :]))
    if kind == "MatMul" and shape:
        first = node.get_input_shape(0)
        mixed = first[-2] if node.get_attributes().get("transpose_a") else first[-1]
        return prod(shape[1:]) * int(mixed)
    return 0


def _mixes_image(node: openvino.Node, below: Sequence[int]) -> bool:
    """Whether an operation multiplies two tensors that both depend on the image, as attention does."""
    return node.get_type_name() in {"MatMul", "ScaledDotProductAttention"} and len(below) > 1


def _count_parameters(node: openvino.Node, place: dict[int, int]) -> int:
    constants = [s for s in _sources(node) if s.get_instance_id() not in place and s.get_type_name() == "Constant"]
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
