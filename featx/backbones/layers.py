"""What a network is made of: its layers, what each costs, and where it can be cut.

All of it is read from the network's own graph: which call of which layer takes the result of which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from featx.backbones.blocks import has_kernel, name_blocks
from featx.backbones.network import construct
from featx.backbones.spec import BackboneSpec

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a backbone.

    shape : of its output for one image
    share : multiply-adds of this layer and all that it needs, as a part of the network's without its top
    features : features per image by pooling: {"avg": channels, "flatten": all}
    clean_cut : whether its output is the one tensor that crosses from below to above
    top : whether it belongs to the classification top
    block : the block it belongs to; see `featx.backbones.blocks`
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    parameters: int
    share: float
    features: dict[str, int]
    clean_cut: bool
    top: bool = False
    block: str = ""


class LayerGraph:
    """Which layer needs which, of a functional network.

    names : the layers, and operations between them, in the network's order, which is a topological one
    """

    def __init__(self, network: keras.Model) -> None:
        config = network.get_config()
        self.layers = list(network.operations)
        self.names = [layer.name for layer in self.layers]
        position = {name: i for i, name in enumerate(self.names)}
        self.below: list[list[int]] = [[] for _ in self.names]
        for layer in config["layers"]:
            tensors = [t for node in layer["inbound_nodes"] for t in _tensors(node)]
            self.below[position[layer["name"]]] = [position[name] for name in tensors]
        self.inputs = [position[name] for name in _ends(config["input_layers"])]
        self.outputs = [position[name] for name in _ends(config["output_layers"])]

    @cached_property
    def ancestors(self) -> list[int]:
        """For each layer the set of layers it needs, itself among them, as bits of a number."""
        sets: list[int] = []
        for i, below in enumerate(self.below):
            bits = 1 << i
            for j in below:
                bits |= sets[j]
            sets.append(bits)
        return sets

    @cached_property
    def clean(self) -> list[bool]:
        """Whether every path from the input to the output passes through each layer."""
        down = [int(i in self.inputs) for i in range(len(self.names))]  # paths from the input to here
        for i, below in enumerate(self.below):
            down[i] += sum(down[j] for j in below)
        up = [int(i in self.outputs) for i in range(len(self.names))]  # paths from here to the output
        for i in reversed(range(len(self.names))):
            for j in self.below[i]:
                up[j] += up[i]
        total = sum(down[i] for i in self.outputs)
        return [a * b == total for a, b in zip(down, up, strict=True)]


def _tensors(value: object) -> Iterator[str]:
    """Names of the layers whose tensors occur in the serialised arguments of a call."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
        else:
            for item in value.values():
                yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _ends(value: Any) -> list[str]:
    """Layer names of `[name, node, tensor]`, or of a list or dict of such."""
    if isinstance(value, dict):
        return [name for item in value.values() for name in _ends(item)]
    if value and isinstance(value[0], str):
        return [value[0]]
    return [name for item in value for name in _ends(item)]


def list_layers(spec: BackboneSpec) -> list[LayerInfo]:
    """Every layer of the network in its order, those of the classification top last, marked."""
    network = construct(spec)
    graph = LayerGraph(network)
    costs = [multiply_adds(layer) for layer in graph.layers]
    rows = [_describe(layer, _share(graph.ancestors[i], costs), graph.clean[i]) for i, layer in enumerate(graph.layers)]
    blocks = name_blocks(graph.names, [has_kernel(layer) for layer in graph.layers])
    return [*(replace(row, block=block) for row, block in zip(rows, blocks, strict=True)), *_list_top(spec)]


def _list_top(spec: BackboneSpec) -> list[LayerInfo]:
    if spec.entry is None or not spec.entry.top:
        return []
    side = spec.entry.input_size  # the one size that every top takes
    whole = BackboneSpec(spec.name, spec.weights, spec.weights_seed, (side, side), spec.preprocessing)
    return [
        _describe(layer, 1.0, clean_cut=False, top=True)
        for layer in construct(whole, top=True).layers
        if layer.name in spec.entry.top
    ]


def _share(ancestors: int, costs: Sequence[int]) -> float:
    total = sum(costs)
    return sum(cost for i, cost in enumerate(costs) if ancestors >> i & 1) / total if total else 1.0


def _describe(layer: Any, share: float, clean_cut: bool, top: bool = False) -> LayerInfo:
    outputs = layer.output if isinstance(layer.output, list) else [layer.output]
    shape = tuple(outputs[0].shape[1:])
    known = shape and all(side is not None for side in shape)
    features = {"avg": int(shape[-1]), "flatten": prod(shape)} if known else {}
    return LayerInfo(
        name=layer.name,
        kind=type(layer).__name__,
        shape=shape,
        parameters=layer.count_params(),
        share=share,
        features=features,
        clean_cut=clean_cut and len(outputs) == 1,
        top=top,
    )


def multiply_adds(layer: Any) -> int:
    """Multiplications of a layer's kernels for one image: kernel size times the places it is applied at."""
    if hasattr(layer, "layers"):
        return sum(multiply_adds(inner) for inner in layer.layers)
    kernels = [v for v in getattr(layer, "weights", ()) if "kernel" in v.name and len(v.shape) >= 2]
    if not kernels:
        return 0
    places = prod(side or 1 for side in layer.output.shape[1:-1])
    return int(places * sum(prod(kernel.shape) for kernel in kernels))


def nearest_clean_cuts(network: keras.Model, layer: str) -> list[str]:
    """The nearest layers below and above `layer` that the network can be cut at cleanly; itself where it is one."""
    graph = LayerGraph(network)
    here = graph.names.index(layer)
    if graph.clean[here]:
        return [layer]
    below = [i for i in range(here) if graph.clean[i] and graph.ancestors[here] >> i & 1]
    above = [i for i in range(here, len(graph.names)) if graph.clean[i] and graph.ancestors[i] >> here & 1]
    return [graph.names[i] for i in [*below[-1:], *above[:1]]]
