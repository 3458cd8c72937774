"""TensorFlow: a frozen graph, on a GPU where there is one, on the CPU otherwise.

Images come in as uint8, so that four times fewer bytes travel to a GPU.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from featx.backbones.runtime import KerasModel, KerasTensor, TensorFlow
from featx.engines.freeze import freeze
from featx.engines.precision import mix_precision, prepare_device, require_precision, short_arithmetic
from featx.engines.protocol import check_images, full_batches, infer_in_batches
from featx.errors import EngineError

__all__ = ["TensorFlowEngine", "compile_graph", "require_precision"]

CPU_BATCH = 8
GPU_BATCHES = (32, 64, 128, 256)  # tried in turn, as long as they are faster and fit
GPU_FEW = (1, 8)  # for calls with no more images than that: a server's lone image must not cost a full batch
GPU_AHEAD = 4  # batches handed over at once, so that copying one and computing another overlap
_PROBE_SECONDS = 0.2
_ALONE = threading.Lock()  # the option that shortens arithmetic is one for all engines


class TensorFlowEngine:
    """A frozen graph run in batches of one size.

    On a GPU it is compiled by XLA, short arithmetic is Keras' mixed precision, the batch size is found by trying, a
    batch that does not fit in memory is run in halves, as are all that follow, and one batch travels to the GPU while
    another is computed.
    """

    name = "tensorflow"

    def __init__(self, model: KerasModel, precision: str, batch_size: int = 0) -> None:
        self._on_gpu = prepare_device() == "GPU"
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
        with (
            _ALONE,
            short_arithmetic("float32" if self._on_gpu else self.precision),
        ):  # the option is read at every call
            if self._on_gpu:
                return self._infer_ahead(images)
            return infer_in_batches(images, self.batch_size, self._call)

    def _infer_ahead(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Start every batch before the one before it is waited for: calls to a GPU return before it is done.

        All batches are full, since XLA compiles anew, for seconds, for every number of images that it has not met; a
        call with few images has batches of a small size of its own.
        """
        few = [size for size in GPU_FEW if len(images) <= size < self.batch_size]
        size = few[0] if few else self.batch_size
        waiting = deque[tuple[np.ndarray, KerasTensor]]()
        found = []
        for _, batch in full_batches(images, size):
            waiting.append((batch, self._start(batch)))
            if len(waiting) == 2:
                found.append(self._finish(*waiting.popleft()))
        found.append(self._finish(*waiting.popleft()))
        return {name: np.concatenate([part[name] for part in found])[: len(images)] for name in self._names}

    def _start(self, batch: np.ndarray) -> KerasTensor:
        """Send a batch on its way; None where it does not fit."""
        import tensorflow as tf

        try:
            return self._function(tf.constant(batch))
        except tf.errors.ResourceExhaustedError:
            return None

    def _finish(self, batch: np.ndarray, started: KerasTensor) -> dict[str, np.ndarray]:
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

    def _fetch(self, results: KerasTensor) -> dict[str, np.ndarray]:
        return {name: result.numpy() for name, result in zip(self._names, results, strict=True)}

    def _require_effective(self) -> None:
        """Refuse a graph whose results show that the CPU's optimiser left it in float32."""
        noise = np.random.default_rng(0).integers(0, 256, (self.batch_size, *self._size, 3), np.uint8)
        full = self._call(noise)
        with short_arithmetic(self.precision):
            short = self._call(noise)
        if all(np.array_equal(full[name], short[name]) for name in full):
            raise EngineError(f"TensorFlow runs this graph in float32, not {self.precision}. Use --precision float32.")


def _compile_with_xla(function: TensorFlow) -> TensorFlow:
    import tensorflow as tf

    return tf.function(lambda images: function(images), jit_compile=True, autograph=False)


def compile_graph(
    make_model: Callable[[], KerasModel],
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
