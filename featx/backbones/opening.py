"""Open a network from its specification: the one place that knows all kinds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from featx.backbones.graphs.formats import is_graph
from featx.backbones.hub.folder import is_hub_folder
from featx.backbones.protocol import BackboneNetwork
from featx.backbones.spec import BackboneSpec


@lru_cache(maxsize=1)
def open_network(spec: BackboneSpec) -> BackboneNetwork:
    """The network of a spec; nothing is built or read yet.

    The last one is kept, since a network is digested first and then cut, and need not be built for either.
    """
    if spec.entry is None and is_graph(Path(spec.name)):
        from featx.backbones.graphs.network import GraphNetwork

        return GraphNetwork(spec)
    if spec.entry is None and is_hub_folder(Path(spec.name)):
        from featx.backbones.hub.network import HubNetwork

        return HubNetwork(spec)
    from featx.backbones.keras_network import KerasNetwork  # nothing of it is needed where a digest is remembered

    return KerasNetwork(spec)
