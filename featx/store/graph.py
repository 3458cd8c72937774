"""Where cut networks are kept beside their features: each as a `.keras` file, and as the graph of an engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from featx.io.digests import digest_json


@dataclass(frozen=True)
class GraphFolder:
    """The cut networks of a store, one for each choice of layers and poolings (`layer@pooling`)."""

    directory: Path

    def network(self, outputs: Iterable[str]) -> Path:
        """The `.keras` file of the network that ends in these outputs, which bundles are made of."""
        return self.directory / f"{_name(outputs)}.keras"

    def converted(self, outputs: Iterable[str]) -> Path:
        """The folder of its graph as an engine has converted it."""
        return self.directory / _name(outputs)


def _name(outputs: Iterable[str]) -> str:
    return digest_json(list(outputs))[:16]
