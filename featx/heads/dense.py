"""The dense head: a small Keras network on features, standardised by its first layer.

It is built of Keras' own layers, so that a saved one loads anywhere in safe mode. Batches are drawn in an order that
depends on (seed, epoch) alone and read from the features as they are needed; nothing global is seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from featx.backbones.runtime import import_keras
from featx.errors import HeadError, UsageError
from featx.heads import Features, Parameters, as_features, check_targets, check_width, row_weights, width
from featx.heads.calibrate import softmax
from featx.heads.scaling import Standardization, float_blocks, standardize
from featx.options import HeadOptions

OPTIMIZERS = ("adam", "sgd", "rmsprop", "adagrad", "adadelta", "adamax", "nadam")
_CHUNK_BYTES = 64 << 20  # rows are drawn from the store in chunks of about this size
_LEAST = 1e-15  # the probability that the loss on validation rows takes for 0

Steps = Callable[[np.ndarray, np.ndarray, np.ndarray, int], float]


def parse_hidden(hidden: str) -> tuple[int | float, ...]:
    """Read a list of layers: `256,0.3,128` is 256 units, dropout of 0.3, 128 units. Empty: no hidden layer.

    Raises
    ------
    UsageError
        An item that is neither a whole number above 0 nor a fraction between 0 and 1.
    """
    return tuple(_layer(item.strip()) for item in hidden.split(",") if item.strip())


def _layer(item: str) -> int | float:
    if item.isdecimal() and int(item) > 0:
        return int(item)
    try:
        share = float(item)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise UsageError(
            f"--hidden has units (whole numbers) and dropout (fractions below 1) like 256,0.3,128; got {item!r}."
        )
    return share


@dataclass
class DenseHead(Parameters):
    """Hidden layers and one layer of logits, trained by gradient steps."""

    hidden: str = "256,0.3,128"
    activation: str = "relu"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    epochs: int = 100
    batch_size: int = 64
    patience: int = 10
    class_weight: str = "none"
    seed: int = 0
    classes_: np.ndarray = field(init=False, repr=False)
    n_features_in_: int = field(init=False, repr=False)
    model_: Any = field(init=False, repr=False)
    best_epoch_: int = field(init=False, repr=False)
    history_: dict[str, list[float]] = field(init=False, repr=False)

    @classmethod
    def from_options(cls, strength: float, options: HeadOptions, seed: int) -> Self:  # noqa: ARG003 - it has no strength
        """Build the head of `--clf dense`."""
        return cls(
            hidden=options.hidden,
            activation=options.activation,
            optimizer=options.optimizer,
            learning_rate=options.learning_rate,
            epochs=options.epochs,
            batch_size=options.batch_size,
            patience=options.patience,
            class_weight=options.class_weight,
            seed=seed,
        )

    def fit(
        self,
        features: Features | np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        validation: tuple[Features | np.ndarray, np.ndarray] | None = None,
    ) -> Self:
        """Train on features (n, ...) and codes y (n,).

        With `validation` (features, y) training stops after `patience` epochs without a lower loss there, and the
        weights of the best epoch are kept; without it, all epochs are trained.
        """
        keras = import_keras()
        features = as_features(features)
        classes, index = check_targets(features, y, sample_weight)
        model = self._network(keras, standardize(features), len(classes))
        take_steps = _compiled_steps(model, _optimizer(keras, self.optimizer, self.learning_rate))
        weight = row_weights(index, sample_weight, self.class_weight)
        batches = Batches(features, index, (weight / weight.mean()).astype(np.float32), self.batch_size, self.seed)
        watch = None if validation is None else self._watch(validation, classes, index)
        self.classes_, self.n_features_in_, self.model_ = classes, width(features), model
        self._train(batches, take_steps, watch)
        return self

    def _train(self, batches: Batches, take_steps: Steps, watch: Callable[[Any], float] | None) -> None:
        """Train until the epochs are over or patience is; keep the best weights, the losses, and their epoch."""
        model, best, kept = self.model_, np.inf, None
        self.best_epoch_, self.history_ = self.epochs, {"loss": [], "val_loss": []}
        for epoch in range(self.epochs):
            loss = sum(take_steps(*chunk, self.batch_size) for chunk in batches.chunks(epoch)) / len(batches.index)
            if not np.isfinite(loss):
                raise HeadError(f"The loss became {loss} in epoch {epoch + 1}; try a smaller --learning-rate.")
            self.history_["loss"].append(loss)
            if watch is None:
                continue
            self.history_["val_loss"].append(watch(model))
            if self.history_["val_loss"][-1] < best:
                best, kept, self.best_epoch_ = self.history_["val_loss"][-1], model.get_weights(), epoch + 1
            elif epoch + 1 - self.best_epoch_ >= self.patience:
                break
        if kept is not None:
            model.set_weights(kept)

    def logits(self, features: Features | np.ndarray) -> np.ndarray:
        """Return float32 (n, k)."""
        features = as_features(features)
        check_width(type(self).__name__, self.n_features_in_, features)
        return model_logits(self.model_, features)

    def save(self, path: Path) -> None:
        """Write the network as a `.keras` file; `model_logits` predicts with what Keras loads of it."""
        self.model_.save(path)

    def _network(self, keras: Any, scaling: Standardization, classes: int) -> Any:
        seeds = iter(np.random.default_rng(self.seed).integers(2**31, size=1000).tolist())
        layers = [keras.Input((len(scaling.mean),), name="features"), _standardization(keras, scaling)]
        for item in parse_hidden(self.hidden):
            if isinstance(item, int):
                start = keras.initializers.GlorotUniform(next(seeds))
                layers.append(keras.layers.Dense(item, _activation(keras, self.activation), kernel_initializer=start))
            else:
                layers.append(keras.layers.Dropout(item, seed=next(seeds)))
        start = keras.initializers.GlorotUniform(next(seeds))
        layers.append(keras.layers.Dense(classes, kernel_initializer=start, name="logits"))
        return keras.Sequential(layers, name="head")

    def _watch(
        self, validation: tuple[Features | np.ndarray, np.ndarray], classes: np.ndarray, index: np.ndarray
    ) -> Callable[[Any], float]:
        """Return the loss on validation rows, weighted by class as training is."""
        features, y = as_features(validation[0]), validation[1]
        rows = np.flatnonzero(np.isin(y, classes))
        features, codes = features.take(rows), np.searchsorted(classes, y[rows])
        weight = np.ones(len(rows))
        if self.class_weight == "balanced":
            weight = 1 / np.bincount(index)[codes]

        def loss(model: Any) -> float:
            true = softmax(model_logits(model, features))[np.arange(len(codes)), codes]
            return float(np.average(-np.log(np.maximum(true, _LEAST)), weights=weight))

        return loss


def model_logits(model: Any, features: Features) -> np.ndarray:
    """Return float32 (n, k) of a dense head's network."""
    blocks = [np.asarray(model(block, training=False)) for block in float_blocks(features)]
    return np.concatenate(blocks) if blocks else np.empty((0, model.output_shape[-1]), np.float32)


@dataclass(frozen=True)
class Batches:
    """Rows in an order drawn anew from (seed, epoch) for each epoch."""

    features: Features
    index: np.ndarray
    weight: np.ndarray
    batch_size: int
    seed: int

    def chunks(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield features float32 (rows, d), classes and weights (rows,), some batches at a time.

        Each chunk is read from the features in the order they are stored, which is the order that disks like.
        """
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.index))
        size = max(1, _CHUNK_BYTES // (4 * width(self.features) * self.batch_size)) * self.batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            stored = np.sort(rows)
            read = self.features.take(stored).asarray()
            yield read[np.searchsorted(stored, rows)], self.index[rows], self.weight[rows]


def _compiled_steps(model: Any, optimizer: Any) -> Steps:
    """Return a function that takes a gradient step for every batch of a chunk, and returns the sum of the losses.

    The loop over batches is inside the compiled function: a step of a small head takes less time than a call of one.
    """
    import tensorflow as tf

    optimizer.build(model.trainable_variables)

    def steps(x: Any, index: Any, weight: Any, size: Any) -> Any:
        total = tf.constant(0.0)
        for start in tf.range(0, tf.shape(x)[0], size):
            batch = slice(start, start + size)
            with tf.GradientTape() as tape:
                logits = model(x[batch], training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(index[batch], logits) * weight[batch]
                loss = tf.reduce_mean(losses)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            total += tf.reduce_sum(losses)
        return total

    compiled = tf.function(steps, reduce_retracing=True)

    def take_steps(x: np.ndarray, index: np.ndarray, weight: np.ndarray, size: int) -> float:
        return float(compiled(*map(tf.constant, (x, index, weight)), tf.constant(size)))

    return take_steps


def _standardization(keras: Any, scaling: Standardization) -> Any:
    """Return a layer for (x - mean) * inverse; a constant feature becomes 0."""
    variance = np.square(1 / np.where(scaling.inverse > 0, scaling.inverse, 1))
    return keras.layers.Normalization(mean=scaling.mean, variance=variance, name="standardization")


def _activation(keras: Any, name: str) -> Any:
    try:
        return keras.activations.get(name)
    except ValueError:
        known = ", ".join(sorted(n for n in dir(keras.activations) if n.islower() and not n.startswith("_")))
        raise UsageError(f"No activation {name!r}; Keras has {known}.") from None


def _optimizer(keras: Any, name: str, learning_rate: float) -> Any:
    if name not in OPTIMIZERS:
        raise UsageError(f"No optimizer {name!r}; there are {', '.join(OPTIMIZERS)}.")
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": learning_rate}})
