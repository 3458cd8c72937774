"""A baseline in training: the trainee of all networks that are trained on images, and what it predicts in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.baseline.material import Material
from featx.config import BaselineOptions
from featx.dataset import SPLITS, VAL
from featx.io.progress import Progress, no_progress
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.probabilities import fit_temperature, softmax
from featx.training.network import Network, make_optimizer
from featx.training.trainee import ImageTrainee

if TYPE_CHECKING:
    import keras


class Scratch(ImageTrainee):
    """The trainee of a baseline."""

    options: BaselineOptions

    def __init__(
        self,
        model: keras.Model,
        material: Material,
        options: BaselineOptions,
        seed: int,
        progress: Progress = no_progress,
    ) -> None:
        optimizer = make_optimizer(options.optimizer, options.learning_rate, options.momentum)
        network = Network(model, optimizer, material.examples.targets)
        super().__init__(network, material.source, options, seed, progress)
        self.material = material

    def fit_temperature(self) -> float:
        """Return what logits are divided by so that confidences on val are right."""
        logits, rows = self.logits(VAL)
        labels = self.examples.labels[rows]
        known = labels < self.examples.known
        return fit_temperature(logits[known], labels[known])

    def judge(self, code: int, temperature: float) -> LabelledPredictions:
        """Return the predictions of one part as the network stands."""
        logits, rows = self.logits(code)
        paths = tuple(self.examples.paths[row] for row in rows.tolist())
        return LabelledPredictions(
            self.examples.labels[rows],
            softmax(logits, temperature),
            self.examples.classes,
            part=SPLITS[code],
            paths=paths,
        )
