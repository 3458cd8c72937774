"""A grafted network in training: what the loop over epochs asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.backbones import import_keras
from featx.config import FinetuneOptions
from featx.dataset import TRAIN, VAL
from featx.engines.tensorflow import choose_precision, mix_precision
from featx.finetune.downscaling import PREFIX, downscale_layers
from featx.finetune.grafting import HEAD
from featx.finetune.mixing import Mixing, SoftTargets
from featx.finetune.source import Source
from featx.finetune.unfreezing import Unfreezing
from featx.io.progress import Progress, no_progress
from featx.training.devices import ONE_DEVICE, Devices
from featx.training.groups import Group, GroupedOptimizer
from featx.training.network import Network, make_optimizer

if TYPE_CHECKING:
    import keras

# preprocessing, pooling and head are exact: they cost next to nothing
_FLOAT32 = ("featx_", PREFIX)


class Tuning:
    """The trainee (`featx.training.loop.Trainee`) of a fine-tune.

    model : of `graft`, made in the scope of `devices`
    source : what it is trained on and measured by
    """

    def __init__(
        self,
        model: keras.Model,
        source: Source,
        options: FinetuneOptions,
        seed: int,
        progress: Progress = no_progress,
        devices: Devices = ONE_DEVICE,
    ) -> None:
        self.source, self.examples = source, source.examples
        self.options, self.seed, self.progress = options, seed, progress
        precision = choose_precision(options.mixed_precision)
        # Keras looks for overflow in one device's gradients alone, before they are summed
        self.precision = "float32" if precision == "float16" and devices.count > 1 else precision
        self.unfreezing = Unfreezing(
            model,
            [HEAD, *downscale_layers(model)],
            options.unfreeze,
            options.batch_norm,
            options.gradual,
            options.layer_decay,
        )
        self._mixing = Mixing(options.mixup, options.cutmix, seed)
        self._targets = SoftTargets(self.examples.targets)
        optimizer = _make_optimizer(options, self.precision, self.unfreezing.set_all(), devices)
        self.network = Network(model, optimizer, self._targets, devices)
        self.model, self.optimizer = model, optimizer

    def compute_in(self, precision: str) -> None:
        """Compute in another arithmetic from now on, "float32" or a short one; weights are float32 in any case."""
        if precision != "float32" or self.precision != "float32":
            mix_precision(self.model, precision, _FLOAT32)
            self.network.compile()

    def take_steps(self, epoch: int) -> tuple[float, float]:
        """Take a step for every batch of the training images, in an order drawn from (seed, epoch)."""
        self.network.train_only(self.unfreezing.set(epoch))
        order = np.random.default_rng((self.seed, epoch)).permutation(self.examples.known_rows(TRAIN))
        stage = f"epoch {epoch + 1}/{self.options.epochs}"
        loss, hits, done = 0.0, 0.0, 0
        batches = self.source.batches(order, self.options.batch_size, epoch)
        for number, (rows, inputs) in enumerate(batches):
            some = self.network.step(*self._soften(inputs, rows, epoch, number))
            loss, hits, done = loss + some[0], hits + some[1], done + len(rows)
            self.progress(stage, done, len(order))
        return loss / max(done, 1), hits / max(done, 1)

    def _soften(self, inputs: np.ndarray, rows: np.ndarray, epoch: int, batch: int) -> Sequence[np.ndarray]:
        """Inputs, targets and weights of a batch as it is trained on."""
        values, weight = self.examples.targets.values[rows], self.examples.targets.weight[rows]
        if not (self.options.label_smoothing or self._mixing.changes):
            return inputs, values, weight
        shares = self._targets.shares(values, self.options.label_smoothing)
        return self._mixing.mix(inputs, shares, weight, epoch, batch)

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


def _make_optimizer(options: FinetuneOptions, precision: str, groups: Sequence[Group], devices: Devices) -> Any:
    keras = import_keras()
    with devices.scope():
        optimizer = GroupedOptimizer(
            lambda: make_optimizer(keras, options.optimizer, options.learning_rate, options.momentum),
            groups,
            options.weight_decay,
        )
        # gradients of float16 vanish below 6e-8
        return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "float16" else optimizer
