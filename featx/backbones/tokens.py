"""Outputs worth trying of a transformer: class token and average, of the last blocks and the end."""

from __future__ import annotations

from pathlib import Path

from featx.backbones.graphs.cutting import count_prefix
from featx.backbones.hub.folder import is_hub_folder, read_folder
from featx.backbones.listing import list_layers
from featx.backbones.opening import open_network
from featx.backbones.output import Output
from featx.backbones.protocol import LayerInfo
from featx.backbones.spec import BackboneSpec
from featx.io.index import StatIndex

_LAST_BLOCKS = 2  # in front of the last, which differs from the network's end by its normalisation alone


def choose_token_outputs(spec: BackboneSpec, last: str, index: StatIndex | None = None) -> tuple[Output, ...]:
    """The last blocks and the layer `last`, the lowest first, each by its class token and averaged over its patches.

    None of a network that gives maps. Layers without a class token are averaged, and those that give one vector taken.

    Raises
    ------
    BackboneError
        A network that cannot be built or read.
    """
    if spec.entry is not None:
        return ()
    layers = list_layers(spec, index, top=False)
    end = next((place for place, one in enumerate(layers) if one.name == last), None)
    if end is None:
        return ()
    ends = {one.block or one.name: one for one in layers[:end] if _is_block_of_tokens(one)}
    blocks = list(ends.values())
    if not blocks:
        return ()
    chosen = [*blocks[-1 - _LAST_BLOCKS : -1], layers[end]]
    return tuple(Output(one.name, pooling) for one in chosen for pooling in _poolings(spec, one))


def choose_layers_of_tokens(spec: BackboneSpec, index: StatIndex | None = None) -> tuple[str, ...]:
    """LAYER@POOLING of what `choose_token_outputs` finds worth trying in front of the network's default layer."""
    return tuple(one.name for one in choose_token_outputs(spec, open_network(spec).default_layer, index))


def _is_block_of_tokens(layer: LayerInfo) -> bool:
    """Whether a block ends there whose output is tokens (n, channels)."""
    return layer.clean_cut and layer.block.startswith("block") and layer.share > 0 and _count_tokens(layer) > 1


def _count_tokens(layer: LayerInfo) -> int:
    return int(layer.shape[0] or 0) if len(layer.shape) == 2 else 0


def _poolings(spec: BackboneSpec, layer: LayerInfo) -> tuple[str, ...]:
    count = _count_tokens(layer)
    return ("cls", "avg") if count > 1 and _count_in_front(spec, count) else ("avg",)


def _count_in_front(spec: BackboneSpec, tokens: int) -> int:
    """The tokens in front of those of the patches, as far as they are given or can be counted."""
    if spec.prefix_tokens is not None:
        return spec.prefix_tokens
    path = Path(spec.name)
    found = read_folder(path).count_prefix(tokens, spec.input_size) if is_hub_folder(path) else None
    return (count_prefix(tokens) if found is None else found) or 0
