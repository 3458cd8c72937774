"""The dense head: a small Keras network on features, standardised by its first layer.

It is built of Keras' own layers, so that a saved one loads anywhere in safe mode. Batches are drawn in an order that
depends on (seed, epoch) alone and read from the features as they are needed; nothing global is seeded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from featx.backbones.keras_files import save_network
from featx.backbones.runtime import import_keras
from featx.config import HeadOptions, HiddenLayers, Monitor, Optimizer, ScheduleKind, check_dense
from featx.errors import UsageError
from featx.features import Features, as_features, width
from featx.heads.base import Parameters, check_width
from featx.heads.epochs import Batches, FeaturesTrainee
from featx.heads.scaling import Standardization, float_blocks, standardize
from featx.heads.targets import training_targets, watched_targets
from featx.io.digests import digest_bytes, digest_json
from featx.io.versions import installed_versions
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog
from featx.training.loop import train
from featx.training.network import Network, make_optimizer
from featx.training.schedules import Schedule, Stopping
from featx.training.targets import Targets

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass
class DenseHead(Parameters):
    """Hidden layers and one layer of logits, trained by gradient steps.

    The parameters are the options of the same names (`featx.config.HeadOptions`), checked when it is fitted.

    Attributes
    ----------
    training_log_ : a row per epoch, and which of them is the best, whose weights are kept
    """

    hidden: str = "256,0.3,128"
    activation: str = "relu"
    l2: float = 0.0
    optimizer: Optimizer = "adam"
    momentum: float = 0.9
    learning_rate: float = 1e-3
    schedule: ScheduleKind = "constant"
    boundaries: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    decay: float = 0.95
    factor: float = 0.5
    plateau_patience: int = 5
    least_rate: float = 0.0
    warmup: int = 0
    epochs: int = 100
    batch_size: int = 64
    monitor: Monitor = "val_loss"
    patience: int = 10
    min_delta: float = 0.0
    baseline: float | None = None
    stop_accuracy: float | None = None
    stop_val_accuracy: float | None = None
    class_weight: str = "none"
    positive_weight: float = 1.0
    seed: int = 0
    classes_: np.ndarray = field(init=False, repr=False)
    n_features_in_: int = field(init=False, repr=False)
    model_: keras.Model = field(init=False, repr=False)
    training_log_: TrainingLog = field(init=False, repr=False)

    @classmethod
    def from_options(cls, strength: float, options: HeadOptions, seed: int) -> Self:  # noqa: ARG003 - it has no strength
        """Build the head of `--clf dense`."""
        return cls(**{name: getattr(options, name) for name in _SHARED}, seed=seed)

    def fit(
        self,
        features: Features | np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        validation: tuple[Features | np.ndarray, np.ndarray] | None = None,
        recording: Recording | None = None,
    ) -> Self:
        """Train on features (n, ...) and codes y (n,), or bool y (n, k) where an image may have several labels.

        With `validation` (features, y) training stops early and the weights of the best epoch are kept; without it, all
        epochs are trained unless the training accuracy ends them. With labels, `classes_` numbers the columns of y, and
        accuracy is the share of labels that are right.

        Parameters
        ----------
        sample_weight : float64 (n,); its scale does not matter
        recording : how the training is recorded. A fit of the same parameters on the same rows goes on from where
            it was interrupted, and ends with the same weights; what is kept is for the caller to remove

        Raises
        ------
        UsageError
            Parameters out of bounds, or that contradict each other.
        HeadError
            Targets that do not fit the features, a loss that is not finite.
        FeaturesError
            Features that are not finite.
        """
        options = HeadOptions(**{name: getattr(self, name) for name in _SHARED})
        check_dense(options)
        features = as_features(features)
        targets = training_targets(features, y, sample_weight, self.class_weight, self.positive_weight)
        scaling = standardize(features)
        watched = None if validation is None else self._watched(validation, targets)
        model = self._network(scaling, len(targets.classes))
        network = Network(model, make_optimizer(self.optimizer, self.learning_rate, self.momentum), targets)
        trainee = FeaturesTrainee(network, Batches(features, targets, self.batch_size, self.seed), watched)
        recording = recording or Recording()
        if recording.is_kept:
            recording = recording.of(self._digest(features, targets, watched)[:12])
        self.training_log_ = train(trainee, Schedule.of(options), Stopping.of(options), recording, self.seed)
        _drop_constant(model, scaling)
        self.classes_, self.n_features_in_, self.model_ = targets.classes, width(features), model
        return self

    def logits(self, features: Features | np.ndarray) -> np.ndarray:
        """Return float32 (n, k)."""
        features = as_features(features)
        check_width(type(self).__name__, self.n_features_in_, features)
        return model_logits(self.model_, features)

    def save(self, path: Path) -> None:
        """Write the network as a `.keras` file; `model_logits` predicts with what Keras loads of it."""
        save_network(self.model_, path)

    def _watched(
        self, validation: tuple[Features | np.ndarray, np.ndarray], targets: Targets
    ) -> tuple[Features, Targets] | None:
        rows, watched = watched_targets(validation[1], targets, self.class_weight)
        return (as_features(validation[0]).take(rows), watched) if len(rows) else None

    def _network(self, scaling: Standardization, classes: int) -> keras.Model:
        api = import_keras()
        layers = api.layers
        seeds = iter(np.random.default_rng(self.seed).integers(2**31, size=1000).tolist())
        penalty = api.regularizers.L2(self.l2) if self.l2 else None

        def dense(units: int, activation: str | None = None, name: str | None = None) -> keras.Layer:
            start = api.initializers.GlorotUniform(next(seeds))
            function = None if activation is None else _activation(activation)
            return layers.Dense(units, function, kernel_initializer=start, kernel_regularizer=penalty, name=name)

        stack = [api.Input((len(scaling.mean),), name="features"), _standardization(scaling)]
        for item in HiddenLayers(self.hidden).layers:
            if isinstance(item, int):
                stack.append(dense(item, self.activation))
            else:
                stack.append(layers.Dropout(item, seed=next(seeds)))
        return api.Sequential([*stack, dense(classes, name="logits")], name="head")

    def _digest(self, features: Features, targets: Targets, watched: tuple[Features, Targets] | None) -> str:
        """SHA-256 of what the weights depend on: of the rows themselves, whose sums differ between processors."""
        parts = [(features, targets), *([watched] if watched else [])]
        rows = hashlib.sha256()
        for block in (block for some, _ in parts for block in some.blocks()):
            rows.update(np.ascontiguousarray(block).data)
        arrays = [array for _, some in parts for array in (some.values, some.weight)]
        return digest_json(
            {
                "params": self.get_params(),
                "rows": rows.hexdigest(),
                "arrays": [digest_bytes(np.ascontiguousarray(array).tobytes()).hex() for array in arrays],
                "versions": installed_versions("keras", "tensorflow"),
            }
        )


_SHARED = tuple(entry.name for entry in fields(HeadOptions) if entry.name in {f.name for f in fields(DenseHead)})
"""The parameters that are options"""


def model_logits(model: keras.Model, features: Features) -> np.ndarray:
    """Return float32 (n, k) of a dense head's network."""
    blocks = [np.asarray(model(block, training=False)) for block in float_blocks(features)]
    return np.concatenate(blocks) if blocks else np.empty((0, model.output_shape[-1]), np.float32)


def _standardization(scaling: Standardization) -> keras.Layer:
    """Return a layer for (x - mean) * inverse; a constant feature becomes 0."""
    variance = np.square(1 / np.where(scaling.inverse > 0, scaling.inverse, 1))
    return import_keras().layers.Normalization(mean=scaling.mean, variance=variance, name="standardization")


def _drop_constant(model: keras.Model, scaling: Standardization) -> None:
    """Take from the first dense layer the weights of features that were constant in training.

    They have learned nothing and are as they were drawn: a feature that differs later would move the logits by them.
    """
    first = next(layer for layer in model.layers if isinstance(layer, import_keras().layers.Dense))
    kernel, *bias = first.get_weights()
    kernel[scaling.inverse == 0] = 0
    first.set_weights([kernel, *bias])


def _activation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    functions = import_keras().activations
    try:
        found: Callable[[tf.Tensor], tf.Tensor] = functions.get(name)
    except ValueError:
        known = ", ".join(sorted(n for n in dir(functions) if n.islower() and not n.startswith("_")))
        raise UsageError(f"No activation {name!r}; Keras has {known}.") from None
    return found
