"""A graph file as a backbone. See `featx.backbones.protocol.BackboneNetwork`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import prod
from pathlib import Path

from featx.backbones.graphs.cut import CutGraph
from featx.backbones.graphs.cutting import cut_graph
from featx.backbones.graphs.digest import digest_graph
from featx.backbones.graphs.reading import read_graph
from featx.backbones.graphs.structure import Graph, Node, open_graph
from featx.backbones.output import Output
from featx.backbones.preprocessing import Preprocessing
from featx.backbones.protocol import LayerInfo, NetworkDigest, Sizes
from featx.backbones.sidecars import find_preprocessing
from featx.backbones.spec import BackboneSpec
from featx.backbones.values import read_values
from featx.errors import BackboneError

_REARRANGING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Pad", "Convert", "Identity"})
DEFAULT_SIDE = 224  # of a network that takes images of any size


class GraphNetwork:
    """A network that OpenVINO reads and runs; it cannot be trained."""

    trainable = False
    top: tuple[str, ...] = ()

    def __init__(self, spec: BackboneSpec) -> None:
        self.spec = spec

    @cached_property
    def graph(self) -> Graph:
        """The file, looked at with the size of the spec."""
        return open_graph(Path(self.spec.name), self.spec.input_size)

    @property
    def sizes(self) -> Sizes:
        """What the file fixes; any size where it fixes none."""
        return read_sizes(Path(self.spec.name))

    @property
    def preprocessing(self) -> Preprocessing:
        """What it is given."""
        return read_values(self.spec.preprocessing, self.spec.input_size)

    @property
    def trained_with(self) -> Preprocessing | None:
        """What a file beside it says."""
        return find_preprocessing(Path(self.spec.name))

    @property
    def default_layer(self) -> str:
        """The last tensor that is still a map or tokens; where there is none, the last one."""
        usable = [node for node in self.graph.nodes if node.usable and node.clean_cut]
        if not usable:
            raise BackboneError(f"{self.spec.label} has no tensor with a row for each image.")
        rich = [
            node for node in usable if len(node.shape) > 1 and node.channels is not None and prod(node.shape[:-1]) > 1
        ]
        return (rich or usable)[-1].name

    def layers(self, top: bool = True) -> list[LayerInfo]:  # noqa: ARG002 - a graph is one network, whole
        """Every tensor that features can be taken of, in canonical order."""
        ends = {name: block for block, name in self.graph.blocks.items()}
        return [_describe(node, ends.get(node.name, "")) for node in self.graph.nodes if node.usable]

    def digest(self, outputs: Iterable[Output] = ()) -> NetworkDigest:  # noqa: ARG002 - whatever is asked of it
        """Over operations, attributes, edges and constants, never over the file."""
        found = digest_graph(read_graph(Path(self.spec.name))[0])
        return NetworkDigest(found.architecture, found.weights)

    def cut(self, outputs: Sequence[Output]) -> CutGraph:
        """The graph up to the deepest tensor asked for, with preprocessing and poolings."""
        return cut_graph(self.graph, outputs, self.preprocessing.formula, self.spec.prefix_tokens)

    def find_faults(self, outputs: Iterable[Output]) -> dict[Output, BackboneError]:
        """Those of the outputs that `cut` would refuse, and why."""
        faults = {}
        for output in outputs:
            try:
                self.cut((output,))
            except BackboneError as error:
                faults[output] = error
        return faults


def read_sizes(path: Path) -> Sizes:
    """The images that a graph file takes."""
    height, width = read_graph(path)[1].size
    return Sizes((height or DEFAULT_SIDE, width or DEFAULT_SIDE), fixed=height is not None and width is not None)


def _describe(node: Node, ends: str) -> LayerInfo:
    features = {"avg": node.shape[-1], "flatten": prod(node.shape)}
    return LayerInfo(
        name=node.name,
        kind=node.kind,
        shape=node.shape,
        parameters=node.parameters,
        share=node.share,
        features=features,
        clean_cut=node.clean_cut,
        block=node.block,
        branches=bool(ends),
        rearranges=node.kind in _REARRANGING,
    )
