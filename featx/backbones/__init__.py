"""Backbones: frozen Keras networks, cut at the layers that features are taken from.

`resolve` and `resolve_outputs` decide what is wanted, without TensorFlow. `identify` says who it is, from memory where
it can. `build` makes the whole network, `cut` the part of it that runs; `list_layers` shows what there is to choose,
`split_network` takes a network apart.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    from featx.backbones.spec import BackboneSpec, Output, check_pooling, resolve, resolve_outputs, suggest
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
_HOMES = {
    "Block": "blocks",
    "block_index": "blocks",
    "find_blocks": "blocks",
    "has_kernel": "blocks",
    "Identity": "identity",
    "digest_architecture": "identity",
    "identify": "identity",
    "Halves": "cuts",
    "LayerGraph": "cuts",
    "clean_cuts": "cuts",
    "nearest_clean_cuts": "cuts",
    "require_clean_cut": "cuts",
    "split_network": "cuts",
    "LayerInfo": "layers",
    "list_layers": "layers",
    "build": "network",
    "cut": "network",
    "cut_network": "network",
    "needs_top": "network",
    "pool": "network",
    "preprocess": "network",
    "import_keras": "runtime",
    "BackboneSpec": "spec",
    "Output": "spec",
    "check_pooling": "spec",
    "resolve": "spec",
    "resolve_outputs": "spec",
    "suggest": "spec",
    "BACKBONES": "table",
    "Entry": "table",
    "digest_weights": "weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
