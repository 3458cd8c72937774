"""TensorFlow's device and precision: a GPU or the processor, float32 or something shorter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featx.backbones.runtime import KerasModel, gpu_memory
from featx.errors import EngineError

_CPU_OPTIMISER = "auto_mixed_precision_onednn_bfloat16"
_LEAST_CAPABILITY = {"float16": (7, 0), "bfloat16": (8, 0)}  # of NVIDIA's cards with tensor cores for the type


def prepare_device() -> str:
    """What TensorFlow runs on, GPU or CPU; a GPU's memory is taken as needed, its float32 not shortened to TF32."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    tf.config.experimental.enable_tensor_float_32_execution(False)
    with suppress(RuntimeError, ValueError):  # TensorFlow has been used already, so the choice is made
        gpu_memory().share_out(tf)
    return "GPU"


def require_precision(precision: str) -> None:
    """Refuse a precision that TensorFlow does not have, or does not make faster, on this machine.

    Raises
    ------
    EngineError
        Says what works instead.
    """
    if precision == "int8":
        raise EngineError(
            "TensorFlow does not compute in int8. Type --engine openvino, which does on processors, or choose another "
            "--precision."
        )
    if prepare_device() == "GPU":
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
    on_gpu = prepare_device() == "GPU"
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


def mix_precision(model: KerasModel, precision: str, but: tuple[str, ...] = ()) -> None:
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
def short_arithmetic(precision: str) -> Iterator[None]:
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
