"""Import Keras on demand: it brings TensorFlow, which takes seconds."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from featx.errors import BackboneError, EngineError
from featx.io.lazy import without_garbage_collection
from featx.io.limits import require_room

if TYPE_CHECKING:
    import keras

    KerasModel = keras.Model
else:
    KerasModel = Any  # a name that other modules can import and Keras need not be there for

# Keras and TensorFlow give types to none of these.
Keras = Any
KerasLayer = Any
KerasTensor = Any
TensorFlow = Any
KerasConfig = Any  # of a layer or a model, as `get_config` gives it

# What it takes to import it and to build and train a small network on two cores; with less it ends the process.
_ROOM, _THREADS = 2_400_000_000, 8
_NEEDED = (
    "This needs TensorFlow, which cannot be imported here. Type: pip install tensorflow. Without it you can predict "
    "with a bundle, measure and serve it, read cached features, and use graph files (.onnx, .xml, .tflite)"
)


def has_tensorflow() -> bool:
    """Whether TensorFlow and Keras are installed, without importing them."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in ("tensorflow", "keras"))
    except (ImportError, ValueError):  # taken away from this process
        return False


def import_keras() -> Keras:
    """Keras on TensorFlow, whatever the user's keras.json says, and without TensorFlow's start-up messages."""
    if "keras" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["KERAS_BACKEND"] = "tensorflow"
        if "tensorflow" not in sys.modules:
            require_room("TensorFlow", _ROOM, _THREADS)
        with _without_start_up_messages(), without_garbage_collection():
            try:
                import tensorflow as tf
            except ImportError as error:
                raise BackboneError(f"{_NEEDED}.") from error

            gpu_memory().share_out(tf)
            import keras
        atexit.register(gc.freeze)  # nor when the process ends
    import keras

    if keras.backend.backend() != "tensorflow":
        raise BackboneError(
            f"Keras is already running on {keras.backend.backend()}. Start again with KERAS_BACKEND=tensorflow."
        )
    return keras


class GpuMemory:
    """How much of every GPU's memory TensorFlow takes: as much as is needed, or at most a share of it."""

    def __init__(self, share: float | None = None) -> None:
        self.share = share

    def limit(self, share: float | None) -> None:
        """Take at most this share of every GPU's memory, or, if None, as much as is needed.

        Raises
        ------
        EngineError
            TensorFlow runs already: the memory is shared out when it starts.
        """
        if share == self.share:
            return
        if "tensorflow" in sys.modules:
            raise EngineError(
                "A share of the GPU's memory has to be set before TensorFlow is used. Start a new process."
            )
        self.share = share

    def share_out(self, tf: TensorFlow) -> None:
        """Set up the GPUs; only possible before the first of them is used."""
        gpus = tf.config.list_physical_devices("GPU")
        totals = _gpu_megabytes() if gpus and self.share is not None else []
        for number, gpu in enumerate(gpus):
            if self.share is None:
                tf.config.experimental.set_memory_growth(gpu, True)
            else:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(self.share * totals[number]))
                tf.config.set_logical_device_configuration(gpu, [limit])


@cache
def gpu_memory() -> GpuMemory:
    """That of this process, of which TensorFlow is one."""
    return GpuMemory()


def _gpu_megabytes() -> list[int]:
    """The memory of every GPU that TensorFlow may see; it does not report it before it has taken it."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout  # noqa: S603 - no input of anybody's
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(
            f"nvidia-smi does not report how much memory the GPU has ({error}). Use --gpu-memory grow."
        ) from error
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        by_name = {name: row for row in rows for name in row[:2]}
        rows = [by_name[name.strip()] for name in visible.split(",") if name.strip() in by_name]
    return [int(row[2]) for row in rows]


@contextmanager
def _without_start_up_messages() -> Iterator[None]:
    """Keep TensorFlow's C++ start-up messages off stderr: they are written before its log level is read."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") < "2":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
