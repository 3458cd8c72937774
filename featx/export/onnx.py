"""ONNX: one `.onnx` file, which runs in ONNX Runtime and is the way into most other runtimes.

tf2onnx writes what it does not know into the file as it is, without an error, and nothing can load it. Of Keras'
networks that concerns grouped convolutions, which Keras has XLA compile, and the complementary error function of GELU,
as in ConvNeXt; so the graph is frozen and inlined first, and the function is converted here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones.runtime import TensorFlow
from featx.engines.freeze import freeze_for_others
from featx.export.network import INPUT, OUTPUT
from featx.io.temporary import temporary_folder

if TYPE_CHECKING:
    import keras
    import onnx
    import tf2onnx

    from featx.export.formats import Runner

OPSET = 17  # read by every ONNX Runtime since 1.12, of 2022


def convert(network: keras.Model, path: Path, precision: str, images: np.ndarray) -> None:
    """Write the network, taking uint8.

    precision : float16 holds weights and computes in float16; int8 has convolutions compute in whole numbers, whose
        ranges are measured on `images`
    """
    import onnx

    model = _to_onnx(network)
    if precision == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True)
    if precision == "int8":
        _quantize(model, path, images)
    else:
        onnx.save_model(model, path)


def _to_onnx(network: keras.Model) -> onnx.ModelProto:
    """Simplified in place; of what cannot be, each step on a copy, as tf2onnx does it and takes twice as long for."""
    function = freeze_for_others(network).function
    try:
        with _settings(TF2ONNX_CATCH_ERRORS="FALSE"):
            return _converted(function)
    except Exception:  # a step raises whatever it likes, and is left out then
        return _converted(function)


@contextmanager
def _settings(**settings: str) -> Iterator[None]:
    """With these in the environment, and what was there afterwards."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name, None)
            if text is not None:
                os.environ[name] = text


def _converted(function: TensorFlow) -> onnx.ModelProto:
    import tf2onnx

    taken, given = function.inputs[0].name, function.outputs[0].name
    model, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(),
        name="featx",
        input_names=[taken],
        output_names=[given],
        tensors_to_rename={taken: INPUT, given: OUTPUT},
        custom_op_handlers={"Erfc": (_convert_erfc, [])},
        opset=OPSET,
    )
    return model


def _convert_erfc(graph: tf2onnx.graph.Graph, node: tf2onnx.graph.Node, name: str, _: object) -> None:
    """1 - erf(x): tf2onnx does not know the complementary error function, of which Keras makes GELU."""
    import tf2onnx

    shapes, types, outputs, inputs = node.output_shapes, node.output_dtypes, node.output, node.input
    one = graph.make_const(tf2onnx.utils.make_name("one"), np.array(1, np.float32)).output[0]
    graph.remove_node(name)
    erf = graph.make_node("Erf", inputs, shapes=shapes, dtypes=types).output[0]
    graph.make_node("Sub", [one, erf], name=name, outputs=outputs, shapes=shapes, dtypes=types)


def _quantize(model: onnx.ModelProto, path: Path, images: np.ndarray) -> None:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with temporary_folder() as folder:
        whole, prepared = (folder / name for name in ("whole.onnx", "prepared.onnx"))
        onnx.save_model(model, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            _Reader(images),
            op_types_to_quantize=["Conv"],  # what takes the time; 256 levels of pooled features are too few for a head
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


class _Reader:
    """Images one by one, as ONNX Runtime asks for them."""

    def __init__(self, images: np.ndarray) -> None:
        self._images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}


def load(path: Path) -> Runner:
    """Run the file in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([OUTPUT], {INPUT: images})[0])

    return run
