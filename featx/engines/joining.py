"""Join a converted graph and the computation after its features into one OpenVINO graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featx.backbones.graphs.cut import CutGraph
from featx.backbones.libraries import import_openvino
from featx.backbones.runtime import KerasModel
from featx.engines.conversion import to_openvino
from featx.engines.graph_files import read_description
from featx.engines.openvino import read_model


def join_head(graph: Path, outputs: Sequence[str], head: KerasModel) -> CutGraph:
    """The graph of a directory with a head behind it: uint8 (n, height, width, 3) -> the one output of the head.

    outputs : whose features the head takes, side by side
    head : float32 (n, d) -> {name: (n, ...)}

    Raises
    ------
    EngineError
        A graph that cannot be read, a head that OpenVINO cannot convert.
    """
    openvino = import_openvino()
    from openvino import opset13 as ops

    description = read_description(graph)
    network, (above, _) = read_model(openvino.Core(), graph), to_openvino(head, "float32")
    rows = []
    for name in outputs:
        given = network.output(description.outputs[name]).get_node().input_value(0)
        rows.append(ops.reshape(given, np.array([0, -1]), special_zero=True).output(0))
    above.inputs[0].replace(rows[0] if len(rows) == 1 else ops.concat(rows, axis=1).output(0))
    found = above.outputs[0].get_node().input_value(0)
    (name,) = head.output
    result = ops.result(ops.convert(found, "f32").output(0))
    joined = openvino.Model([result], network.get_parameters(), "featx")
    joined.outputs[0].get_tensor().set_names({name})
    return CutGraph(joined, {name: name}, description.batch, description.input_size)
