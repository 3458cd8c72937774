"""OpenVINO's intermediate representation: `model.xml` and `model.bin`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones.graphs.cut import CutGraph
from featx.backbones.libraries import import_openvino
from featx.engines.conversion import to_openvino
from featx.export.network import INPUT, OUTPUT

if TYPE_CHECKING:
    import keras

    from featx.export.formats import Runner


def convert(
    network: keras.Model | CutGraph,
    path: Path,
    precision: str,
    images: np.ndarray,  # noqa: ARG001
) -> None:
    """Write the network, Keras' or a graph of OpenVINO's, taking uint8; float16 halves the weights."""
    converted = network.model if isinstance(network, CutGraph) else to_openvino(network)[0]
    converted.inputs[0].get_tensor().set_names({INPUT})
    converted.outputs[0].get_tensor().set_names({OUTPUT})
    import_openvino().save_model(converted, path, compress_to_fp16=precision == "float16")


def load(path: Path) -> Runner:
    """Run the files in OpenVINO on the CPU, computing in float32."""
    compiled = import_openvino().Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    output = compiled.output(OUTPUT)
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(request.infer({INPUT: images})[output])

    return run
