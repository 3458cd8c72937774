"""The operations of a graph that depend on the image: order, names, channels, cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from featx.backbones.graphs.reading import ImageInput

if TYPE_CHECKING:
    import openvino

_CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData"})
_CHANNELS_FIRST = _CONVOLUTIONS | {
    *("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "BatchNormInference", "Interpolate"),
    *("DepthToSpace", "SpaceToDepth", "LRN", "GroupNormalization"),
}
_KINDS = {  # in canonical names, where an operation's own name says less
    "Convolution": "conv",
    "GroupConvolution": "conv",
    "BatchNormInference": "norm",
    "MaxPool": "pool",
    "AvgPool": "pool",
}


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
    stack = [(root, iter(sources_of(root)))]
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
            stack.append((below, iter(sources_of(below))))


def sources_of(node: openvino.Node) -> list[openvino.Node]:
    """What an operation reads, in the order of its inputs."""
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


def static_shape(node: openvino.Node) -> tuple[int, ...]:
    """The shape of an operation's first tensor, () where it is not known."""
    shape = node.get_output_partial_shape(0)
    return tuple(shape.to_shape()) if shape.is_static else ()


def channel_axes(
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


def mixes_image(node: openvino.Node, below: Sequence[int]) -> bool:
    """Whether an operation multiplies two tensors that both depend on the image, as attention does."""
    return node.get_type_name() in {"MatMul", "ScaledDotProductAttention"} and len(below) > 1
