"""Backbones: frozen Keras networks, cut at the layers that features are taken from.

`resolve` and `resolve_outputs` decide what is wanted, without TensorFlow. `identify` says who it is, from memory where
it can. `build` makes the whole network, `cut` the part of it that runs; `list_layers` shows what there is to choose.
"""

from __future__ import annotations

from featx.backbones.identity import Identity, digest_architecture, identify
from featx.backbones.layers import LayerGraph, LayerInfo, list_layers, nearest_clean_cuts
from featx.backbones.network import build, cut, cut_network, needs_top, pool, preprocess
from featx.backbones.runtime import import_keras
from featx.backbones.spec import BackboneSpec, Output, check_pooling, resolve, resolve_outputs
from featx.backbones.table import BACKBONES, Entry
from featx.backbones.weights import digest_weights

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "Entry",
    "Identity",
    "LayerGraph",
    "LayerInfo",
    "Output",
    "build",
    "check_pooling",
    "cut",
    "cut_network",
    "digest_architecture",
    "digest_weights",
    "identify",
    "import_keras",
    "list_layers",
    "nearest_clean_cuts",
    "needs_top",
    "pool",
    "preprocess",
    "resolve",
    "resolve_outputs",
]
