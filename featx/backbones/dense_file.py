"""A dense head's `.keras` file, computed with NumPy so that prediction does not need TensorFlow."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from featx.io.jsontypes import parse_json

if TYPE_CHECKING:
    import h5py

Step = Callable[[np.ndarray], np.ndarray]
"""float32 (n, d) -> float32 (n, k)"""


class _Layer(TypedDict):
    """A layer in `config.json`."""

    class_name: str
    config: _LayerConfig


class _LayerConfig(TypedDict, total=False):
    activation: str
    use_bias: bool
    mean: list[float] | None
    variance: list[float]


_EPSILON = 1e-7  # Keras' own, below which Normalization takes no standard deviation
_ALPHA, _SCALE = 1.67326324, 1.05070098  # of selu


def _gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return np.asarray(0.5 * x * (1 + erf(x / np.sqrt(2))))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    return np.asarray(x - np.logaddexp.reduce(x, axis=-1, keepdims=True))


ACTIVATIONS: dict[str, Step] = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": _gelu,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "linear": lambda x: x,
    "log_softmax": _log_softmax,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: _SCALE * np.where(x > 0, x, _ALPHA * np.expm1(np.minimum(x, 0))),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "swish": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
}
"""Keras' activations of one value each, at their defaults"""


def read_steps(path: Path) -> list[Step] | None:
    """Return what a dense head's file computes, layer by layer; None where it holds what this module does not know.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile
        A damaged file.
    """
    import h5py

    with zipfile.ZipFile(path) as archive:
        config = parse_json(archive.read("config.json"))
        if config["class_name"] != "Sequential":
            return None
        with h5py.File(BytesIO(archive.read("model.weights.h5"))) as weights:
            steps = list(_steps(config["config"]["layers"], weights))
    return None if None in steps else [step for step in steps if step is not None]


def _steps(layers: Sequence[_Layer], weights: h5py.File) -> Iterator[Step | None]:
    """Yield a function for each layer that computes something, and None for one that is not known."""
    seen: Counter[str] = Counter()
    for layer in layers:
        kind, config = layer["class_name"], layer["config"]
        name = kind.lower() + (f"_{seen[kind]}" if seen[kind] else "")  # as Keras names a layer's group in the file
        seen[kind] += 1
        if kind == "Normalization" and config.get("mean") is not None:
            yield _normalize(np.array(config["mean"], np.float32), np.array(config["variance"], np.float32))
        elif kind == "Dense" and config["activation"] in ACTIVATIONS:
            values = weights[f"layers/{name}/vars"]
            yield _dense(values["0"][...], values["1"][...] if config["use_bias"] else 0, config["activation"])
        elif kind not in {"InputLayer", "Dropout"}:
            yield None


def _normalize(mean: np.ndarray, variance: np.ndarray) -> Step:
    deviation = np.maximum(np.sqrt(variance), np.float32(_EPSILON))
    return lambda x: (x - mean) / deviation


def _dense(kernel: np.ndarray, bias: np.ndarray | int, activation: str) -> Step:
    function = ACTIVATIONS[activation]
    return lambda x: np.asarray(function(x @ kernel + bias), np.float32)
