"""Where a training is written down: the state it resumes from, TensorBoard's curves, the log as CSV."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from featx.io.files import atomic_path
from featx.io.progress import Tell, say_nothing
from featx.training.checkpoints import Snapshots

COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
_NAMES = {"val_loss": "val_log_loss"}  # in a bundle, where the metrics of a part have this name


def _do_nothing(history: Sequence[Mapping[str, Any]]) -> None:
    del history


def epoch_teller(tell: Tell, epochs: int) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    """Return what tells one line of the last epoch, for `Journal.after_epoch`; there are `epochs` at most."""

    def tell_epoch(history: Sequence[Mapping[str, Any]]) -> None:
        last = history[-1]
        tell(
            f"epoch {len(history)}/{epochs}: loss {last['loss']:.4f}, val accuracy {last['val_accuracy']:.4f} "
            f"({last['seconds']:.1f} s)"
        )

    return tell_epoch


@dataclass(frozen=True)
class Journal:
    """Where a training is written down while it goes on.

    Attributes
    ----------
    state : folder to resume from; None: it begins anew
    events : folder for TensorBoard; None: nothing is written for it
    tell : told when a training is resumed
    after_epoch : called with the epochs so far when another one was written down
    snapshots : networks to keep for people; None: none are
    """

    state: Path | None = None
    events: Path | None = None
    tell: Tell = say_nothing
    after_epoch: Callable[[Sequence[Mapping[str, Any]]], None] = _do_nothing
    snapshots: Snapshots | None = None

    def of(self, fit: str) -> Journal:
        """Return the journal of one of several fits."""
        state, events = (None if folder is None else folder / fit for folder in (self.state, self.events))
        return replace(self, state=state, events=events)

    def forget(self) -> None:
        """Remove what a training resumes from: its result is safe."""
        if self.state is not None:
            shutil.rmtree(self.state, ignore_errors=True)


class EventWriter:
    """Writes epochs as TensorBoard events, under the names that Keras' TensorBoard callback gives them.

    folder : gets `train` and `validation`; None: nothing is written
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, number: int, epoch: Mapping[str, Any]) -> None:
        """Write one epoch, the first of which is 1."""
        if self._folder is None:
            return
        for name in COLUMNS[:-1]:
            if epoch[name] is not None:
                part = "validation" if name.startswith("val_") else "train"
                self._write_scalar(part, f"epoch_{name.removeprefix('val_')}", epoch[name], number)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _write_scalar(self, part: str, tag: str, value: float, step: int) -> None:
        import tensorflow as tf

        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self._folder / part))  # type: ignore[operator]
        # `tf.summary.scalar` is this, and needs the package tensorboard
        kind = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)
        with self._writers[part].as_default():
            tf.summary.write(tag, tf.constant(value, tf.float32), step, kind)


def columns(history: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """`COLUMNS` of a history, each a list with a number per epoch; empty where there were no validation rows."""
    return {name: [epoch[name] for epoch in history if epoch[name] is not None] for name in COLUMNS}


def as_told(series: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return `columns` as a bundle keeps them: a dict per epoch, which begins with its number, from 1 on."""
    held = {_NAMES.get(name, name): series[name] for name in COLUMNS if series.get(name)}
    epochs = len(series.get("loss", ()))
    return [{"epoch": i + 1, **{name: float(values[i]) for name, values in held.items()}} for i in range(epochs)]


def write_log(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """Write a training log: `epoch` from 1 on and `COLUMNS`, empty where there were no validation rows."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *COLUMNS])
        rows = zip_longest(*(history[name] for name in COLUMNS), fillvalue="")
        writer.writerows([number, *row] for number, row in enumerate(rows, 1))
