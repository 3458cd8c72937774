"""TensorFlow: a frozen graph, on a GPU where there is one, on the CPU otherwise.

Freezing turns variables into constants, which lets the optimiser fold batch normalisation into convolutions. Images
come in as uint8, so that four times fewer bytes travel to a GPU.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.engines import check_images, infer_in_batches
from featx.errors import EngineError

if TYPE_CHECKING:
    import keras

CPU_BATCH = 8
GPU_BATCHES = (32, 64, 128, 256)  # tried in turn, as long as they are faster and fit
_PROBE_SECONDS = 0.2


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
        return [tf.identity(results[name], name=node) for name, node in nodes.items()]

    images = tf.TensorSpec((batch_size, *model.input_shape[1:]), tf.uint8, name="images")
    concrete = tf.function(run, input_signature=[images]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    return Frozen(frozen, nodes)


class TensorFlowEngine:
    """A frozen graph run in batches of one size.

    On a GPU it is compiled by XLA, the batch size is found by trying, and a batch that does not fit in memory is run
    in halves, as are all that follow.
    """

    name = "tensorflow"

    def __init__(self, model: keras.Model, precision: str, batch_size: int = 0) -> None:
        device = _prepare_device()
        self.batch_size = batch_size or CPU_BATCH
        self.precision = precision
        self._size: tuple[int, int] = model.input_shape[1:3]
        frozen = freeze(model, None if device == "GPU" else self.batch_size)
        self._names = list(frozen.outputs)
        self._function = frozen.function
        if device == "GPU":
            # The optimiser that shortens the arithmetic does not reach into what XLA compiles.
            self._function = _compile_with_xla(frozen.function) if precision == "float32" else frozen.function
            self.batch_size = batch_size or self._probe()
        self._require_effective()

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of every image by output name; see `featx.engines.Engine`."""
        check_images(images, self._size)
        return infer_in_batches(images, self.batch_size, self._run)

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        with _arithmetic(self.precision):  # TensorFlow reads the option at every call
            return self._call_in_halves(batch)

    def _call_in_halves(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Run a batch; where the GPU's memory does not suffice, half of it at a time, from then on."""
        import tensorflow as tf

        try:
            return self._call(batch)
        except tf.errors.ResourceExhaustedError as error:
            if len(batch) == 1:
                raise EngineError(
                    "The GPU has not enough memory for one image. Choose a smaller --input-size, or --engine openvino."
                ) from error
        half = (len(batch) + 1) // 2
        self.batch_size = min(self.batch_size, half)
        parts = [self._call_in_halves(batch[:half]), self._call_in_halves(batch[half:])]
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

        results = self._function(tf.constant(batch))
        return {name: result.numpy() for name, result in zip(self._names, results, strict=True)}

    def _require_effective(self) -> None:
        """Refuse a graph whose results show that the optimiser left it in float32."""
        if self.precision == "float32":
            return
        noise = np.random.default_rng(0).integers(0, 256, (self.batch_size, *self._size, 3), np.uint8)
        full, short = self._call(noise), self._run(noise)
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
) -> TensorFlowEngine:
    """The engine of a freshly built model; freezing takes seconds, so nothing is kept in the directory."""
    return TensorFlowEngine(make_model(), precision, batch_size)


def _prepare_device() -> str:
    """What TensorFlow runs on, GPU or CPU; a GPU's memory is taken as needed, its float32 not shortened to TF32."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # TensorFlow has been used already, so the choice is made
            break
    return "GPU"


# --- precision ---------------------------------------------------------------------------------------------------

_OPTIMISERS = {
    ("CPU", "bfloat16"): "auto_mixed_precision_onednn_bfloat16",
    ("GPU", "float16"): "auto_mixed_precision",
}


def require_precision(precision: str) -> None:
    """Refuse a precision that TensorFlow does not have on this machine.

    Raises
    ------
    EngineError
        Says what works instead.
    """
    device = _prepare_device()
    if (device, precision) not in _OPTIMISERS:
        have = next(p for d, p in _OPTIMISERS if d == device)
        raise EngineError(f"TensorFlow has no {precision} on a {device}. Choose --precision float32 or {have}.")
    if device == "CPU" and not _has_bfloat16():
        raise EngineError("This processor has no bfloat16 arithmetic. --precision float32 works everywhere.")


def _has_bfloat16() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags.read_text(errors="replace")))


@contextmanager
def _arithmetic(precision: str) -> Iterator[None]:
    """TensorFlow's graph optimiser set to a precision, and set back."""
    import tensorflow as tf

    if precision == "float32":
        yield
        return
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    option = _OPTIMISERS[device, precision]
    before = tf.config.optimizer.get_experimental_options().get(option, False)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})
