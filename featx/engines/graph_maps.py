"""The maps and tokens from which a converted graph's features are pooled, if the graph records them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from featx.backbones.libraries import import_openvino
from featx.engines.graph_files import read_description
from featx.engines.openvino import read_model
from featx.errors import EngineError


class GraphMaps:
    """A graph that gives, beside its features, what they are pooled from.

    Attributes
    ----------
    widths : output name -> features of one image
    shapes : output name -> (n, height, width, channels) or (n, tokens, channels), of those that are pooled from such
    """

    def __init__(self, graph: Path) -> None:
        core, self._description = import_openvino().Core(), read_description(graph)
        model = read_model(core, graph)
        maps = self._description.maps
        try:
            model.add_outputs(sorted({one.tensor for one in maps.values()}))
            self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            ports = {name: self._compiled.output(tensor) for name, tensor in self._description.outputs.items()}
            inner = {name: self._compiled.output(one.tensor) for name, one in maps.items()}
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run {graph}: {str(error).strip().splitlines()[-1]}.") from error
        self._ports, self._maps = ports, inner
        self.widths = {name: prod(_shape(port.partial_shape)[1:]) for name, port in ports.items()}
        self.shapes = {name: _shape(port.partial_shape) for name, port in inner.items()}

    def front(self, output: str) -> int:
        """How many tokens stand in front of those of the patches where it is pooled from tokens."""
        return self._description.maps[output].front

    def infer(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """What the features are pooled from, and the features, by output name, of uint8 (n, height, width, 3)."""
        size = self._description.batch or len(images)
        found = [self._infer(images[start : start + size], size) for start in range(0, len(images), size)]
        maps, features = (
            {name: np.concatenate([one[i][name] for one in found]) for name in found[0][i]} for i in (0, 1)
        )
        return maps, features

    def _infer(self, images: np.ndarray, size: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        given = np.resize(images, (size, *images.shape[1:]))  # a graph of a fixed batch computes some again
        results = self._compiled(given)
        maps, features = (
            {name: np.array(results[port][: len(images)]) for name, port in ports.items()}
            for ports in (self._maps, self._ports)
        )
        return maps, features


def _shape(shape: Sequence[object]) -> tuple[int, ...]:
    """A shape whose first axis may be open, as 0."""
    return tuple(one.get_length() if one.is_static else 0 for one in shape)  # type: ignore[attr-defined]
