"""The layers of a network, remembered, since building or reading one takes seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from featx.backbones.identity import memory_key
from featx.backbones.opening import open_network
from featx.backbones.protocol import LayerInfo
from featx.backbones.spec import BackboneSpec
from featx.io.digests import digest_json
from featx.io.index import StatIndex

_LISTING = 3  # which keys a remembered listing has, and how its values are computed


def list_layers(spec: BackboneSpec, index: StatIndex | None = None, top: bool = True) -> list[LayerInfo]:
    """Every layer of the network, as `BackboneNetwork.layers` gives them.

    index : what is remembered; None to build the network in any case
    top : whether those of the classification top are among them

    Raises
    ------
    BackboneError
        A network that cannot be built or read.
    """
    if index is None:
        return open_network(spec).layers(top)
    key = digest_json([memory_key(spec, index, top), _LISTING])
    known: list[dict[str, Any]] | None = index.recall("layers", key)
    if known is not None:
        return [LayerInfo(**one | {"shape": tuple(one["shape"])}) for one in known]
    found = open_network(spec).layers(top)
    for libraries in (True, False):
        key = digest_json([memory_key(spec, index, top, libraries), _LISTING])
        index.remember("layers", key, [asdict(one) for one in found])
    return found


def recall_layers(spec: BackboneSpec, index: StatIndex) -> list[str]:
    """The names of the network's layers as far as they were listed before; nothing is built for it."""
    key = digest_json([memory_key(spec, index, False), _LISTING])
    whole = digest_json([memory_key(spec, index, True), _LISTING])
    known: list[dict[str, Any]] = index.recall("layers", key) or index.recall("layers", whole) or []
    return [str(one["name"]) for one in known if not one["top"]]


@dataclass(frozen=True)
class LayerDepth:
    """A layer through which everything passes, and how deep it lies.

    share : as in `LayerInfo`
    ends : whether a block ends there, or the network branches: all that is between two of these is one step
    """

    name: str
    share: float
    ends: bool


def list_depths(spec: BackboneSpec, index: StatIndex) -> list[LayerDepth]:
    """The layers that the network can be cut at, the lowest first, up to the one that features come from by default.

    Layers that only rearrange, pad or scale pixels are left out.

    Raises
    ------
    BackboneError
        A network that cannot be built or read.
    """
    layers = list_layers(spec, index, top=False)
    last = open_network(spec).default_layer
    count = next((place for place, one in enumerate(layers, 1) if one.name == last), len(layers))
    kept = [one for one in layers[:count] if one.clean_cut and not one.rearranges]
    ends = {one.block: one.name for one in kept}  # the last of each block
    return [LayerDepth(one.name, one.share, one.branches or ends[one.block] == one.name) for one in kept]
