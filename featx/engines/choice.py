"""Engines: what runs a frozen graph.

An engine takes uint8 images and gives the features of every output by name. The table has one row per engine; each
lives in its own module, which imports its library when it is used. `auto` decides without importing either.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.engines.graph_files import read_size
from featx.errors import EngineError, UsageError

if TYPE_CHECKING:
    from featx.backbones.protocol import CutNetwork
    from featx.engines.protocol import Engine

PRECISIONS = ("float32", "bfloat16", "float16", "int8")


@dataclass(frozen=True)
class EngineRow:
    """One engine of the table: its library, the module that drives it, and how to install it."""

    library: str
    module: str
    install: str


ENGINES: Mapping[str, EngineRow] = {
    "openvino": EngineRow("openvino", "featx.engines.openvino", "pip install openvino"),
    "tensorflow": EngineRow("tensorflow", "featx.engines.tensorflow", "pip install tensorflow"),
}


def choose_engine(option: str) -> str:
    """The engine's name; "auto" is OpenVINO where it is installed and no GPU is usable, else TensorFlow.

    Raises
    ------
    UsageError
        An unknown engine.
    EngineError
        An engine whose library is not installed.
    """
    if option == "auto":
        return "openvino" if _installed("openvino") and not has_gpu() else "tensorflow"
    if option not in ENGINES:
        raise UsageError(f"No engine {option!r}. Choose one of auto, {', '.join(ENGINES)}.")
    if not _installed(option):
        raise EngineError(f"The engine {option} is not installed here. {ENGINES[option].install}, or --engine auto.")
    return option


def _installed(engine: str) -> bool:
    return importlib.util.find_spec(ENGINES[engine].library) is not None


def has_gpu() -> bool:
    """Whether TensorFlow could use a GPU: a visible NVIDIA device and the CUDA libraries it needs."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return False
    if not any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")):
        return False
    import ctypes.util  # it brings subprocess along

    # cuDNN comes with tensorflow[and-cuda] as a package, or with the system
    return importlib.util.find_spec("nvidia") is not None or ctypes.util.find_library("cudnn") is not None


def effective_precision(engine: str, precision: str) -> str:
    """The arithmetic that the engine will use on this machine when asked for `precision`.

    Raises
    ------
    UsageError
        An unknown precision.
    EngineError
        A precision that the engine does not have on this processor.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"No precision {precision!r}. Choose one of {', '.join(PRECISIONS)}.")
    if precision != "float32":
        _module(engine).require_precision(precision)
    return precision


def compile_graph(
    engine: str,
    make_model: Callable[[], CutNetwork],
    graph: Path,
    precision: str,
    batch_size: int = 0,
    threads: int = 0,
) -> Engine:
    """A cut network ready to run.

    make_model : builds the network (float32 (n, h, w, 3) in [0, 255] -> {name: tensor}); called only when needed
    graph : a directory; OpenVINO keeps its converted graph there, whole or not at all, and reuses it without
        TensorFlow. TensorFlow keeps nothing.
    batch_size : images per inference, 0 for the engine's default
    threads : on the CPU, 0 for all cores; fewer where other processes compute beside this one. TensorFlow heeds it
        only where it has not run yet.

    Raises
    ------
    EngineError
        A precision this machine does not have, or a graph that cannot be converted or read.
    """
    effective_precision(engine, precision)
    compiled: Engine = _module(engine).compile_graph(make_model, graph, precision, batch_size, threads)
    return compiled


def load_graph(graph: Path, precision: str, batch_size: int = 0, threads: int = 0) -> Engine:
    """The engine of a graph that OpenVINO converted earlier, without TensorFlow.

    threads : 0 for all cores

    Raises
    ------
    EngineError
        OpenVINO is not installed, or the directory holds no whole graph.
    """
    choose_engine("openvino")
    effective_precision("openvino", precision)
    loaded: Engine = _module("openvino").load_graph(graph, precision, batch_size, threads)
    return loaded


def graph_size(graph: Path) -> tuple[int, int]:
    """(height, width) of the images that a converted graph takes. Raises as `load_graph` does."""
    choose_engine("openvino")
    return read_size(graph)


def _module(engine: str) -> Any:
    choose_engine(engine)
    return importlib.import_module(ENGINES[engine].module)
