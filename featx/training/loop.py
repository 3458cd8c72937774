"""The loop over epochs."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, Protocol

import numpy as np

from featx.errors import HeadError
from featx.training.checkpoints import Checkpoint, History, reseed
from featx.training.log import EventWriter, Journal
from featx.training.schedules import Epoch, Schedule, Stopping


class Trainee(Protocol):
    """A network in training, and how it sees its images or features.

    Attributes
    ----------
    model : the Keras model that is trained
    optimizer : Keras' optimizer, built with every variable that any epoch trains
    """

    model: Any
    optimizer: Any

    def take_steps(self, epoch: int) -> tuple[float, float]:
        """Take the gradient steps of an epoch, the first of which is 0; return the mean loss and the accuracy.

        Order and random numbers are functions of the seed and `epoch` alone.
        """

    def measure(self) -> tuple[float, float] | tuple[None, None]:
        """Return loss and accuracy on the validation rows, None without any."""


def train(trainee: Trainee, schedule: Schedule, stopping: Stopping, journal: Journal, seed: int) -> History:
    """Train until it is over and leave the model with the weights of its best epoch.

    Returns
    -------
    list of dict
        loss, accuracy, val_loss, val_accuracy, learning_rate and seconds of every epoch. Loss and accuracy are those of
        the batches as they were trained on, penalties added, as Keras has them.

    Raises
    ------
    HeadError
        A loss that is not finite.
    """
    checkpoint = Checkpoint(trainee.model, trainee.optimizer, journal.state)
    history = checkpoint.resume()
    if history:
        journal.tell(f"Going on after epoch {len(history)}.")
    with closing(EventWriter(journal.events)) as events:
        while not stopping.is_over(history):
            history.append(_train_epoch(trainee, schedule.rate(history), len(history), seed))
            best = stopping.best(history) == len(history) - 1
            events.write(len(history), history[-1])
            if journal.snapshots is not None:
                journal.snapshots.write(trainee.model, len(history), best=best)
            checkpoint.keep(history, best=best)  # from here on it counts
            journal.after_epoch(history)
    checkpoint.restore_best()
    return history


def _train_epoch(trainee: Trainee, rate: float, number: int, seed: int) -> Epoch:
    start = time.perf_counter()
    trainee.optimizer.learning_rate = rate
    reseed(trainee.model, seed, number)
    loss, accuracy = trainee.take_steps(number)
    val_loss, val_accuracy = trainee.measure()
    for value in (loss, val_loss):
        if value is not None and not np.isfinite(value):
            raise HeadError(
                f"The loss became {value} in epoch {number + 1}; try a smaller --learning-rate than {rate:g}."
            )
    return {
        "loss": loss,
        "accuracy": accuracy,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "learning_rate": rate,
        "seconds": round(time.perf_counter() - start, 3),
    }
