"""Convert a Keras network to OpenVINO."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from featx.backbones.libraries import import_openvino
from featx.backbones.runtime import KerasModel
from featx.errors import EngineError
from featx.io.lazy import hidden

if TYPE_CHECKING:
    import openvino


def to_openvino(model: KerasModel, takes: str = "uint8") -> tuple[openvino.Model, dict[str, str]]:
    """An `openvino.Model`, and which of its tensors is which output of the Keras model.

    takes : the type of what it is given

    Raises
    ------
    EngineError
        A network that OpenVINO cannot convert.
    """
    from featx.engines.freeze import freeze_for_others  # of no use to who predicts

    openvino = import_openvino()
    with hidden("openvino_telemetry"):  # featx sends nothing anywhere
        from openvino.tools.ovc import convert_model

    frozen = freeze_for_others(model, takes)
    front = openvino.frontend
    try:
        with _without_exec(), _without_telemetry():
            converted = convert_model(frozen.function.graph)
    except (front.OpConversionFailure, front.NotImplementedFailure, front.GeneralFailure) as error:
        raise EngineError(f"OpenVINO cannot convert this network: {error}.") from error
    return converted, _find_outputs(converted, frozen.outputs)


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Nothing is sent anywhere, and no process forked to send it, where the converter was imported by someone else."""
    from openvino.tools.ovc import convert_impl, telemetry_stub, telemetry_utils

    kept = {module: module.tm for module in (convert_impl, telemetry_utils)}
    for module in kept:
        module.tm = telemetry_stub
    try:
        yield
    finally:
        for module, telemetry in kept.items():
            module.tm = telemetry


@contextmanager
def _without_exec() -> Iterator[None]:
    """Answer OpenVINO's question for TensorFlow's version in its place.

    It asks by `exec("import tensorflow")` and `exec("del tensorflow")` in a function, of which Python 3.13 refuses the
    second (PEP 667): seen with OpenVINO 2026.4.
    """
    from openvino.frontend.tensorflow import utils

    asks = utils.get_environment_setup
    utils.get_environment_setup = lambda _: {"tensorflow": sys.modules["tensorflow"].__version__}
    try:
        yield
    finally:
        utils.get_environment_setup = asks


def _find_outputs(converted: openvino.Model, outputs: dict[str, str]) -> dict[str, str]:
    """Name every output tensor after its node in the frozen graph, and say which is which output."""
    tensors = {}
    for name, node in outputs.items():
        found = [o for o in converted.outputs if {node, f"{node}:0"} & set(o.get_names())]
        if len(found) != 1:
            known = sorted(n for o in converted.outputs for n in o.get_names())
            raise EngineError(f"The converted graph has no output {node} for {name}; it has {', '.join(known)}.")
        found[0].get_tensor().set_names({node})
        tensors[name] = node
    return tensors
