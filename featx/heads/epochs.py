"""Train the dense head: rows of features are read on demand, from memory or the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featx.features import Features, width
from featx.heads.scaling import float_blocks
from featx.training.network import Network
from featx.training.targets import Targets

_CHUNK_BYTES = 32 << 20  # rows are drawn from the store in chunks of about this size


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


class FeaturesTrainee:
    """A network on features, the rows that train it, and the rows and targets that are watched, if any are."""

    def __init__(self, network: Network, batches: Batches, watched: tuple[Features, Targets] | None) -> None:
        self.network, self.batches, self.watched = network, batches, watched
        self.model, self.optimizer = network.model, network.optimizer

    def take_steps(self, epoch: int) -> tuple[float, float]:
        """Take a gradient step for every batch of an epoch; return the mean loss and the accuracy."""
        size, n = self.batches.batch_size, len(self.batches.targets)
        sums = [self.network.steps(*chunk, size) for chunk in self.batches.chunks(epoch)]
        loss, hits = map(sum, zip(*sums, strict=True))
        return loss / n, hits / n

    def evaluate(self) -> tuple[float, float] | tuple[None, None]:
        """Return the loss, a weighted mean to which the penalty is added, and the accuracy on the watched rows."""
        if self.watched is None:
            return None, None
        features, targets = self.watched
        loss, hits, start = 0.0, 0.0, 0
        for block in float_blocks(features):
            rows = slice(start, start + len(block))
            some = self.network.evaluate(block, targets.values[rows], targets.weight[rows])
            loss, hits, start = loss + some[0], hits + some[1], rows.stop
        penalty = float(self.network.penalty())
        return loss / float(targets.weight.sum(dtype=np.float64)) + penalty, hits / len(targets)
