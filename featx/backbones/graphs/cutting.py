"""Cut a graph at the requested features: from uint8 pixels to named features.

The image is brought to what the network takes (preprocessing, layout) and every tensor asked for to rows of numbers
(pooling) inside the graph. Nothing behind the deepest tensor is in it, so nothing behind it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.backbones.graphs.cut import CutGraph, MapTensor
from featx.backbones.graphs.fixing import fix_shape
from featx.backbones.graphs.operations import image_operations, name_operations
from featx.backbones.graphs.reading import ImageInput, read_graph
from featx.backbones.graphs.structure import Graph, Node
from featx.backbones.libraries import import_openvino
from featx.backbones.output import Output, did_you_mean_layer
from featx.backbones.preprocessing import Formula
from featx.errors import BackboneError
from featx.io.counting import counted

if TYPE_CHECKING:
    import openvino

MOST_PREFIX = 16  # class and register tokens in front of those of the patches
Tensor = Any  # openvino.Output


def cut_graph(graph: Graph, outputs: Sequence[Output], formula: Formula, prefix_tokens: int | None = None) -> CutGraph:
    """Cut a graph at the layers of these outputs, names of tensors or of blocks.

    prefix_tokens : tokens in front of those of the patches, in networks that give tokens; None: found out

    Raises
    ------
    BackboneError
        A name that there is not, a tensor that holds no features, or a pooling that it does not have.
    """
    openvino = import_openvino()
    nodes = {output.layer: _usable_node(graph, output.layer) for output in outputs}
    model, takes = read_graph(graph.path)
    operations = _find_operations(model, takes, graph)
    model.reshape({model.inputs[0]: openvino.PartialShape(takes.shape(-1, graph.size))})
    results, tensors, maps = [], {}, {}
    for number, output in enumerate(outputs):
        node = nodes[output.layer]
        tensor = operations[node.name].output(0)
        pooled = pool_tensor(tensor, node, output, _prefix(node, prefix_tokens))
        result = _name_result(pooled.rows, f"featx_{number}")
        results.append(result)
        tensors[output.name] = f"featx_{number}"
        if pooled.of is not None:
            pooled.of.get_tensor().add_names({f"featx_map_{number}"})
            maps[output.name] = MapTensor(f"featx_map_{number}", pooled.front)
    part = openvino.Model(results, model.get_parameters(), "featx")
    return CutGraph(_take_pixels(part, takes, formula), tensors, _find_batch(part, graph.batch), graph.size, maps)


def _usable_node(graph: Graph, name: str) -> Node:
    try:
        node = graph.find(name)
    except KeyError:
        known = [*graph.blocks, *(one.name for one in graph.nodes if one.usable)]
        raise BackboneError(
            f"No layer {name!r} in {graph.path.name}.{did_you_mean_layer(name, known)} "
            f"'featx layers {graph.path}' lists them."
        ) from None
    if not node.usable:
        raise BackboneError(f"{name!r} of {graph.path.name} does not hold a row of numbers for each image.")
    return node


def _find_operations(model: openvino.Model, takes: ImageInput, graph: Graph) -> dict[str, openvino.Node]:
    """The operations of an unfolded graph by the names that they have in the listing."""
    folded = model.clone()
    fix_shape(folded, takes, graph.size, graph.path.name)
    order = image_operations(folded)
    names = name_operations(order, trust_names=graph.path.suffix.lower() in {".onnx", ".xml"})
    by_friendly_name = {node.get_friendly_name(): node for node in model.get_ops()}
    return {
        name: by_friendly_name[node.get_friendly_name()]
        for name, node in zip(names, order, strict=True)
        if node.get_friendly_name() in by_friendly_name
    }


def _find_batch(model: openvino.Model, fixed: int | None) -> int | None:
    """The images at once that a cut graph is fixed to: what fixes the whole network is often behind the cut."""
    if fixed is None:
        return None
    tried, shape = model.clone(), model.inputs[0].get_partial_shape()
    shape[0] = 2 * fixed
    try:
        tried.reshape({tried.inputs[0]: shape})
    except RuntimeError:
        return fixed
    rows = [port.get_partial_shape()[0] for port in tried.outputs]
    return None if all(one.is_static and one.get_length() == 2 * fixed for one in rows) else fixed


def _name_result(tensor: Tensor, name: str) -> Any:
    from openvino import opset13 as ops

    converted = tensor if tensor.get_element_type().get_type_name() == "f32" else ops.convert(tensor, "f32").output(0)
    plain = ops.reshape(converted, np.array([0] * len(converted.get_partial_shape())), special_zero=True).output(0)
    plain.get_tensor().set_names({name})  # a tensor of its own: one that another output reads keeps its names
    return ops.result(plain)


def _take_pixels(model: openvino.Model, takes: ImageInput, formula: Formula) -> openvino.Model:
    """Put the preprocessing in front: uint8 pixels, channels last, RGB, to what the network takes."""
    openvino = import_openvino()
    from openvino.preprocess import ColorFormat, PrePostProcessor

    steps = PrePostProcessor(model)
    image = steps.input(0)
    image.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    image.tensor().set_color_format(ColorFormat.RGB)
    image.model().set_layout(openvino.Layout(takes.layout))
    change = image.preprocess().convert_element_type(openvino.Type.f32)
    if formula.bgr:
        change = change.convert_color(ColorFormat.BGR)
    scale, offset = (np.broadcast_to(np.asarray(one, np.float32), (3,)) for one in (formula.scale, formula.offset))
    if formula != Formula(bgr=formula.bgr):
        change = change.custom(lambda image: _rescale(image, scale, offset))
    wanted = model.inputs[0].get_element_type()
    if wanted != openvino.Type.f32:
        change.convert_element_type(wanted)
    return steps.build()


def _rescale(image: Tensor, scale: np.ndarray, offset: np.ndarray) -> Tensor:
    from openvino import opset13 as ops

    return ops.add(ops.multiply(image, scale.reshape(1, 1, 1, 3)), offset.reshape(1, 1, 1, 3)).output(0)


# --- pooling -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pooled:
    """Rows of numbers, and what they are pooled from.

    of : a map (n, height, width, channels) or tokens (n, tokens, channels); None where nothing of it has a place
    front : tokens of it in front of those of the patches
    """

    rows: Tensor
    of: Tensor | None = None
    front: int = 0


def pool_tensor(tensor: Tensor, node: Node, output: Output, prefix: int | None) -> Pooled:
    """A tensor as rows of numbers: maps and tokens by their kind, rows of numbers as they are.

    Raises
    ------
    BackboneError
        A pooling that this tensor does not have.
    """
    rank = len(node.shape)
    if rank == 1:
        return Pooled(tensor)
    if rank == 3 and node.channels is not None:
        map_ = _channels_last(tensor, node)
        return Pooled(_pool_map(map_, node.shape, output), map_)
    if rank == 2 and node.channels is not None:
        return _pool_tokens(_channels_last(tensor, node), node, output, prefix)
    if output.pooling in {"flatten", "none"}:
        return Pooled(_flatten(tensor) if output.pooling == "flatten" else tensor)
    sides = " x ".join(map(str, node.shape))
    raise BackboneError(f"{output.name}: the tensor is {sides} and its channels are not known. Use flatten.")


def _channels_last(tensor: Tensor, node: Node) -> Tensor:
    from openvino import opset13 as ops

    rank = len(node.shape) + 1
    if node.channels == rank - 1:
        return tensor
    order = [axis for axis in range(rank) if axis != node.channels] + [node.channels]
    return ops.transpose(tensor, np.array(order, np.int64)).output(0)


def _flatten(tensor: Tensor) -> Tensor:
    from openvino import opset13 as ops

    return ops.reshape(tensor, np.array([0, -1], np.int64), special_zero=True).output(0)


def _reduce(tensor: Tensor, kind: str, axes: Sequence[int]) -> Tensor:
    from openvino import opset13 as ops

    reduce = ops.reduce_mean if kind == "avg" else ops.reduce_max
    return reduce(tensor, np.array(axes, np.int64), keep_dims=False).output(0)


def _pool_map(map_: Tensor, shape: Sequence[int], output: Output) -> Tensor:
    """(n, height, width, channels) as rows."""
    pooling = output.pooling
    if pooling in {"avg", "max"}:
        return _reduce(map_, pooling, (1, 2))
    if pooling == "flatten":
        return _flatten(map_)
    if pooling == "none":
        return map_
    if pooling.startswith("grid:"):
        return _pool_grid(map_, shape, int(pooling[5:]), output)
    raise BackboneError(f"{output.name}: the layer gives a map, which has no class token. Use avg, max or grid:N.")


def _pool_grid(map_: Tensor, shape: Sequence[int], side: int, output: Output) -> Tensor:
    """The average over each cell of a grid, flattened: bins from floor(i h / N) to ceil((i + 1) h / N)."""
    from openvino import opset13 as ops

    height, width = shape[0], shape[1]
    if side > min(height, width):
        raise BackboneError(
            f"{output.name}: the map is {height} x {width}, too small for a grid of {side} x {side}. Choose "
            f"grid:{min(height, width)} or less, an earlier layer, or larger images."
        )
    first = ops.transpose(map_, np.array([0, 3, 1, 2], np.int64))
    cells = ops.adaptive_avg_pool(first, np.array([side, side], np.int64))
    return _flatten(ops.transpose(cells, np.array([0, 2, 3, 1], np.int64)).output(0))


def _pool_tokens(tokens: Tensor, node: Node, output: Output, prefix: int | None) -> Pooled:
    """(n, tokens, channels) as rows; the first `prefix` of them belong to no place of the image."""
    pooling, count, front = output.pooling, node.shape[0], prefix or 0
    if pooling in {"flatten", "none"}:
        return Pooled(_flatten(tokens) if pooling == "flatten" else tokens, tokens, front)
    if pooling in {"cls", "cls+avg"} and not front:
        raise BackboneError(f"{output.name}: the layer has no class token ({counted(count, 'token')}). Use avg or max.")
    if pooling == "cls":
        return Pooled(_reduce(_slice(tokens, 0, 1), "avg", (1,)))
    patches = _slice(tokens, front, count)
    if pooling == "cls+avg":
        return Pooled(_join(_reduce(_slice(tokens, 0, 1), "avg", (1,)), _reduce(patches, "avg", (1,))), patches)
    if not pooling.startswith("grid:"):
        return Pooled(_reduce(patches, pooling, (1,)), patches)
    side = isqrt(count - front)
    if side * side != count - front:
        raise BackboneError(
            f"{output.name}: {counted(count - front, 'token does', 'tokens do')} not form a square of patches. Take "
            "avg, or give the number of tokens before them with --prefix-tokens."
        )
    return Pooled(_pool_grid(_as_map(patches, side, node.shape[1]), (side, side), int(pooling[5:]), output), patches)


def _slice(tokens: Tensor, start: int, stop: int) -> Tensor:
    from openvino import opset13 as ops

    bounds = [np.array([one], np.int64) for one in (start, stop, 1, 1)]
    return ops.slice(tokens, *bounds).output(0)


def _join(*rows: Tensor) -> Tensor:
    from openvino import opset13 as ops

    return ops.concat(list(rows), axis=-1).output(0)


def _as_map(patches: Tensor, side: int, channels: int) -> Tensor:
    from openvino import opset13 as ops

    return ops.reshape(patches, np.array([0, side, side, channels], np.int64), special_zero=True).output(0)


def _prefix(node: Node, given: int | None) -> int | None:
    """How many tokens of a tensor belong to no place of the image; None where it has no tokens or it is not clear."""
    if len(node.shape) != 2:
        return None
    return given if given is not None else count_prefix(node.shape[0])


def count_prefix(tokens: int) -> int | None:
    """The tokens in front of the largest square that leaves at most `MOST_PREFIX` of them; None where there is none."""
    left = tokens - isqrt(tokens) ** 2
    return left if left <= MOST_PREFIX else None
