"""Checkpoints that let an interrupted training continue as if nothing had happened.

Its state is on disk after every epoch, and its random numbers are functions of (seed, epoch) alone. Keras'
BackupAndRestore keeps neither the order of the rows nor what dropout has drawn.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones.runtime import import_keras
from featx.io.files import atomic_path, write_json
from featx.io.jsontypes import parse_json
from featx.training.callbacks import Callback
from featx.training.log import Epoch, TrainingLog

if TYPE_CHECKING:
    import keras

    from featx.training.network import StepOptimizer

_logger = logging.getLogger(__name__)


class Checkpoint(Callback):
    """A Keras model in training, its optimizer (built), and the weights of the best epoch; kept in a folder.

    folder : holds the log (`history.json`) and the state after the last epoch in it; None: nothing is kept
    """

    def __init__(self, model: keras.Model, optimizer: StepOptimizer, folder: Path | None) -> None:
        self.model, self.optimizer, self.folder = model, optimizer, folder
        self._best = _values(model.weights)

    def resume(self) -> tuple[Epoch, ...]:
        """Go back to where training was interrupted; return the epochs until then, none where nothing is kept."""
        if self.folder is None or not (self.folder / "history.json").exists():
            return ()
        try:
            epochs = TrainingLog.from_json(parse_json((self.folder / "history.json").read_text())).epochs
            with open(self._file(len(epochs)), "rb") as file, np.load(file, allow_pickle=False) as arrays:
                weights, moments, best = (_take(arrays, name) for name in ("model", "optimizer", "best"))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            _logger.warning("%s cannot be read (%s): training starts again from epoch 1.", self.folder, error)
            return ()
        _assign(self.model.weights, weights)
        _assign(self.optimizer.variables, moments)
        self._best = best or weights
        return epochs

    def on_epoch_end(self, model: keras.Model, log: TrainingLog) -> None:
        """Keep the state after the last epoch of the log.

        Killed at any moment, either the former or the new state counts.
        """
        weights, best = _values(model.weights), log.ends_with_best
        if best:
            self._best = weights
        if self.folder is None:
            return
        state = {"model": weights, "optimizer": _values(self.optimizer.variables), "best": [] if best else self._best}
        arrays = {f"{name}{i}": array for name, some in state.items() for i, array in enumerate(some)}
        with atomic_path(self._file(len(log))) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes any keyword for allow_pickle
        write_json(self.folder / "history.json", log.as_json())  # what makes the new state count
        self._file(len(log) - 1).unlink(missing_ok=True)

    def restore_best(self) -> None:
        """Give the model the weights of its best epoch."""
        _assign(self.model.weights, self._best)

    def _file(self, epochs: int) -> Path:
        assert self.folder is not None
        return self.folder / f"state-{epochs}.npz"


def reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Dropout draws from generators that are layer state: set each from (seed, epoch, position).

    Positions count from the last layer down, so that the upper part of a network alone draws as it does in the whole.
    """
    keras = import_keras()
    for position, generator in enumerate(reversed(seed_generators(model))):
        state = np.random.default_rng((seed, epoch, position)).integers(2**31, size=2)
        generator.state.assign(keras.ops.convert_to_tensor(state.astype(np.uint32)))


def seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    """Return what its layers draw random numbers from, from the bottom up."""
    return [one for layer in model._flatten_layers() for one in getattr(layer, "_seed_generators", [])]


def _take(arrays: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    return [arrays[f"{name}{i}"] for i in range(sum(key.startswith(name) for key in arrays))]


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [np.array(variable.numpy()) for variable in variables]


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
