"""OpenVINO: the fastest engine on a CPU, and the one that needs no TensorFlow once the graph is converted.

The converted graph is a directory of three files: `graph.xml` and `graph.bin`, OpenVINO's own, and `graph.json`, which
says which of its tensors is which output, and holds the digests of the other two (`graph_files`). OpenVINO keeps no
order of outputs that could be relied on (beyond ten they come back in alphabetical order), so every output is found by
name.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones.graphs.cut import CutGraph
from featx.backbones.libraries import import_openvino
from featx.engines.conversion import to_openvino
from featx.engines.fusing import fuse
from featx.engines.graph_files import (
    CONSTANTS,
    FILES,
    MODEL,
    SCHEMA,
    adopt,
    describe_graph,
    find_damage,
    is_sound,
    is_whole,
    read_description,
)
from featx.engines.protocol import check_images, full_batches
from featx.errors import EngineError
from featx.images.batches import usable_cores
from featx.io.files import explain_os_error, flush, make_folder, temporary_beside, try_to_write
from featx.io.jsontypes import Json
from featx.io.limits import limit_of

if TYPE_CHECKING:
    import openvino

    from featx.backbones.protocol import CutNetwork

_logger = logging.getLogger(__name__)
DEFAULT_BATCH = 4
_HANDOVER = 64  # images: enough that cores seldom wait for the last of them
_FEW = 8  # images that are computed one by one at most
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}  # int8 is in the graph itself
_CAPABILITIES = {"bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}


class OpenVINOEngine:
    """A graph compiled for one batch size and one precision.

    Several batches are computed at once, each on cores of its own: cores that share one batch wait for each other
    after every layer (`benchmarks/bench_inference.py` has the ratio). Few images, with which most cores would be idle,
    are computed one by one on all cores. Each of the two is compiled when it is first wanted.
    """

    name = "openvino"

    def __init__(self, graph: Path, precision: str, batch_size: int = 0, threads: int = 0) -> None:
        description = read_description(graph)
        self._fixed = description.batch
        self.batch_size = self._fixed or batch_size or DEFAULT_BATCH
        self.precision = precision
        self._size = description.input_size
        self._tensors = description.outputs
        self._threads = threads
        self._round = self.batch_size * (threads or usable_cores())  # images
        self.handover = max(self.batch_size * -(-_HANDOVER // self.batch_size), 2 * self._round)
        self._core = import_openvino().Core()
        self._model = read_model(self._core, graph)
        if precision == "bfloat16":
            fuse(self._model)
        self._networks: dict[int, _CompiledNetwork] = {}  # by images per inference
        self._alone = threading.Lock()  # the requests of a network know nothing of threads

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of every image by output name; see `featx.engines.protocol.Engine`."""
        check_images(images, self._size)
        with self._alone:
            return self._infer(images)

    def _infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        together = len(images) - self._count_few(len(images))
        if not together:
            return self._network(1).infer(images)
        found = self._network(self.batch_size).infer(images[:together])
        if together < len(images):
            others = self._network(1).infer(images[together:])
            found = {name: np.concatenate([rows, others[name]]) for name, rows in found.items()}
        return found

    def _count_few(self, count: int) -> int:
        """How many of these images are left for one by one, when the others fill all cores with batches."""
        if self._fixed is not None:
            return 0
        few = count % self._round
        return few if few <= min(_FEW, self._round // 2) else 0

    def _network(self, size: int) -> _CompiledNetwork:
        if size not in self._networks:
            self._networks[size] = _CompiledNetwork(self._compile(size), self._tensors, size)
        return self._networks[size]

    def _compile(self, size: int) -> openvino.CompiledModel:
        self._model.reshape([size, *self._size, 3])
        hints = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY" if size == 1 and self._fixed is None else "THROUGHPUT",
        }
        if self._threads:
            # Pinned to cores, the few threads of every process would share the first ones.
            hints |= {"INFERENCE_NUM_THREADS": str(self._threads), "ENABLE_CPU_PINNING": "NO"}
        compiled = self._core.compile_model(self._model, "CPU", hints)
        _require_effective(compiled, self.precision)
        return compiled


class _CompiledNetwork:
    """A graph compiled for `size` images, and as many requests at once as OpenVINO finds best for it."""

    def __init__(self, compiled: openvino.CompiledModel, tensors: dict[str, str], size: int) -> None:
        self._size = size
        self._ports = {name: compiled.output(tensor) for name, tensor in tensors.items()}
        # Not its AsyncInferQueue: the threads that call back want the interpreter once more after the last call, and
        # hang with whoever frees the compiled network in that moment (seen with OpenVINO 2026.4).
        at_once = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests = [compiled.create_infer_request() for _ in range(at_once)]

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        shapes = {name: tuple(port.shape)[1:] for name, port in self._ports.items()}
        results = {name: np.empty((len(images), *shape), np.float32) for name, shape in shapes.items()}
        free, running = deque(self._requests), deque[_Running]()
        try:
            for start, batch in full_batches(images, self._size):
                if not free:
                    free.append(self._finish(running.popleft(), results))
                request = free.popleft()
                request.start_async([batch], share_inputs=True)
                running.append((request, start, batch))
            while running:
                self._finish(running.popleft(), results)
        finally:  # of a call that was interrupted none is left busy
            for request in self._requests:  # also the one that was waited for
                request.wait()
        return results

    def _finish(self, one: _Running, results: dict[str, np.ndarray]) -> openvino.InferRequest:
        """Wait for a request and keep its rows; gives the request, which is free again."""
        request, start, _ = one
        request.wait()
        for name, port in self._ports.items():
            rows = results[name][start : start + self._size]
            rows[:] = request.get_tensor(port).data[: len(rows)]
        return request


_Running = tuple[
    "openvino.InferRequest", int, np.ndarray
]  # a request, the position of its first image, and its images, which it reads


def require_precision(precision: str) -> None:
    """Refuse a precision that OpenVINO would emulate, or quietly replace, on this processor.

    Raises
    ------
    EngineError
        Says what the processor has.
    """
    capabilities = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES[precision] not in capabilities:
        raise EngineError(
            f"This processor has no {precision} arithmetic (OpenVINO finds {', '.join(sorted(capabilities))}). "
            "--precision float32 works everywhere."
        )


def _require_effective(compiled: openvino.CompiledModel, precision: str) -> None:
    names = {"float": "f32", "float32": "f32", "bfloat16": "bf16", "float16": "f16", "half": "f16"}
    hint = compiled.get_property("INFERENCE_PRECISION_HINT")
    found = hint.get_type_name() if hasattr(hint, "get_type_name") else str(hint)
    if names.get(found, found) != _HINTS[precision]:
        raise EngineError(
            f"OpenVINO compiled the graph for {found}, not {precision}. --precision float32 always works."
        )


def compile_graph(
    make_model: Callable[[], CutNetwork], graph: Path, precision: str, batch_size: int = 0, threads: int = 0
) -> OpenVINOEngine:
    """The engine of the graph in the directory, converted first where it is not there whole, or is damaged."""
    damage = find_damage(graph) if is_whole(graph) else "incomplete"
    if damage is None:
        adopt(graph)
    else:
        if is_whole(graph):
            _logger.warning("The graph in %s is damaged (%s): it is converted again.", graph, damage)
        convert(make_model(), graph)
    return OpenVINOEngine(graph, precision, batch_size, threads)


def load_graph(graph: Path, precision: str, batch_size: int = 0, threads: int = 0) -> OpenVINOEngine:
    """The engine of a directory written by `convert`."""
    if not is_whole(graph):
        missing = ", ".join(name for name in FILES if not (graph / name).is_file())
        raise EngineError(f"{graph} is not a whole graph: {missing} is missing. Delete it and extract again.")
    damage = find_damage(graph)
    if damage is not None:
        raise EngineError(f"OpenVINO cannot read {graph}: {damage}. Delete it and extract again.")
    return OpenVINOEngine(graph, precision, batch_size, threads)


# --- converting --------------------------------------------------------------------------------------------------


def convert(network: CutNetwork, graph: Path) -> None:
    """Write a cut network as an OpenVINO graph that takes uint8 images; the directory appears whole or not at all.

    Raises
    ------
    EngineError
        A network that OpenVINO cannot convert.
    """
    if isinstance(network, CutGraph):
        write_graph(network, graph)
        return
    try:
        converted, tensors = to_openvino(network)
    except EngineError as error:
        raise EngineError(f"{error} --engine tensorflow can run it.") from error
    height, width = network.input_shape[1:3]
    write_graph(CutGraph(converted, tensors, None, (int(height), int(width))), graph)


def write_graph(network: CutGraph, graph: Path, about: Mapping[str, Json] | None = None) -> None:
    """Write a graph that takes uint8 images as the directory of an engine, whole or not at all.

    about : what else `graph.json` is to hold
    """
    openvino = import_openvino()
    make_folder(graph.parent)
    temporary = temporary_beside(graph)
    try:
        temporary.mkdir()
        _save(network.model, temporary)
        known: dict[str, Json] = {} if network.batch is None else {"batch": network.batch}
        if network.maps:
            known["maps"] = {name: [one.tensor, one.front] for name, one in network.maps.items()}
        known |= about or {}
        description = {"schema": SCHEMA, "input_size": list(network.size), "outputs": network.tensors, **known}
        describe_graph(temporary, {**description, "openvino": openvino.get_version()})
        _publish(temporary, graph)
    except OSError as error:
        raise explain_os_error(error, graph) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save(model: openvino.Model, directory: Path) -> None:
    """Save a model, flushed to the disk. OpenVINO names no reason where it cannot write all of it."""
    openvino = import_openvino()
    try:
        openvino.save_model(model, directory / MODEL, compress_to_fp16=False)
        openvino.Core().read_model(directory / MODEL, directory / CONSTANTS)
    except RuntimeError as error:
        if limit_of(error) is not None:
            raise
        size = sum(one.get_byte_size() for one in model.get_ops() if one.get_type_name() == "Constant")
        try_to_write(directory, size)  # which raises the reason
        reason = str(error).strip().splitlines()[-1]
        raise EngineError(f"OpenVINO cannot save the graph in {directory.parent}: {reason}.") from error
    for name in (MODEL, CONSTANTS):
        flush(directory / name)


def _publish(temporary: Path, graph: Path) -> None:
    if graph.exists() and not is_sound(graph):  # left by a killed run, or damaged
        shutil.rmtree(graph)
    try:
        temporary.replace(graph)
    except OSError:
        if not is_sound(graph):  # else another process was first: its graph is as good
            raise


def read_model(core: openvino.Core, graph: Path) -> openvino.Model:
    """The graph of a directory, not compiled yet.

    Raises
    ------
    EngineError
        Its files cannot be read.
    """
    try:
        return core.read_model(graph / MODEL, graph / CONSTANTS)
    except RuntimeError as error:
        if limit_of(error) is not None:
            raise
        reason = str(error).strip().splitlines()[-1]
        raise EngineError(f"OpenVINO cannot read {graph}: {reason}. Delete it and extract again.") from error
