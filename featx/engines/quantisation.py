"""int8: quantise a converted graph with NNCF on calibration images.

Weights are rounded one by one and the ranges of what flows between layers are measured on images ("post-training
quantisation"). The result is a graph like any other: it needs NNCF no more, and runs on every processor.
"""

from __future__ import annotations

import importlib.util
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.backbones.graphs.cut import CutGraph
from featx.backbones.libraries import import_openvino
from featx.engines.graph_files import read_description
from featx.engines.openvino import read_model, write_graph
from featx.errors import EngineError
from featx.io.lazy import hidden

if TYPE_CHECKING:
    import openvino

INT8 = "int8"
_UNEVEN = {"Swish", "HSwish", "Gelu", "Sigmoid", "HSigmoid", "HardSigmoid", "Elu", "Selu", "PRelu", "Mish"}
_POOLINGS = {"AvgPool", "AdaptiveAvgPool", "ReduceMean", "ReduceSum", "ReduceMax", "MaxPool", "Concat"}
_ROUNDED = {"Convolution", "GroupConvolution", "MatMul"}  # with the weights that int8 is for
_SENSITIVE = (
    ("Add", "Subtract", "Multiply", "Divide", "Power", "ReduceMean", "AvgPool", "MVN"),
    ("GroupConvolution",),
    ("MatMul",),
)
"""Kinds of layers that lose most by rounding, for the least that they cost, and after them those that cost more"""


def require_nncf() -> None:
    """Refuse to quantise where NNCF is not installed.

    Raises
    ------
    EngineError
        Says what to type.
    """
    if importlib.util.find_spec("nncf") is None:
        raise EngineError(
            "NNCF, which quantises a network for --precision int8, is not installed here. Type: "
            "pip install 'featx[int8]'"
        )


def quantise(graph: Path, batches: Callable[[int], Iterable[np.ndarray]], count: int, left: Sequence[str]) -> CutGraph:
    """The graph of a directory with weights and activations in int8.

    batches : of as many images as it is given, uint8 (n, height, width, 3); they are gone through several times
    count : images; left : kinds of layers, as OpenVINO calls them, that stay in float32

    Raises
    ------
    EngineError
        No NNCF, a graph that cannot be read, or one that NNCF cannot quantise.
    """
    require_nncf()
    description, model = read_description(graph), read_model(import_openvino().Core(), graph)
    kinds, size = _kinds(model), description.batch or 1
    with _silent_nncf() as nncf:
        transformer = bool(kinds["ScaledDotProductAttention"] or kinds["Softmax"] > 1)
        preset = nncf.QuantizationPreset.MIXED if transformer or _UNEVEN & kinds.keys() else None
        try:
            found = nncf.quantize(
                model,
                nncf.Dataset(_Again(batches, size)),
                preset=preset,
                subset_size=-(-count // size),
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                ignored_scope=nncf.IgnoredScope(names=_last_poolings(model), types=list(left), validate=False),
            )
        except (nncf.ValidationError, nncf.UnsupportedModelError, nncf.InternalError, RuntimeError) as error:
            raise EngineError(
                f"NNCF cannot quantise this network: {' '.join(str(error).split())}. Choose another --precision."
            ) from error
    return CutGraph(found, description.outputs, description.batch, description.input_size, description.maps)


def kinds_to_leave(graph: Path) -> list[tuple[str, ...]]:
    """Kinds of layers of a graph that may stay in float32, a longer list after the other, beginning with none."""
    kinds = _kinds(read_model(import_openvino().Core(), graph))
    lists: list[tuple[str, ...]] = [()]
    for group in _SENSITIVE:
        left = (*lists[-1], *(kind for kind in group if kinds[kind]))
        if left != lists[-1] and (_ROUNDED & kinds.keys()) - set(left):  # else nothing would be int8
            lists.append(left)
    return lists


def take_outputs(graph: Path, names: Sequence[str], target: Path) -> None:
    """Write the graph of a directory with some of its outputs only, whose numbers stay what they are."""
    openvino = import_openvino()
    description, model = read_description(graph), read_model(openvino.Core(), graph)
    tensors = {name: description.outputs[name] for name in names}
    results = [model.output(tensor).get_node() for tensor in tensors.values()]
    taken = openvino.Model(results, model.get_parameters(), "featx")
    maps = {name: one for name, one in description.maps.items() if name in tensors}
    write_graph(CutGraph(taken, tensors, description.batch, description.input_size, maps), target)


def _last_poolings(model: openvino.Model) -> list[str]:
    """The names of poolings behind the last layer with weights, which stay in float32.

    Rounding in front of them gains nothing, and OpenVINO rounds their averages too where something follows them: an
    exported model would not answer as the bundle does.
    """
    found, left = set(), [one.get_node() for one in model.outputs]
    seen = set()
    while left:
        node = left.pop()
        name, kind = node.get_friendly_name(), node.get_type_name()
        if name in seen or kind in _ROUNDED or kind == "Add":
            continue
        seen.add(name)
        if kind in _POOLINGS:
            found.add(name)
        left += [one.get_source_output().get_node() for one in node.inputs()]
    return sorted(found)


def _kinds(model: openvino.Model) -> Counter[str]:
    return Counter(one.get_type_name() for one in model.get_ops())


class _Again:
    """Batches that can be gone through as often as NNCF wants."""

    def __init__(self, batches: Callable[[int], Iterable[np.ndarray]], size: int) -> None:
        self._batches, self._size = batches, size

    def __iter__(self) -> Iterator[np.ndarray]:
        for batch in self._batches(self._size):
            yield np.resize(batch, (self._size, *batch.shape[1:]))  # the last may be short of a graph's fixed number


@contextmanager
def _silent_nncf() -> Iterator[Any]:
    """NNCF without its lines on the standard output, which is for results, and without its telemetry."""
    with hidden("openvino_telemetry"), redirect_stdout(io.StringIO()):  # featx sends nothing anywhere
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function alters handlers that others share
        yield nncf
