"""The loop over epochs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np

from featx.errors import HeadError
from featx.training.callbacks import Recording
from featx.training.checkpoints import Checkpoint, reseed
from featx.training.log import Epoch, TrainingLog
from featx.training.network import StepOptimizer
from featx.training.schedules import Schedule, Stopping

if TYPE_CHECKING:
    import keras


class Trainee(Protocol):
    """A network in training, and how it sees its images or features.

    Attributes
    ----------
    model : the Keras model that is trained
    optimizer : Keras' optimizer, built with every variable that any epoch trains
    """

    model: keras.Model
    optimizer: StepOptimizer

    def take_steps(self, epoch: int) -> tuple[float, float]:
        """Take the gradient steps of an epoch, the first of which is 0; return the mean loss and the accuracy.

        Order and random numbers are functions of the seed and `epoch` alone.
        """

    def evaluate(self) -> tuple[float, float] | tuple[None, None]:
        """Return loss and accuracy on the validation rows, None without any."""


def train(trainee: Trainee, schedule: Schedule, stopping: Stopping, recording: Recording, seed: int) -> TrainingLog:
    """Train until it is over, leave the model with the weights of its best epoch, and return the log.

    Raises
    ------
    HeadError
        A loss that is not finite.
    """
    checkpoint = Checkpoint(trainee.model, trainee.optimizer, recording.state)
    epochs = checkpoint.resume()
    log = TrainingLog(epochs, stopping.best(epochs))
    callbacks = recording.callbacks(checkpoint)
    try:
        for callback in callbacks:
            callback.on_train_begin(log)
        while not stopping.is_over(log.epochs):
            epochs = (*log.epochs, _train_epoch(trainee, schedule.rate(log.epochs), len(log), seed))
            log = TrainingLog(epochs, stopping.best(epochs))
            for callback in callbacks:
                callback.on_epoch_end(trainee.model, log)
    finally:
        for callback in callbacks:
            callback.on_train_end()
    checkpoint.restore_best()
    return log


def _train_epoch(trainee: Trainee, rate: float, number: int, seed: int) -> Epoch:
    start = time.perf_counter()
    trainee.optimizer.learning_rate = rate
    reseed(trainee.model, seed, number)
    loss, accuracy = trainee.take_steps(number)
    val_loss, val_accuracy = trainee.evaluate()
    for value in (loss, val_loss):
        if value is not None and not np.isfinite(value):
            raise HeadError(
                f"The loss became {value} in epoch {number + 1}; try a smaller --learning-rate than {rate:g}."
            )
    return Epoch(loss, accuracy, val_loss, val_accuracy, rate, round(time.perf_counter() - start, 3))
