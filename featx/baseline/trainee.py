"""A baseline in training: what the loop over epochs asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featx.backbones import import_keras
from featx.baseline.material import Material
from featx.config import BaselineOptions
from featx.dataset import SPLITS, TRAIN, VAL
from featx.io.progress import Progress, no_progress
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.probabilities import fit_temperature, softmax
from featx.training.network import Network, make_optimizer

if TYPE_CHECKING:
    import keras


class Scratch:
    """The trainee (`featx.training.loop.Trainee`) of a baseline."""

    def __init__(
        self,
        model: keras.Model,
        material: Material,
        options: BaselineOptions,
        seed: int,
        progress: Progress = no_progress,
    ) -> None:
        self.material, self.options, self.seed, self.progress = material, options, seed, progress
        self.model = model
        self.optimizer: Any = make_optimizer(import_keras(), options.optimizer, options.learning_rate, options.momentum)
        self.network = Network(model, self.optimizer, material.targets)

    def take_steps(self, epoch: int) -> tuple[float, float]:
        """Take a step for every batch of the training images, in an order drawn from (seed, epoch)."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.material.known_rows(TRAIN))
        stage, targets = f"epoch {epoch + 1}/{self.options.epochs}", self.material.targets
        loss, hits, done = 0.0, 0.0, 0
        for rows, images in self.material.batches(order, self.options.batch_size, epoch):
            some = self.network.step(images, targets.values[rows], targets.weight[rows])
            loss, hits, done = loss + some[0], hits + some[1], done + len(rows)
            self.progress(stage, done, len(order))
        return loss / max(done, 1), hits / max(done, 1)

    def measure(self) -> tuple[float, float]:
        """Return cross-entropy and accuracy on the validation images of known classes, each of which counts once."""
        loss, hits, done = 0.0, 0.0, 0
        for rows, images in self.material.batches(self.material.known_rows(VAL), self.options.batch_size):
            values = self.material.targets.values[rows]
            some = self.network.judge(images, values, np.ones(len(rows), np.float32))
            loss, hits, done = loss + some[0], hits + some[1], done + len(rows)
        return loss / max(done, 1), hits / max(done, 1)

    def logits(self, code: int) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 (n, known classes) of one part, in inference mode, and the rows of its readable images."""
        logits, read = [np.empty((0, self.material.known), np.float32)], [np.empty(0, np.int64)]
        for rows, images in self.material.batches(self.material.rows(code), self.options.batch_size):
            logits.append(self.network.logits(images))
            read.append(rows)
        return np.concatenate(logits), np.concatenate(read)

    def fit_temperature(self) -> float:
        """What logits are divided by so that confidences on val are right."""
        logits, rows = self.logits(VAL)
        labels = self.material.targets.values[rows]
        known = labels < self.material.known
        return fit_temperature(logits[known], labels[known])

    def judge(self, code: int, temperature: float) -> LabelledPredictions:
        """One part as the network stands."""
        logits, rows = self.logits(code)
        paths = tuple(self.material.path(row) for row in rows.tolist())
        chances = softmax(logits, temperature)
        return LabelledPredictions(
            self.material.targets.values[rows], chances, self.material.classes, part=SPLITS[code], paths=paths
        )
