"""A KerasHub network as a backbone. See `featx.backbones.protocol.BackboneNetwork`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from featx.backbones.hub.folder import OUTPUT, folder_files, has_weights, read_folder
from featx.backbones.keras_network import KerasNetwork
from featx.backbones.preprocessing import Preprocessing
from featx.backbones.protocol import LayerInfo, Sizes
from featx.backbones.sidecars import find_preprocessing


class HubNetwork(KerasNetwork):
    """A folder's network, built by KerasHub: cut, listed and trained as every network of Keras."""

    top: tuple[str, ...] = ()

    @property
    def sizes(self) -> Sizes:
        """Any whole number of patches."""
        folder = read_folder(Path(self.spec.name))
        return Sizes(folder.default_size, folder.patch or 1)

    @property
    def trained_with(self) -> Preprocessing | None:
        """What a file of the folder says."""
        return find_preprocessing(Path(self.spec.name))

    @property
    def default_layer(self) -> str:
        """The last layer: normalised tokens, a map, or a pooled vector."""
        return OUTPUT

    def layers(self, top: bool = True) -> list[LayerInfo]:
        """As of any network of Keras; the configuration alone is enough for that."""
        if self.spec.weights == "random" or has_weights(Path(self.spec.name)):
            return super().layers(top)
        return HubNetwork(replace(self.spec, weights="random")).layers(top)

    def _paths(self) -> list[Path]:
        return folder_files(Path(self.spec.name))
