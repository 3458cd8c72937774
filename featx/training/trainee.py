"""A network trained on images or on maps: its interface to the loop over epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from featx.config import TrainingOptions
from featx.dataset import TRAIN, VAL
from featx.io.progress import Progress, no_progress
from featx.training.mixing import NO_MIXING, Mixing
from featx.training.network import Network
from featx.training.source import Source


class ImageTrainee:
    """The trainee (`featx.training.loop.Trainee`) of whatever learns from images with labels.

    Attributes
    ----------
    network : made with the targets of the source's examples
    source : what is trained on and evaluated on
    options : the batch size, and the number of epochs, which the progress names
    mixing : how the batches are altered that are trained on
    """

    def __init__(
        self,
        network: Network,
        source: Source,
        options: TrainingOptions,
        seed: int,
        progress: Progress = no_progress,
        mixing: Mixing = NO_MIXING,
    ) -> None:
        self.network, self.model, self.optimizer = network, network.model, network.optimizer
        self.source, self.examples = source, source.examples
        self.options, self.seed, self.progress, self.mixing = options, seed, progress, mixing

    def take_steps(self, epoch: int) -> tuple[float, float]:
        """Take a step for every batch of the training images, in an order drawn from (seed, epoch)."""
        return _means(self._steps(epoch))

    def evaluate(self) -> tuple[float, float]:
        """Return cross-entropy and accuracy on the validation images of known classes, each of which counts once."""
        return _means(self._evaluations(self.examples.known_rows(VAL)))

    def logits(self, code: int) -> tuple[np.ndarray, np.ndarray]:
        """Return logits float32 (n, known classes) of one part's readable images, and their positions int64 (n,)."""
        return self.infer(self.network.logits, self.examples.rows(code), self.examples.known)

    def infer(
        self, compute: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what a part of the network gives for images: float32 (n, width), and their positions int64 (n,).

        compute : from what the network takes (m, ...) to (m, width)
        rows : positions; those that cannot be read are left out
        """
        outputs, read = [np.empty((0, width), np.float32)], [np.empty(0, np.int64)]
        for some, inputs in self.source.batches(rows, self.options.batch_size, None):
            outputs.append(compute(inputs))
            read.append(some)
        return np.concatenate(outputs), np.concatenate(read)

    def _steps(self, epoch: int) -> Iterator[tuple[float, float, int]]:
        """Take the steps of an epoch; yield the sums of losses and hits, and the rows, of each."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.examples.known_rows(TRAIN))
        stage, done = f"epoch {epoch + 1}/{self.options.epochs}", 0
        batches = self.source.batches(order, self.options.batch_size, epoch)
        for number, (rows, inputs) in enumerate(batches):
            batch = self.mixing.alter(self.examples.targets, rows, inputs, (epoch, number))
            yield *self.network.step(*batch), len(rows)
            done += len(rows)
            self.progress(stage, done, len(order))

    def _evaluations(self, rows: np.ndarray) -> Iterator[tuple[float, float, int]]:
        for some, inputs in self.source.batches(rows, self.options.batch_size, None):
            values = self.examples.targets.values[some]
            yield *self.network.evaluate(inputs, values, np.ones(len(some), np.float32)), len(some)


def _means(sums: Iterable[tuple[float, float, int]]) -> tuple[float, float]:
    """Return loss and hits per row, of their sums over some rows each."""
    loss, hits, rows = 0.0, 0.0, 0
    for some_loss, some_hits, count in sums:
        loss, hits, rows = loss + some_loss, hits + some_hits, rows + count
    return loss / max(rows, 1), hits / max(rows, 1)
