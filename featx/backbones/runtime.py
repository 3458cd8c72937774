"""Keras, imported when it is first needed: it brings TensorFlow, which takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featx.errors import BackboneError, EngineError


def import_keras() -> Any:
    """Keras on TensorFlow, whatever the user's keras.json says, and without TensorFlow's start-up messages."""
    if "keras" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["KERAS_BACKEND"] = "tensorflow"
        with _without_start_up_messages():
            import tensorflow as tf

            share_gpu_memory(tf)
    import keras

    if keras.backend.backend() != "tensorflow":
        raise BackboneError(
            f"Keras is already running on {keras.backend.backend()}. Start again with KERAS_BACKEND=tensorflow."
        )
    return keras


_most_memory: float | None = None


def limit_gpu_memory(share: float | None) -> None:
    """Take at most this share of every GPU's memory, or, if None, as much as is needed.

    Raises
    ------
    EngineError
        TensorFlow runs already: the memory is shared out when it starts.
    """
    global _most_memory
    if share == _most_memory:
        return
    if "tensorflow" in sys.modules:
        raise EngineError("A share of the GPU's memory has to be set before TensorFlow is used. Start a new process.")
    _most_memory = share


def share_gpu_memory(tf: Any) -> None:
    """Set up the GPUs as `limit_gpu_memory` said; only possible before the first of them is used."""
    gpus = tf.config.list_physical_devices("GPU")
    totals = _gpu_megabytes() if gpus and _most_memory is not None else []
    for number, gpu in enumerate(gpus):
        if _most_memory is None:
            tf.config.experimental.set_memory_growth(gpu, True)
        else:
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(_most_memory * totals[number]))
            tf.config.set_logical_device_configuration(gpu, [limit])


def _gpu_megabytes() -> list[int]:
    """The memory of every GPU that TensorFlow may see; it does not tell before it has taken it."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout  # noqa: S603 - no input of anybody's
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(
            f"nvidia-smi does not tell how much memory the GPU has ({error}). Use --gpu-memory grow."
        ) from error
    rows = [[cell.strip() for cell in line.split(",")] for line in told.splitlines() if line.strip()]
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
