"""Callbacks during training: TensorBoard, networks of single epochs, progress lines."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones.keras_files import save_network
from featx.config import CheckpointKind
from featx.io.context import Notify, ignore
from featx.io.files import atomic_path, remove_stale
from featx.training.log import COLUMNS, TrainingLog

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Callback:
    """What the loop over epochs calls. A subclass has those of the methods that it needs."""

    def on_train_begin(self, log: TrainingLog) -> None:
        """Before the first epoch; the log has the epochs of a training that is resumed."""

    def on_epoch_end(self, model: keras.Model, log: TrainingLog) -> None:
        """After an epoch, which is the last one in the log, and its validation."""

    def on_train_end(self) -> None:
        """After the last epoch, or an error."""


@dataclass(frozen=True)
class Recording:
    """How a training is recorded while it goes on; the callbacks are made of this.

    Attributes
    ----------
    state : folder to resume from; None: it begins anew
    tensorboard : folder for TensorBoard's curves; None: none are written
    models : networks of single epochs to keep for people; None: none are
    notify : is given a line when a training is resumed, and one for each epoch where there are `epochs`
    epochs : how many there are at most; 0: epochs are not reported
    """

    state: Path | None = None
    tensorboard: Path | None = None
    models: ModelCheckpoints | None = None
    notify: Notify = ignore
    epochs: int = 0

    @property
    def is_kept(self) -> bool:
        """Whether anything is written that is of one fit alone."""
        return self.state is not None or self.tensorboard is not None

    def of(self, fit: str) -> Recording:
        """Return the recording of one of several fits."""
        state, tensorboard = (None if folder is None else folder / fit for folder in (self.state, self.tensorboard))
        return replace(self, state=state, tensorboard=tensorboard)

    def callbacks(self, checkpoint: Callback) -> list[Callback]:
        """Return all callbacks in the order they are called in.

        checkpoint : writes the state that a training resumes from. What comes before it is done again where that write
            is interrupted; what comes after it speaks of epochs that count.
        """
        found: list[Callback] = []
        if self.tensorboard is not None:
            found.append(TensorBoard(self.tensorboard))
        if self.models is not None:
            found.append(self.models)
        return [*found, checkpoint, ReportLines(self.notify, self.epochs)]

    def discard_state(self) -> None:
        """Remove what a training resumes from: its result is safe."""
        if self.state is not None:
            shutil.rmtree(self.state, ignore_errors=True)


@dataclass(frozen=True)
class ReportLines(Callback):
    """Reports that a training is resumed, and one line for each epoch where there are `epochs`."""

    notify: Notify
    epochs: int = 0

    def on_train_begin(self, log: TrainingLog) -> None:
        """Report after which epoch a training goes on."""
        if len(log):
            self.notify(f"Going on after epoch {len(log)}.")

    def on_epoch_end(self, model: keras.Model, log: TrainingLog) -> None:  # noqa: ARG002 - the protocol's
        """Report loss and accuracy."""
        last = log.last
        if self.epochs:
            val = "" if last.val_accuracy is None else f", val accuracy {last.val_accuracy:.4f}"
            self.notify(f"epoch {len(log)}/{self.epochs}: loss {last.loss:.4f}{val} ({last.seconds:.1f} s)")


@dataclass(frozen=True)
class ModelCheckpoints(Callback):
    """Whole networks of some epochs, each a `.keras` file, without the optimizer: Keras alone can load them.

    folder : holds `epoch-<number>.keras`; kind : "best" keeps the best epoch's so far, "all" every epoch's
    """

    folder: Path
    kind: CheckpointKind

    def on_epoch_end(self, model: keras.Model, log: TrainingLog) -> None:
        """Write the network where it is one to be kept."""
        if self.kind == "none" or (self.kind == "best" and not log.ends_with_best):
            return
        path = self.folder / f"epoch-{len(log):03}.keras"
        with atomic_path(path) as temporary:
            save_network(model, temporary)
        remove_stale(self.folder, older_than=0)  # of a write that was killed: nobody else writes here
        if self.kind == "best":
            for other in set(self.folder.glob("epoch-*.keras")) - {path}:
                other.unlink()


@dataclass(frozen=True)
class TensorBoard(Callback):
    """Writes epochs as TensorBoard events, under the names that Keras' TensorBoard callback gives them.

    folder : gets `train` and `validation`
    """

    folder: Path
    _writers: dict[str, tf.summary.SummaryWriter] = field(default_factory=dict, init=False, repr=False)

    def on_epoch_end(self, model: keras.Model, log: TrainingLog) -> None:  # noqa: ARG002 - the protocol's
        """Write the row of the epoch, without its seconds."""
        for name in COLUMNS[:-1]:
            value = getattr(log.last, name)
            if value is not None:
                part = "validation" if name.startswith("val_") else "train"
                self._write_scalar(part, f"epoch_{name.removeprefix('val_')}", value, len(log))
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _write_scalar(self, part: str, tag: str, value: float, step: int) -> None:
        import tensorflow as tf

        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self.folder / part))
        # `tf.summary.scalar` is this, and needs the package tensorboard
        kind = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)
        with self._writers[part].as_default():
            tf.summary.write(tag, tf.constant(value, tf.float32), step, kind)
