"""Choose the engine that runs a network."""

from __future__ import annotations

from featx.backbones import BackboneSpec, open_network
from featx.config import FeaturesOptions
from featx.engines.choice import choose_engine
from featx.errors import UsageError


def engine_for(spec: BackboneSpec, options: FeaturesOptions) -> str:
    """The engine that the options ask for; a graph file runs on OpenVINO alone.

    Raises
    ------
    UsageError
        TensorFlow for a graph file.
    EngineError
        An engine that is not installed.
    """
    if open_network(spec).trainable:
        return choose_engine(options.engine)
    if options.engine == "tensorflow":
        raise UsageError(f"{spec.label} is a graph file, which OpenVINO runs. Leave out --engine tensorflow.")
    return choose_engine("openvino")
