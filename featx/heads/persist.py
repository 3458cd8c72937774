"""Heads as bundle files, and back as a function from features to logits. Nothing is unpickled unasked.

A linear head is two plain arrays with standardisation and temperature folded in, so predicting needs NumPy alone. Other
scikit-learn heads go through skops, which builds only types that are trusted (`featx.heads.kept`); dense heads are
`.keras` files, computed with NumPy, or, where they hold something else than dense layers, read by Keras in safe mode.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from featx.backbones.dense_file import Step, read_steps
from featx.backbones.keras_files import keras_folders
from featx.backbones.runtime import import_keras
from featx.errors import BundleError
from featx.features import as_features
from featx.heads.base import DenseForm, Head
from featx.heads.transform import Transform
from featx.io.shown import error_line
from featx.io.zips import floats, load_arrays, require_stored

if TYPE_CHECKING:
    import keras
    from sklearn.pipeline import Pipeline

Scorer = Callable[[np.ndarray], np.ndarray]
"""features float32 (n, d) -> logits float32 (n, k), the temperature applied"""

_AGAIN = "Get the bundle again from its source."
FILES = {"linear": "head.npz", "estimator": "head.skops", "network": "head.keras", "pickle": "head.joblib"}
Form = Literal["linear", "estimator", "network", "pickle"]


@dataclass(frozen=True)
class Filed:
    """How a head is written.

    imports : packages whose classes it is made of; reason : why it is a pickle, where it is one
    """

    form: Form
    imports: tuple[str, ...] = ()
    reason: str = ""

    @property
    def file(self) -> str:
        """The name of its file."""
        return FILES[self.form]


def filed(head: Head) -> Filed:
    """How a fitted head is written."""
    if hasattr(head, "keep"):
        kept = head.keep()
        return Filed(kept.kind, kept.imports, kept.reason)
    return Filed("linear" if hasattr(head, "as_dense") else "estimator" if hasattr(head, "estimator_") else "network")


def save_head(head: Head, temperature: float, transform: Transform, directory: Path) -> tuple[Path, str, Transform]:
    """Write a fitted head; return its file, its kind, and what of the transform is not folded into it."""
    kind = filed(head).form
    path = directory / FILES[kind]
    if hasattr(head, "keep"):
        path.write_bytes(head.keep().content)
    elif kind == "linear":
        kernel, bias = fold_temperature(cast("DenseForm", head), temperature)
        if transform.mean is not None and transform.components is not None:
            bias = bias - (transform.components @ transform.mean) @ kernel
            kernel = transform.components.T @ kernel
            transform = Transform(transform.unit)
        np.savez(path, kernel=kernel, bias=bias)
    elif kind == "estimator":
        from skops.io import dump

        dump(head.estimator_, path)  # type: ignore[attr-defined]
    else:
        head.save(path)  # type: ignore[attr-defined]
    return path, kind, transform


def fold_temperature(head: DenseForm, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (d, k) and bias (k,), float32, whose softmax is the calibrated confidence."""
    kernel, bias = head.as_dense()
    return (kernel / np.float32(temperature)).astype(np.float32), (bias / np.float32(temperature)).astype(np.float32)


def load_head(directory: Path, kind: str, temperature: float, imports: Sequence[str] = (), clf: str = "") -> Scorer:
    """The scoring function of a saved head.

    kind, temperature, imports, clf : as the manifest has them

    Raises
    ------
    BundleError
        A head with types that are not trusted, or a damaged file.
    """
    path = directory / FILES[kind]
    if kind == "linear":
        kernel, bias = load_dense(path)
        return lambda features: np.asarray(features, np.float32) @ kernel + bias
    if kind in {"estimator", "pickle"}:
        from featx.heads.estimators import estimator_logits
        from featx.heads.kept import load_pickled

        estimator = load_pickled(path, imports) if kind == "pickle" else _load_estimator(path, imports, clf)
        return lambda features: estimator_logits(estimator, features) / np.float32(temperature)
    steps = _read_steps(path)
    if steps is not None:
        return lambda features: _apply(steps, np.asarray(features, np.float32)) / np.float32(temperature)
    from featx.heads.dense import model_logits

    model = load_network(path)
    return lambda features: model_logits(model, as_features(features)) / np.float32(temperature)


def _read_steps(path: Path) -> list[Step] | None:
    """The layers of a dense head for NumPy; None where it needs Keras."""
    _require_stored(path)
    try:
        return read_steps(path)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise BundleError(f"{path} cannot be loaded as a Keras model: {error_line(error)}.") from error


def _apply(steps: Sequence[Step], values: np.ndarray) -> np.ndarray:
    for step in steps:
        values = step(values)
    return values


def load_dense(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (d, k) and bias (k,) of a linear head's file."""
    try:
        arrays = load_arrays(path)
        kernel, bias = (np.asarray(floats(arrays, name), np.float32) for name in ("kernel", "bias"))
        if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
            raise ValueError(f"a kernel of shape {kernel.shape} and a bias of {bias.shape}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is not a linear head: {error}. {_AGAIN}") from error
    return kernel, bias


def _load_estimator(path: Path, imports: Sequence[str], clf: str) -> Pipeline:
    from featx.config.head import plugin_of
    from featx.heads.kept import load_kept

    _require_stored(path)
    plugin = plugin_of(clf) if imports else None
    return load_kept(path, () if plugin is None else (plugin.root,))


def load_network(path: Path) -> keras.Model:
    """The Keras network of a dense head or a backbone, without running code from the file."""
    from featx.backbones.custom import custom_objects, unknown_class
    from featx.backbones.hub.library import import_hub_for

    _require_stored(path)
    import_hub_for(path)
    try:
        objects = custom_objects()
        with keras_folders():
            network: keras.Model = import_keras().saving.load_model(
                path, custom_objects=objects, compile=False, safe_mode=True
            )
        return network
    except (ValueError, TypeError, OSError, KeyError) as error:
        missing = unknown_class(path)
        if missing is not None:
            raise BundleError(missing) from error
        raise BundleError(f"{path} cannot be loaded as a Keras model: {error_line(error)}.") from error


def _require_stored(path: Path) -> None:
    try:
        require_stored(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} cannot be loaded: {error}. {_AGAIN}") from error
