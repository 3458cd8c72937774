"""Layers of one network called in another: as many calls as a layer remembers, so many outputs it has."""

from __future__ import annotations

from featx.backbones.runtime import KerasModel


def forget_calls(network: KerasModel) -> None:
    """Let the next call of each layer be its first, so that the layer's output is that of the network made by it.

    So a network's layers become those of a second network, which need not be built; the first one is then of no use.
    """
    for layer in network.operations:
        layer._inbound_nodes.clear()
        layer._outbound_nodes.clear()
