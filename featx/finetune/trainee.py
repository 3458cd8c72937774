"""A grafted network in training: what fine-tuning adds to the shared trainee of networks on images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featx.backbones import import_keras
from featx.config import FinetuneOptions
from featx.engines.precision import choose_precision, mix_precision
from featx.finetune.downscaling import PREFIX, downscale_layers
from featx.finetune.grafting import HEAD, feature_tensor
from featx.finetune.unfreezing import Unfreezing
from featx.io.progress import Progress, no_progress
from featx.training.devices import ONE_DEVICE, Devices
from featx.training.groups import GroupedOptimizer, ParameterGroup
from featx.training.mixing import Mixing
from featx.training.network import Network, StepOptimizer, make_optimizer
from featx.training.source import Source
from featx.training.trainee import ImageTrainee

if TYPE_CHECKING:
    import keras

# preprocessing, pooling and head are exact: they cost next to nothing
_FLOAT32 = ("featx_", PREFIX)


class FinetuneTrainee(ImageTrainee):
    """The trainee of a fine-tune: which layers train depends on the epoch, and the arithmetic may be a short one.

    model : of `graft`, made in the scope of `devices`
    source : what it is trained on and evaluated on
    """

    options: FinetuneOptions

    def __init__(
        self,
        model: keras.Model,
        source: Source,
        options: FinetuneOptions,
        seed: int,
        progress: Progress = no_progress,
        devices: Devices = ONE_DEVICE,
    ) -> None:
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
        optimizer = _make_optimizer(options, self.precision, self.unfreezing.set_all(), devices)
        network = Network(model, optimizer, source.examples.targets, devices, feature_tensor(model))
        mixing = Mixing(options.mixup, options.cutmix, seed, options.label_smoothing)
        super().__init__(network, source, options, seed, progress, mixing)

    def compute_in(self, precision: str) -> None:
        """Compute in another arithmetic from now on, "float32" or a short one; weights are float32 in any case."""
        if precision != "float32" or self.precision != "float32":
            mix_precision(self.model, precision, _FLOAT32)
            self.network.compile()

    def take_steps(self, epoch: int) -> tuple[float, float]:
        """Take a step for every batch of the training images; only what trains in this epoch moves."""
        self.network.train_only(self.unfreezing.set(epoch))
        return super().take_steps(epoch)


def _make_optimizer(
    options: FinetuneOptions, precision: str, groups: Sequence[ParameterGroup], devices: Devices
) -> StepOptimizer:
    with devices.scope():
        optimizer = GroupedOptimizer(
            lambda: make_optimizer(options.optimizer, options.learning_rate, options.momentum),
            groups,
            options.weight_decay,
        )
        # gradients of float16 vanish below 6e-8
        return import_keras().optimizers.LossScaleOptimizer(optimizer) if precision == "float16" else optimizer
