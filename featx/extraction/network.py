"""The cut network as it runs, and as bundle files; it is built once and kept beside the features."""

from __future__ import annotations

from pathlib import Path

from featx.backbones import BackboneSpec, CutNetwork, Output, open_network
from featx.backbones.keras_files import save_network
from featx.backbones.licenses import license_files
from featx.config import FeaturesOptions
from featx.engines.choice import compile_graph, effective_precision, load_graph
from featx.engines.graph_files import is_sound
from featx.engines.openvino import convert
from featx.engines.protocol import Engine
from featx.engines.quantisation import INT8, take_outputs
from featx.extraction.engine import engine_for
from featx.extraction.extraction import Extraction
from featx.extraction.quantising import Quantising, quantising_of
from featx.io.files import atomic_path
from featx.store.graph import GraphFolder


def open_engine(
    outputs: tuple[Output, ...],
    spec: BackboneSpec,
    options: FeaturesOptions,
    graphs: GraphFolder,
    threads: int = 0,
    quantising: Quantising | None = None,
) -> Engine:
    """The cut network, ready to run. It is built once: its converted graph and `.keras` file are kept in `graphs`.

    threads : of inference on the CPU; 0 for all cores
    quantising : by what an int8 graph is made where it is not there; None where it is
    """
    engine = engine_for(spec, options)
    precision = effective_precision(engine, options.precision)
    if quantising is not None:
        _provide_quantised(_names(outputs), graphs, quantising)
    if precision == INT8:
        return load_graph(graphs.converted(_names(outputs)), precision, options.infer_batch, threads)
    return compile_graph(
        engine,
        lambda: _save_network(spec, outputs, graphs),
        graphs.converted(_names(outputs)),
        precision,
        options.infer_batch,
        threads,
    )


def _provide_quantised(names: list[str], graphs: GraphFolder, quantising: Quantising) -> None:
    """Make sure that the int8 graph of some outputs is there: the whole one is made once, others are parts of it."""
    spec, cut = quantising.spec, quantising.calibration.cut
    wanted, whole = graphs.converted(names), graphs.converted(_names(cut))
    if is_sound(wanted):
        return
    if not is_sound(whole):
        quantising.write(whole, lambda path: convert(_save_network(spec, cut, graphs), path))
    if wanted != whole:
        take_outputs(whole, names, wanted)


def _save_network(spec: BackboneSpec, outputs: tuple[Output, ...], graphs: GraphFolder) -> CutNetwork:
    """Build the cut network and, where it can be trained, keep it as a `.keras` file, which bundles are made of."""
    network = open_network(spec)
    model, names = network.cut(outputs), _names(outputs)
    if network.trainable and not graphs.has_network(names):
        with atomic_path(graphs.network(names)) as temporary:
            save_network(model, temporary)
    return model


def _names(outputs: tuple[Output, ...]) -> list[str]:
    return [output.name for output in outputs]


def frozen_files(extraction: Extraction, outputs: tuple[Output, ...]) -> dict[str, Path]:
    """The network cut at these outputs as files of a bundle: `graph` where the engine has one, and `backbone.keras`.

    Both are whole: damaged ones are made anew. A graph file has no `backbone.keras`: it cannot be trained. With them go
    the texts of the weights' licence.
    """
    graphs, names = extraction.store.graphs, _names(outputs)
    graph: dict[str, Path] = {}
    network: dict[str, Path] = {}
    if extraction.engine == "openvino":
        made_by = quantising_of(extraction.calibration, extraction.request, extraction.spec)
        open_engine(outputs, extraction.spec, extraction.options, graphs, 0, made_by)  # converts where it has not been
        graph["graph"] = graphs.converted(names)
    if open_network(extraction.spec).trainable:
        network["backbone.keras"] = graphs.network(names)
        if not graphs.has_network(names):  # what is converted is kept as well
            _save_network(extraction.spec, outputs, graphs)
    return network | graph | license_files(extraction.spec)
