"""A grafted network in training: what the loop over epochs asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.backbones import import_keras
from featx.dataset import TRAIN, VAL
from featx.finetune.source import Source
from featx.options import FinetuneOptions
from featx.progress import Progress, no_progress
from featx.training.network import Network, make_optimizer

if TYPE_CHECKING:
    import keras


class Tuning:
    """The trainee (`featx.training.loop.Trainee`) of a fine-tune.

    model : of `graft`, its layers frozen or not
    source : what it is trained on and measured by
    """

    def __init__(
        self,
        model: keras.Model,
        source: Source,
        options: FinetuneOptions,
        seed: int,
        progress: Progress = no_progress,
    ) -> None:
        self.source, self.examples = source, source.examples
        self.options, self.seed, self.progress = options, seed, progress
        optimizer = make_optimizer(import_keras(), options.optimizer, options.learning_rate, options.momentum)
        self.network = Network(model, optimizer, self.examples.targets)
        self.model, self.optimizer = model, optimizer

    def variables(self, epoch: int) -> Sequence[Any]:
        """What trains in an epoch."""
        del epoch
        return list(self.model.trainable_variables)

    def take_steps(self, epoch: int) -> tuple[float, float]:
        """Take a step for every batch of the training images, in an order drawn from (seed, epoch)."""
        self.network.train_only(self.variables(epoch))
        order = np.random.default_rng((self.seed, epoch)).permutation(self.examples.known_rows(TRAIN))
        stage, targets = f"epoch {epoch + 1}/{self.options.epochs}", self.examples.targets
        loss, hits, done = 0.0, 0.0, 0
        for rows, inputs in self.source.batches(order, self.options.batch_size, epoch):
            some = self.network.step(inputs, targets.values[rows], targets.weight[rows])
            loss, hits, done = loss + some[0], hits + some[1], done + len(rows)
            self.progress(stage, done, len(order))
        return loss / max(done, 1), hits / max(done, 1)

    def measure(self) -> tuple[float, float]:
        """Return cross-entropy and accuracy on the validation images of known classes, each of which counts once."""
        loss, hits, done = 0.0, 0.0, 0
        for rows, inputs in self._batches(self.examples.known_rows(VAL)):
            some = self.network.judge(inputs, self.examples.targets.values[rows], np.ones(len(rows), np.float32))
            loss, hits, done = loss + some[0], hits + some[1], done + len(rows)
        return loss / max(done, 1), hits / max(done, 1)

    def logits(self, code: int) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 (n, known classes) of one part's readable images, in inference mode, and their positions."""
        logits, read = [np.empty((0, self.examples.known), np.float32)], [np.empty(0, np.int64)]
        for rows, inputs in self._batches(self.examples.rows(code)):
            logits.append(self.network.logits(inputs))
            read.append(rows)
        return np.concatenate(logits), np.concatenate(read)

    def _batches(self, rows: np.ndarray) -> Any:
        return self.source.batches(rows, self.options.batch_size, None)
