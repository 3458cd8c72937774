"""The interface of a network for everything above: list its outputs, identify it by content, cut it.

`featx.backbones.opening.open_network` gives the network of a `BackboneSpec`. The store, heads, bundles and all that
follows know nothing of where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, TypeAlias

from featx.backbones.graphs.cut import CutGraph
from featx.backbones.output import Output
from featx.backbones.preprocessing import Preprocessing
from featx.backbones.runtime import KerasModel
from featx.backbones.spec import BackboneSpec
from featx.errors import BackboneError
from featx.io.jsontypes import Json

CutNetwork: TypeAlias = "KerasModel | CutGraph"
"""What an engine compiles and a bundle keeps: from float32 (n, height, width, 3), RGB in [0, 255], to
{output name: float32 (n, ...)}, with preprocessing and poolings inside; a graph takes uint8"""


@dataclass(frozen=True)
class NetworkDigest:
    """SHA-256 of what a network computes and of its constants, as hexadecimal text."""

    architecture: str
    weights: str


@dataclass(frozen=True)
class Sizes:
    """Which images a network takes.

    default : (height, width) in pixels, where nobody asks for another
    minimum : the smallest side; 1 where it is not known
    fixed : whether the default is the only one
    """

    default: tuple[int, int]
    minimum: int = 1
    fixed: bool = False


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a network.

    kind : its class or operation
    shape : of its output for one image
    share : multiply-adds of this layer and all that it needs, as a part of the network's without its top
    features : features per image by pooling: {"avg": channels, "flatten": all}
    clean_cut : whether its output is the one tensor that crosses from below to above
    top : whether it belongs to the classification top
    block : the block it belongs to; see `featx.backbones.blocks`
    branches : whether several layers take what it gives
    rearranges : whether it only pads, rearranges or scales numbers
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    parameters: int
    share: float
    features: Mapping[str, int]
    clean_cut: bool
    top: bool = False
    block: str = ""
    branches: bool = False
    rearranges: bool = False

    def as_json(self) -> dict[str, Json]:
        """One entry of `featx layers --json`."""
        kept = {name: value for name, value in asdict(self).items() if name not in {"branches", "rearranges"}}
        return kept | {"shape": list(self.shape)}


class BackboneNetwork(Protocol):
    """A frozen network, wherever it came from. Properties cost nothing; methods build it or read its file."""

    @property
    def spec(self) -> BackboneSpec:
        """What was decided of it."""
        ...

    @property
    def trainable(self) -> bool:
        """Whether it can be fine-tuned."""
        ...

    @property
    def sizes(self) -> Sizes:
        """The images that it takes."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """What it is given."""
        ...

    @property
    def trained_with(self) -> Preprocessing | None:
        """What it should be given; None where nobody knows."""
        ...

    @property
    def default_layer(self) -> str:
        """Where features are taken where nobody asks for another layer."""
        ...

    @property
    def top(self) -> tuple[str, ...]:
        """Names of the layers of its classification top, none without one."""
        ...

    def layers(self, top: bool = True) -> list[LayerInfo]:
        """Every layer in the network's order, those of the classification top last, or left out.

        Raises
        ------
        BackboneError
            A network that cannot be built or read.
        """
        ...

    def digest(self, outputs: Iterable[Output] = ()) -> NetworkDigest:
        """What its features depend on; with that of its top where an output is of the top.

        Raises
        ------
        BackboneError
            As `cut`, but for unknown layers and poolings.
        """
        ...

    def cut(self, outputs: Sequence[Output]) -> CutNetwork:
        """The network up to the deepest layer asked for, with preprocessing and poolings; nothing behind it runs.

        Raises
        ------
        BackboneError
            An unknown layer, a pooling that the layer's output does not have, weights that cannot be had or do not
            fit, a network that cannot be built.
        """
        ...

    def find_faults(self, outputs: Iterable[Output]) -> dict[Output, BackboneError]:
        """Those of the outputs that `cut` would refuse, and why; the weights are not needed for that."""
        ...
