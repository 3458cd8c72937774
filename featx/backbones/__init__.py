"""Backbones: frozen Keras networks, cut at the layers that features are taken from.

`resolve` and `resolve_outputs` decide what is wanted, without TensorFlow. `identify` says who it is, from memory where
it can. `build` makes the whole network, `cut` the part of it that runs; `list_layers` shows what there is to choose,
`split_network` takes a network apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.io.lazy import import_on_use

if TYPE_CHECKING:
    from featx.backbones.blocks import Block, block_index, find_blocks, has_kernel
    from featx.backbones.cuts import (
        Halves,
        LayerGraph,
        clean_cuts,
        nearest_clean_cuts,
        require_clean_cut,
        split_network,
    )
    from featx.backbones.identity import Identity, digest_architecture, identify
    from featx.backbones.layers import LayerInfo, list_layers
    from featx.backbones.network import build, cut, cut_network, needs_top, pool, preprocess
    from featx.backbones.runtime import import_keras
    from featx.backbones.spec import BackboneSpec, Output, check_pooling, resolve, resolve_outputs
    from featx.backbones.table import BACKBONES, Entry
    from featx.backbones.weights import digest_weights

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "Block",
    "Entry",
    "Halves",
    "Identity",
    "LayerGraph",
    "LayerInfo",
    "Output",
    "block_index",
    "build",
    "check_pooling",
    "clean_cuts",
    "cut",
    "cut_network",
    "digest_architecture",
    "digest_weights",
    "find_blocks",
    "has_kernel",
    "identify",
    "import_keras",
    "list_layers",
    "nearest_clean_cuts",
    "needs_top",
    "pool",
    "preprocess",
    "require_clean_cut",
    "resolve",
    "resolve_outputs",
    "split_network",
    "suggest",
]

# A name's module is imported with the name: predicting with a bundle needs none of what builds networks.
__getattr__ = import_on_use(
    __name__,
    {
        "blocks": ("Block", "block_index", "find_blocks", "has_kernel"),
        "identity": ("Identity", "digest_architecture", "identify"),
        "cuts": ("Halves", "LayerGraph", "clean_cuts", "nearest_clean_cuts", "require_clean_cut", "split_network"),
        "layers": ("LayerInfo", "list_layers"),
        "network": ("build", "cut", "cut_network", "needs_top", "pool", "preprocess"),
        "runtime": ("import_keras",),
        "spec": ("BackboneSpec", "Output", "check_pooling", "resolve", "resolve_outputs", "suggest"),
        "table": ("BACKBONES", "Entry"),
        "weights": ("digest_weights",),
    },
)
