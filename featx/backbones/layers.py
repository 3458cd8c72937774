"""The layers of a Keras network: their costs, and where it can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from featx.backbones.blocks import has_kernel, name_blocks
from featx.backbones.build import construct
from featx.backbones.cuts import LayerGraph
from featx.backbones.protocol import LayerInfo
from featx.backbones.runtime import KerasLayer, KerasModel
from featx.backbones.spec import BackboneSpec

_REARRANGING = frozenset({"InputLayer", "ZeroPadding2D", "Dropout", "Reshape", "Flatten", "Rescaling", "Normalization"})


def describe_layers(model: KerasModel) -> list[LayerInfo]:
    """Every layer of a model in its order; operations between layers have no name that one could ask for."""
    graph = LayerGraph(model)
    costs = [multiply_adds(layer) for layer in graph.layers]
    blocks = name_blocks(graph.names, [has_kernel(layer) for layer in graph.layers])
    return [
        _describe(
            layer,
            share=_share(graph.ancestors[i], costs),
            clean_cut=graph.clean[i],
            block=blocks[i],
            branches=graph.branches[i],
        )
        for i, layer in enumerate(graph.layers)
        if hasattr(layer, "count_params")
    ]


def describe_top(spec: BackboneSpec) -> list[LayerInfo]:
    """The layers of a network's classification top; none where it has no top of its own."""
    if spec.entry is None or not spec.entry.top:
        return []
    side = spec.entry.input_size  # the one size that every top takes
    whole = BackboneSpec(spec.name, spec.weights, spec.weights_seed, (side, side), spec.preprocessing)
    layers = construct(whole, top=True).layers
    return [_describe(layer, share=1.0, top=True) for layer in layers if layer.name in spec.entry.top]


def _share(ancestors: int, costs: Sequence[int]) -> float:
    total = sum(costs)
    return sum(cost for i, cost in enumerate(costs) if ancestors >> i & 1) / total if total else 1.0


def _describe(
    layer: KerasLayer,
    *,
    share: float,
    clean_cut: bool = False,
    block: str = "",
    branches: bool = False,
    top: bool = False,
) -> LayerInfo:
    outputs = layer.output if isinstance(layer.output, list) else [layer.output]
    shape = tuple(outputs[0].shape[1:])
    known = shape and all(side is not None for side in shape)
    kind = type(layer).__name__
    return LayerInfo(
        name=layer.name,
        kind=kind,
        shape=shape,
        parameters=layer.count_params(),
        share=share,
        features={"avg": int(shape[-1]), "flatten": prod(shape)} if known else {},
        clean_cut=clean_cut and len(outputs) == 1,
        top=top,
        block=block,
        branches=branches,
        rearranges=kind in _REARRANGING,
    )


def multiply_adds(layer: KerasLayer) -> int:
    """Multiplications of a layer's kernels for one image: kernel size times the places it is applied at."""
    if hasattr(layer, "layers"):
        return sum(multiply_adds(inner) for inner in layer.layers)
    kernels = [v for v in getattr(layer, "weights", ()) if "kernel" in v.name and len(v.shape) >= 2]
    if not kernels:
        return 0
    places = prod(side or 1 for side in layer.output.shape[1:-1])
    return int(places * sum(prod(kernel.shape) for kernel in kernels))
