"""The whole model of a bundle fitted on a graph file: graph and head as one OpenVINO graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.backbones import import_keras
from featx.backbones.graphs.cut import CutGraph
from featx.bundle.bundle import Bundle
from featx.engines.graph_files import read_description
from featx.engines.joining import join_head
from featx.errors import ExportError
from featx.export.network import OUTPUT, calibrated
from featx.finetune.grafting import graft_head

if TYPE_CHECKING:
    import keras


def require_exportable(bundle: Bundle, formats: list[str]) -> None:
    """Refuse formats that the network of a graph file cannot be written in.

    Raises
    ------
    ExportError
        Says what works.
    """
    others = [name for name in formats if name != "openvino"]
    if others:
        raise ExportError(
            f"{bundle.shown} was fitted on a graph file, which is kept as OpenVINO's: it cannot be written as "
            f"{' or '.join(others)}. Choose --format openvino, or send the bundle itself: featx bundle pack writes "
            "one file."
        )
    fixed = read_description(bundle.path / "graph").batch
    if fixed is not None:
        raise ExportError(
            f"The network of {bundle.shown} is fixed to {fixed} {'image' if fixed == 1 else 'images'} at once, and an "
            "export takes any number. Write the graph file with an open first axis and fit on that, or send the bundle "
            "itself: featx bundle pack writes one file."
        )


def join_graph(bundle: Bundle) -> CutGraph:
    """Network, head and calibration as one graph, which gives the probabilities of `Bundle.probabilities`."""
    return join_head(bundle.path / "graph", bundle.manifest.output_names, _head_network(bundle))


def _head_network(bundle: Bundle) -> keras.Model:
    """Transform, head and calibration as a Keras network: features float32 (n, d) -> probabilities."""
    keras = import_keras()
    features = keras.Input((bundle.manifest.head.features,), name="features")
    return keras.Model(features, {OUTPUT: calibrated(bundle.calibration, graft_head(bundle, features))})
