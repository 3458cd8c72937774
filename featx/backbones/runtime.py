"""Keras, imported when it is first needed: it brings TensorFlow, which takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featx.errors import BackboneError


def import_keras() -> Any:
    """Keras on TensorFlow, whatever the user's keras.json says, and without TensorFlow's start-up messages."""
    if "keras" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["KERAS_BACKEND"] = "tensorflow"
        with _without_start_up_messages():
            import tensorflow as tf

            _let_memory_grow(tf)
    import keras

    if keras.backend.backend() != "tensorflow":
        raise BackboneError(
            f"Keras is already running on {keras.backend.backend()}. Start again with KERAS_BACKEND=tensorflow."
        )
    return keras


def _let_memory_grow(tf: Any) -> None:
    """Take GPU memory as it is needed, not all of it; only possible before the GPU is first used."""
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


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
