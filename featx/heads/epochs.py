"""Training a network on features epoch by epoch; rows are read as they are needed, in memory or from the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.checkpoints import Checkpoint, reseed
from featx.errors import HeadError
from featx.heads import Features, width
from featx.heads.journal import EventWriter, Journal
from featx.heads.scaling import float_blocks
from featx.heads.schedules import Epoch, Schedule, Stopping
from featx.heads.targets import Targets

_CHUNK_BYTES = 64 << 20  # rows are drawn from the store in chunks of about this size


def train(
    network: Network,
    batches: Batches,
    watched: tuple[Features, Targets] | None,
    schedule: Schedule,
    stopping: Stopping,
    journal: Journal,
) -> list[Epoch]:
    """Train until it is over and leave the network with the weights of its best epoch.

    watched : validation rows

    Returns
    -------
    list of dict
        loss, accuracy, val_loss, val_accuracy, learning_rate and seconds of every epoch. Loss and accuracy are those of
        the batches as they were trained on, the penalty added, as Keras has them.

    Raises
    ------
    HeadError
        A loss that is not finite.
    """
    checkpoint = Checkpoint(network.model, network.optimizer, journal.state)
    history = checkpoint.resume()
    if history:
        journal.tell(f"Going on after epoch {len(history)}.")
    with closing(EventWriter(journal.events)) as events:
        while not stopping.is_over(history):
            history.append(_train_epoch(network, batches, watched, schedule.rate(history), len(history)))
            events.write(len(history), history[-1])
            checkpoint.keep(history, best=stopping.best(history) == len(history) - 1)
    checkpoint.restore_best()
    return history


def _train_epoch(
    network: Network, batches: Batches, watched: tuple[Features, Targets] | None, rate: float, number: int
) -> Epoch:
    start = time.perf_counter()
    network.optimizer.learning_rate = rate
    reseed(network.model, batches.seed, number)
    loss, accuracy = network.take_steps(batches, number)
    val_loss, val_accuracy = network.measure(*watched) if watched else (None, None)
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


@dataclass(frozen=True)
class Batches:
    """Rows in an order drawn anew from (seed, epoch) for each epoch."""

    features: Features
    targets: Targets
    batch_size: int
    seed: int

    def chunks(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield features float32 (rows, d), values and weights of the targets (rows, ...), some batches at a time.

        Each chunk is read from the features in the order they are stored, which is the order that disks like.
        """
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.targets))
        size = max(1, _CHUNK_BYTES // (4 * width(self.features) * self.batch_size)) * self.batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            stored = np.sort(rows)
            read = self.features.take(stored).asarray()
            yield read[np.searchsorted(stored, rows)], self.targets.values[rows], self.targets.weight[rows]


class Network:
    """A Keras model and its optimizer, with compiled functions to train and to measure it.

    The loop over batches is inside the compiled function: a step of a small head takes less time than a call of one.
    """

    def __init__(self, model: Any, optimizer: Any, targets: Targets) -> None:
        import tensorflow as tf

        self.model, self.optimizer = model, optimizer
        optimizer.build(model.trainable_variables)

        def train_on(x: Any, values: Any, weight: Any, size: Any) -> Any:
            total, hits = tf.constant(0.0), tf.constant(0.0)
            for start in tf.range(0, tf.shape(x)[0], size):
                batch = slice(start, start + size)
                with tf.GradientTape() as tape:
                    logits = model(x[batch], training=True)
                    losses = targets.losses(values[batch], logits) * weight[batch] + self.penalty()
                    loss = tf.reduce_mean(losses)
                optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
                total += tf.reduce_sum(losses)
                hits += tf.reduce_sum(targets.hits(values[batch], logits))
            return total, hits

        def judge(x: Any, values: Any, weight: Any) -> Any:
            logits = model(x, training=False)
            return tf.reduce_sum(targets.losses(values, logits) * weight), tf.reduce_sum(targets.hits(values, logits))

        self._train_on, self._judge = (tf.function(one, reduce_retracing=True) for one in (train_on, judge))

    def penalty(self) -> Any:
        """Return what L2 adds to the loss, a scalar tensor."""
        import tensorflow as tf

        return tf.add_n(self.model.losses) if self.model.losses else tf.constant(0.0)

    def take_steps(self, batches: Batches, epoch: int) -> tuple[float, float]:
        """Take a gradient step for every batch of an epoch; return the mean loss and the accuracy."""
        import tensorflow as tf

        size = tf.constant(batches.batch_size)
        sums = [self._train_on(*map(tf.constant, chunk), size) for chunk in batches.chunks(epoch)]
        loss, hits = (sum(map(float, column)) for column in zip(*sums, strict=True))
        return loss / len(batches.targets), hits / len(batches.targets)

    def measure(self, features: Features, targets: Targets) -> tuple[float, float]:
        """Return the loss, a weighted mean to which the penalty is added, and the accuracy on rows read in blocks."""
        import tensorflow as tf

        loss, hits, start = 0.0, 0.0, 0
        for block in float_blocks(features):
            rows = slice(start, start + len(block))
            found = self._judge(*map(tf.constant, (block, targets.values[rows], targets.weight[rows])))
            loss, hits, start = loss + float(found[0]), hits + float(found[1]), rows.stop
        return loss / float(targets.weight.sum(dtype=np.float64)) + float(self.penalty()), hits / len(targets)
