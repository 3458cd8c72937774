"""From what was decided of a network to the network itself: the one place that knows which kinds there are."""

from __future__ import annotations

from functools import lru_cache

from featx.backbones.protocol import BackboneNetwork
from featx.backbones.spec import BackboneSpec


@lru_cache(maxsize=1)
def open_network(spec: BackboneSpec) -> BackboneNetwork:
    """The network of a spec; nothing is built or read yet.

    The last one is kept, since a network is digested first and then cut, and need not be built for either.
    """
    from featx.backbones.keras_network import KerasNetwork  # nothing of it is needed where a digest is remembered

    return KerasNetwork(spec)
