"""The cut network as it runs, and as files of a bundle; it is built once and kept beside the features."""

from __future__ import annotations

from pathlib import Path

from featx.backbones import BackboneSpec, CutNetwork, Output, open_network
from featx.config import FeaturesOptions
from featx.engines.choice import compile_graph, effective_precision
from featx.engines.protocol import Engine
from featx.extraction.engine import engine_for
from featx.extraction.extraction import Extraction
from featx.io.files import atomic_path
from featx.store.graph import GraphFolder


def open_engine(
    outputs: tuple[Output, ...], spec: BackboneSpec, options: FeaturesOptions, graphs: GraphFolder, threads: int = 0
) -> Engine:
    """The cut network, ready to run. It is built once: its converted graph and `.keras` file are kept in `graphs`.

    threads : of inference on the CPU; 0 for all cores
    """
    engine = engine_for(spec, options)
    precision = effective_precision(engine, options.precision)
    return compile_graph(
        engine,
        lambda: _save_network(spec, outputs, graphs),
        graphs.converted(_names(outputs)),
        precision,
        options.infer_batch,
        threads,
    )


def _save_network(spec: BackboneSpec, outputs: tuple[Output, ...], graphs: GraphFolder) -> CutNetwork:
    """Build the cut network and, where it can be trained, keep it as a `.keras` file, which bundles are made of."""
    network = open_network(spec)
    model, names = network.cut(outputs), _names(outputs)
    if network.trainable and not graphs.has_network(names):
        with atomic_path(graphs.network(names)) as temporary:
            model.save(temporary)  # type: ignore[union-attr]
    return model


def _names(outputs: tuple[Output, ...]) -> list[str]:
    return [output.name for output in outputs]


def frozen_files(extraction: Extraction, outputs: tuple[Output, ...]) -> dict[str, Path]:
    """The network cut at these outputs as files of a bundle: `graph` where the engine has one, and `backbone.keras`.

    Both are whole: damaged ones are made anew. A graph file has no `backbone.keras`: it cannot be trained.
    """
    graphs, names = extraction.store.graphs, _names(outputs)
    files = {}
    if open_network(extraction.spec).trainable:
        files["backbone.keras"] = graphs.network(names)
        if not graphs.has_network(names):
            _save_network(extraction.spec, outputs, graphs)
    if extraction.engine == "openvino":
        open_engine(outputs, extraction.spec, extraction.options, graphs)  # converts where it has not been
        files["graph"] = graphs.converted(names)
    return files
