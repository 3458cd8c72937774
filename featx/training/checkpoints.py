"""What makes an interrupted training go on as if nothing had happened.

Its state is on disk after every epoch, and its random numbers are functions of (seed, epoch) alone. Keras'
BackupAndRestore keeps neither the order of the rows nor what dropout has drawn.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones.runtime import import_keras
from featx.config import CheckpointKind
from featx.io.files import atomic_path, remove_stale, write_json

History = list[dict[str, Any]]
"""One JSON object per epoch"""

_logger = logging.getLogger(__name__)


class Checkpoint:
    """A Keras model in training, its optimizer (built), and the weights of the best epoch; kept in a folder.

    folder : holds `history.json` and the state after the last epoch in it; None: nothing is kept
    """

    def __init__(self, model: Any, optimizer: Any, folder: Path | None) -> None:
        self.model, self.optimizer, self.folder = model, optimizer, folder
        self._best = _values(model.weights)

    def resume(self) -> History:
        """Go back to where training was interrupted; return the epochs until then, none where nothing is kept."""
        if self.folder is None or not (self.folder / "history.json").exists():
            return []
        try:
            history: History = json.loads((self.folder / "history.json").read_text())
            with open(self._file(len(history)), "rb") as file, np.load(file, allow_pickle=False) as held:
                weights, moments, best = (_arrays(held, name) for name in ("model", "optimizer", "best"))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            _logger.warning("%s cannot be read (%s): training begins anew.", self.folder, error)
            return []
        _assign(self.model.weights, weights)
        _assign(self.optimizer.variables, moments)
        self._best = best or weights
        return history

    def keep(self, history: History, *, best: bool) -> None:
        """Keep the state after the last epoch of the history, which is the best one so far or not.

        Killed at any moment, either the former or the new state counts.
        """
        weights = _values(self.model.weights)
        if best:
            self._best = weights
        if self.folder is None:
            return
        state = {"model": weights, "optimizer": _values(self.optimizer.variables), "best": [] if best else self._best}
        held = {f"{name}{i}": array for name, arrays in state.items() for i, array in enumerate(arrays)}
        with atomic_path(self._file(len(history))) as temporary, open(temporary, "wb") as file:
            np.savez(file, **held)  # type: ignore[arg-type]  # the stub takes any keyword for allow_pickle
        write_json(self.folder / "history.json", history)  # what makes the new state count
        self._file(len(history) - 1).unlink(missing_ok=True)

    def restore_best(self) -> None:
        """Give the model the weights of its best epoch."""
        _assign(self.model.weights, self._best)

    def _file(self, epochs: int) -> Path:
        assert self.folder is not None
        return self.folder / f"state-{epochs}.npz"


@dataclass(frozen=True)
class Snapshots:
    """Whole networks of some epochs, each a `.keras` file, without the optimizer: Keras alone can load them.

    folder : holds `epoch-<number>.keras`; kind : "best" keeps the best epoch's so far, "all" every epoch's
    """

    folder: Path
    kind: CheckpointKind

    def write(self, model: Any, number: int, *, best: bool) -> None:
        """Write the network of an epoch, the first of which is 1, where it is one to be kept."""
        if self.kind == "none" or (self.kind == "best" and not best):
            return
        path = self.folder / f"epoch-{number:03}.keras"
        with atomic_path(path) as temporary:
            model.save(temporary)
        remove_stale(self.folder, older_than=0)  # of a write that was killed: nobody else writes here
        if self.kind == "best":
            for other in set(self.folder.glob("epoch-*.keras")) - {path}:
                other.unlink()


def reseed(model: Any, seed: int, epoch: int) -> None:
    """Dropout draws from generators that are layer state: set each from (seed, epoch, position).

    Positions count from the last layer down, so that the upper part of a network alone draws as it does in the whole.
    """
    keras = import_keras()
    generators = [one for layer in model._flatten_layers() for one in getattr(layer, "_seed_generators", [])]
    for position, generator in enumerate(reversed(generators)):
        state = np.random.default_rng((seed, epoch, position)).integers(2**31, size=2)
        generator.state.assign(keras.ops.convert_to_tensor(state.astype(np.uint32)))


def _arrays(held: Any, name: str) -> list[np.ndarray]:
    return [held[f"{name}{i}"] for i in range(sum(key.startswith(name) for key in held.files))]


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [np.array(variable.numpy()) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
