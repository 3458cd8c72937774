"""Backbones: frozen networks, cut at the layers that features are taken from.

`resolve` and `resolve_outputs` decide what is wanted, without TensorFlow. `identify` gives what the network is, from
memory where it can; `open_network` gives the network itself, which lists its layers and is cut at some of them;
`split_network` takes a Keras model apart.
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
    from featx.backbones.identity import Identity, identify
    from featx.backbones.listing import LayerDepth, list_depths, list_layers
    from featx.backbones.opening import open_network
    from featx.backbones.output import Output, check_pooling
    from featx.backbones.pooling import cell_shares, pool
    from featx.backbones.preprocessing import FORMULAS, Formula, Preprocessing
    from featx.backbones.protocol import BackboneNetwork, CutNetwork, LayerInfo, NetworkDigest, Sizes
    from featx.backbones.runtime import import_keras
    from featx.backbones.spec import BackboneSpec, resolve, resolve_outputs
    from featx.backbones.table import BACKBONES, BackboneEntry

__all__ = [
    "BACKBONES",
    "FORMULAS",
    "BackboneEntry",
    "BackboneNetwork",
    "BackboneSpec",
    "Block",
    "CutNetwork",
    "Formula",
    "Halves",
    "Identity",
    "LayerDepth",
    "LayerGraph",
    "LayerInfo",
    "NetworkDigest",
    "Output",
    "Preprocessing",
    "Sizes",
    "block_index",
    "cell_shares",
    "check_pooling",
    "clean_cuts",
    "find_blocks",
    "has_kernel",
    "identify",
    "import_keras",
    "list_depths",
    "list_layers",
    "nearest_clean_cuts",
    "open_network",
    "pool",
    "require_clean_cut",
    "resolve",
    "resolve_outputs",
    "split_network",
]

# A name's module is imported with the name: predicting with a bundle needs none of what builds networks.
__getattr__ = import_on_use(
    __name__,
    {
        "blocks": ("Block", "block_index", "find_blocks", "has_kernel"),
        "cuts": ("Halves", "LayerGraph", "clean_cuts", "nearest_clean_cuts", "require_clean_cut", "split_network"),
        "identity": ("Identity", "identify"),
        "listing": ("LayerDepth", "list_depths", "list_layers"),
        "opening": ("open_network",),
        "pooling": ("cell_shares", "pool"),
        "preprocessing": ("FORMULAS", "Formula", "Preprocessing"),
        "protocol": ("BackboneNetwork", "CutNetwork", "LayerInfo", "NetworkDigest", "Sizes"),
        "runtime": ("import_keras",),
        "output": ("Output", "check_pooling"),
        "spec": ("BackboneSpec", "resolve", "resolve_outputs"),
        "table": ("BACKBONES", "BackboneEntry"),
    },
)
