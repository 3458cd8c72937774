"""TensorFlow: a frozen graph, on a GPU where there is one, on the CPU otherwise.

Freezing turns variables into constants, which lets the optimiser fold batch normalisation into convolutions. Images
come in as uint8, so that four times fewer bytes travel to a GPU.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.backbones.runtime import gpu_memory
from featx.engines.protocol import check_images, full_batches, infer_in_batches
from featx.errors import EngineError

if TYPE_CHECKING:
    import keras

CPU_BATCH = 8
GPU_BATCHES = (32, 64, 128, 256)  # tried in turn, as long as they are faster and fit
GPU_AHEAD = 4  # batches handed over at once, so that copying one and computing another overlap
_PROBE_SECONDS = 0.2
_ALONE = threading.Lock()  # the option that shortens arithmetic is one for all engines
_COMPILED = "_XlaMustCompile"  # how a call is marked that XLA compiles
_INLINED = "_inlined"


@dataclass(frozen=True)
class Frozen:
    """A graph without variables.

    function : uint8 (n, height, width, 3) -> list of tensors
    outputs : output name -> name of its node in the graph; the function's results are in this order
    """

    function: Any
    outputs: dict[str, str]


def freeze(model: keras.Model, batch_size: int | None = None) -> Frozen:
    """The model as a graph of constants that takes uint8 images, in inference mode.

    batch_size : None for any
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    nodes = {name: f"output_{index}" for index, name in enumerate(model.output)}

    def run(images: Any) -> Any:
        results = model(tf.cast(images, tf.float32), training=False)
        return [tf.identity(tf.cast(results[name], tf.float32), name=node) for name, node in nodes.items()]

    images = tf.TensorSpec((batch_size, *model.input_shape[1:]), tf.uint8, name="images")
    concrete = tf.function(run, input_signature=[images]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    return Frozen(frozen, nodes)


def without_xla(frozen: Frozen) -> Frozen:
    """The same graph with the calls that Keras has XLA compile, such as grouped convolutions, inlined.

    Other runtimes know no such calls; TensorFlow itself needs them on a CPU.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = frozen.function
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    if not any(_COMPILED in node.attr for node in nodes):
        return frozen
    for inner in graph.library.function:
        inner.signature.name += _INLINED  # TensorFlow knows the function of the old name already, marked
    for marked in (*nodes, *graph.library.function):
        for attribute in (_COMPILED, "_noinline"):
            marked.attr.pop(attribute, None)
    for value in (value for node in nodes for value in node.attr.values() if value.HasField("func")):
        value.func.name += _INLINED
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    names = [tensor.name for tensor in function.inputs], [tensor.name for tensor in function.outputs]
    taken, given = ([wrapped.graph.get_tensor_by_name(name) for name in some] for some in names)
    inlined = convert_variables_to_constants_v2(wrapped.prune(taken, given), lower_control_flow=False)
    return Frozen(inlined, frozen.outputs)


class TensorFlowEngine:
    """A frozen graph run in batches of one size.

    On a GPU it is compiled by XLA, short arithmetic is Keras' mixed precision, the batch size is found by trying, a
    batch that does not fit in memory is run in halves, as are all that follow, and one batch travels to the GPU while
    another is computed.
    """

    name = "tensorflow"

    def __init__(self, model: keras.Model, precision: str, batch_size: int = 0) -> None:
        self._on_gpu = _prepare_device() == "GPU"
        self.batch_size = batch_size or CPU_BATCH
        self.precision = precision
        self._size: tuple[int, int] = model.input_shape[1:3]
        if self._on_gpu and precision != "float32":
            mix_precision(model, precision)
        frozen = freeze(model, None if self._on_gpu else self.batch_size)
        self._names = list(frozen.outputs)
        self._function = frozen.function
        if self._on_gpu:
            self._function = _compile_with_xla(frozen.function)
            self.batch_size = batch_size or self._probe()
        elif precision != "float32":
            self._require_effective()

    @property
    def handover(self) -> int:
        """Images worth handing over at once; see `featx.engines.protocol.Engine`."""
        return self.batch_size * (GPU_AHEAD if self._on_gpu else 1)

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of every image by output name; see `featx.engines.protocol.Engine`."""
        check_images(images, self._size)
        with _ALONE, _arithmetic("float32" if self._on_gpu else self.precision):  # the option is read at every call
            if self._on_gpu:
                return self._infer_ahead(images)
            return infer_in_batches(images, self.batch_size, self._call)

    def _infer_ahead(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Start every batch before the one before it is waited for: calls to a GPU return before it is done.

        All batches are full, since XLA compiles anew, for seconds, for every number of images that it has not met.
        """
        waiting = deque[tuple[np.ndarray, Any]]()
        found = []
        for _, batch in full_batches(images, self.batch_size):
            waiting.append((batch, self._start(batch)))
            if len(waiting) == 2:
                found.append(self._finish(*waiting.popleft()))
        found.append(self._finish(*waiting.popleft()))
        return {name: np.concatenate([part[name] for part in found])[: len(images)] for name in self._names}

    def _start(self, batch: np.ndarray) -> Any:
        """Send a batch on its way; None where it does not fit."""
        import tensorflow as tf

        try:
            return self._function(tf.constant(batch))
        except tf.errors.ResourceExhaustedError:
            return None

    def _finish(self, batch: np.ndarray, started: Any) -> dict[str, np.ndarray]:
        """The features of a started batch; where the GPU's memory does not suffice, half at a time, from then on."""
        import tensorflow as tf

        if started is not None:
            try:
                return self._fetch(started)
            except tf.errors.ResourceExhaustedError:
                pass
        if len(batch) <= 1:
            raise EngineError(
                "The GPU has not enough memory for one image. Choose a smaller --input-size, or --engine openvino."
            )
        half = (len(batch) + 1) // 2
        self.batch_size = min(self.batch_size, half)
        parts = [self._finish(part, self._start(part)) for part in (batch[:half], batch[half:])]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._names}

    def _probe(self) -> int:
        """The fastest of `GPU_BATCHES`; the first that does not fit ends the search."""
        import tensorflow as tf

        best, best_rate = 1, 0.0
        for size in GPU_BATCHES:
            images = np.zeros((size, *self._size, 3), np.uint8)
            try:
                self._call(images)  # compiles
                start, done = time.perf_counter(), 0
                while time.perf_counter() - start < _PROBE_SECONDS:
                    self._call(images)
                    done += size
            except tf.errors.ResourceExhaustedError:
                break
            rate = done / (time.perf_counter() - start)
            if rate <= best_rate:
                break
            best, best_rate = size, rate
        return best

    def _call(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        import tensorflow as tf

        return self._fetch(self._function(tf.constant(batch)))

    def _fetch(self, results: Any) -> dict[str, np.ndarray]:
        return {name: result.numpy() for name, result in zip(self._names, results, strict=True)}

    def _require_effective(self) -> None:
        """Refuse a graph whose results show that the CPU's optimiser left it in float32."""
        noise = np.random.default_rng(0).integers(0, 256, (self.batch_size, *self._size, 3), np.uint8)
        full = self._call(noise)
        with _arithmetic(self.precision):
            short = self._call(noise)
        if all(np.array_equal(full[name], short[name]) for name in full):
            raise EngineError(f"TensorFlow runs this graph in float32, not {self.precision}. Use --precision float32.")


def _compile_with_xla(function: Any) -> Any:
    import tensorflow as tf

    return tf.function(lambda images: function(images), jit_compile=True)


def compile_graph(
    make_model: Callable[[], keras.Model],
    graph: Path,  # noqa: ARG001
    precision: str,
    batch_size: int = 0,
    threads: int = 0,
) -> TensorFlowEngine:
    """The engine of a freshly built model; freezing takes seconds, so nothing is kept in the directory."""
    if threads:
        _limit_threads(threads)
    return TensorFlowEngine(make_model(), precision, batch_size)


def _limit_threads(threads: int) -> None:
    import tensorflow as tf

    with suppress(RuntimeError):  # TensorFlow has been used already: it has its threads
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _prepare_device() -> str:
    """What TensorFlow runs on, GPU or CPU; a GPU's memory is taken as needed, its float32 not shortened to TF32."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    tf.config.experimental.enable_tensor_float_32_execution(False)
    with suppress(RuntimeError, ValueError):  # TensorFlow has been used already, so the choice is made
        gpu_memory().share_out(tf)
    return "GPU"


# --- precision ---------------------------------------------------------------------------------------------------

_CPU_OPTIMISER = "auto_mixed_precision_onednn_bfloat16"
_LEAST_CAPABILITY = {"float16": (7, 0), "bfloat16": (8, 0)}  # of NVIDIA's cards with tensor cores for the type


def require_precision(precision: str) -> None:
    """Refuse a precision that TensorFlow does not have, or does not make faster, on this machine.

    Raises
    ------
    EngineError
        Says what works instead.
    """
    if _prepare_device() == "GPU":
        have = _fast_precisions()
        if precision not in have:
            raise EngineError(
                f"This GPU has no fast {precision} (compute capability {'.'.join(map(str, _capability()))}). "
                f"Choose --precision {' or '.join(['float32', *have])}."
            )
    elif precision != "bfloat16":
        raise EngineError(f"TensorFlow has no {precision} on a CPU. Choose --precision float32 or bfloat16.")
    elif not _has_bfloat16():
        raise EngineError("This processor has no bfloat16 arithmetic. --precision float32 works everywhere.")


def choose_precision(option: str) -> str:
    """What a network is trained in: "none" is float32, "auto" what the GPU is fast at, float32 without one.

    Of the two bfloat16 is taken first: its range is that of float32. A processor computes in either, mostly slower.

    Raises
    ------
    EngineError
        A precision that the GPU has no fast arithmetic for.
    """
    if option == "none":
        return "float32"
    on_gpu = _prepare_device() == "GPU"
    if option == "auto":
        have = _fast_precisions() if on_gpu else []
        return "bfloat16" if "bfloat16" in have else "float16" if have else "float32"
    if on_gpu:
        require_precision(option)
    return option


def _fast_precisions() -> list[str]:
    return [name for name, least in _LEAST_CAPABILITY.items() if _capability() >= least]


def _capability() -> tuple[int, int]:
    """The compute capability of the least able GPU."""
    import tensorflow as tf

    details = (tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU"))
    return min((tuple(one.get("compute_capability", (0, 0))) for one in details), default=(0, 0))


def _has_bfloat16() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags.read_text(errors="replace")))


def mix_precision(model: keras.Model, precision: str, but: tuple[str, ...] = ()) -> None:
    """Keras' mixed precision: the layers compute in `precision`; "float32" turns it off again.

    Pooling, which sums many values, stays in float32, and so do layers whose names begin with one of `but`.
    """
    import keras

    policy = keras.DTypePolicy("float32" if precision == "float32" else f"mixed_{precision}")
    for layer in model.layers:
        if layer.name.startswith(but) or "Pooling" in type(layer).__name__:
            continue
        if isinstance(layer, keras.Model):
            mix_precision(layer, precision, but)
        else:
            layer.dtype_policy = policy


@contextmanager
def _arithmetic(precision: str) -> Iterator[None]:
    """TensorFlow's graph optimiser for the CPU set to a precision, and set back."""
    import tensorflow as tf

    if precision == "float32":
        yield
        return
    before = tf.config.optimizer.get_experimental_options().get(_CPU_OPTIMISER, False)
    tf.config.optimizer.set_experimental_options({_CPU_OPTIMISER: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_CPU_OPTIMISER: before})
