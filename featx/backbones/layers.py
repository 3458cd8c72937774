"""What a network is made of: its layers, what each costs, and which of them it can be cut at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from featx.backbones import modelfile
from featx.backbones.blocks import has_kernel, name_blocks
from featx.backbones.cuts import LayerGraph
from featx.backbones.identity import memory_key
from featx.backbones.network import construct
from featx.backbones.spec import BackboneSpec
from featx.io.digests import digest_json
from featx.io.index import StatIndex

_DEPTHS = 1  # which keys remembered depths have
_REARRANGING = frozenset({"InputLayer", "ZeroPadding2D", "Dropout", "Reshape", "Flatten", "Rescaling", "Normalization"})


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


def list_layers(spec: BackboneSpec) -> list[LayerInfo]:
    """Every layer of the network in its order, those of the classification top last, marked."""
    network = construct(spec)
    graph = LayerGraph(network)
    costs = [multiply_adds(layer) for layer in graph.layers]
    blocks = name_blocks(graph.names, [has_kernel(layer) for layer in graph.layers])
    rows = [
        _describe(layer, _share(graph.ancestors[i], costs), graph.clean[i], block=blocks[i])
        for i, layer in enumerate(graph.layers)
        if hasattr(layer, "count_params")  # an operation between layers has no name that one could ask for
    ]
    return [*rows, *_list_top(spec)]


@dataclass(frozen=True)
class Depth:
    """A layer through which everything passes, and how deep it lies.

    share : as of `LayerInfo`
    ends : whether a block ends there, or the network branches: all that is between two of these is one step
    """

    name: str
    share: float
    ends: bool


def list_depths(spec: BackboneSpec, index: StatIndex) -> list[Depth]:
    """The layers that the network can be cut at, the lowest first, up to the one that features come from by default.

    Layers that only rearrange, pad or scale pixels are left out. Remembered in the index, since building a network
    takes seconds.

    Raises
    ------
    BackboneError
        A network that cannot be built.
    """
    key = digest_json([memory_key(spec, index), _DEPTHS])
    known: list[dict[str, Any]] | None = index.recall("depths", key)
    if known is None:
        known = [asdict(one) for one in _find_depths(spec)]
        index.remember("depths", key, known)
    return [Depth(**one) for one in known]


def _find_depths(spec: BackboneSpec) -> list[Depth]:
    graph = LayerGraph(construct(spec))
    last = spec.entry.layer if spec.entry else modelfile.default_layer(Path(spec.name))
    count = graph.names.index(last) + 1 if last in graph.names else len(graph.names)
    blocks = name_blocks(graph.names, [has_kernel(layer) for layer in graph.layers])
    costs = [multiply_adds(layer) for layer in graph.layers]
    kept = [
        i
        for i, layer in enumerate(graph.layers[:count])
        if graph.clean[i] and hasattr(layer, "count_params") and type(layer).__name__ not in _REARRANGING
    ]
    ends = {blocks[i]: i for i in kept}.values()  # the last of each block
    return [Depth(graph.names[i], _share(graph.ancestors[i], costs), graph.branches[i] or i in ends) for i in kept]


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


def _describe(layer: Any, share: float, clean_cut: bool, top: bool = False, block: str = "") -> LayerInfo:
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
        block=block,
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
