"""The gradient step, compiled: from examples through loss and gradients to the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, get_args

import numpy as np

from featx.backbones.runtime import import_keras
from featx.config import Optimizer
from featx.errors import UsageError
from featx.training.devices import ONE_DEVICE, BatchShare, Devices

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from featx.training.devices import Sums

OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)


class Objective(Protocol):
    """What is learned: loss and accuracy of some rows, as TensorFlow tensors (rows,)."""

    def losses(self, values: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return the loss of each row; values (rows, ...) are the targets, logits (rows, k) are predicted."""

    def hits(self, values: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return 1 where a row is right, 0 where it is wrong, or the share of it that is right."""


class StepOptimizer(Protocol):
    """An optimizer of Keras, or what behaves like one."""

    learning_rate: float

    @property
    def variables(self) -> list[keras.Variable]:
        """Its state."""

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the state of these variables."""

    def apply(self, gradients: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable]) -> None:
        """Move variables by their gradients."""

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Return what the gradients are taken of."""


class Network:
    """A Keras model, its optimizer and its objective, with compiled functions to train and to evaluate it.

    Attributes
    ----------
    variables : what a step moves; all of the model's trainable variables until `train_only` is called
    devices : where its steps are taken; model and optimizer are made in their scope
    inner : a tensor of the model, (n, d), which `features` gives
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: StepOptimizer,
        objective: Objective,
        devices: Devices = ONE_DEVICE,
        inner: keras.KerasTensor | None = None,
    ) -> None:
        self.model, self.optimizer, self.objective, self.devices = model, optimizer, objective, devices
        # both in one, since tracing a large network takes seconds
        self._both = model if inner is None else import_keras().Model(model.inputs, [inner, model.outputs[0]])
        self.variables: Sequence[keras.Variable] = list(model.trainable_variables)
        with devices.scope():
            optimizer.build(self.variables)
        self.compile()

    def train_only(self, variables: Sequence[keras.Variable]) -> None:
        """From now on move only these of the variables that the network was made with."""
        if [id(one) for one in variables] != [id(one) for one in self.variables]:
            self.variables = list(variables)
            self._compile_steps()  # they were traced with the others; inference is what it was

    def step(self, x: np.ndarray, values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
        """Take one step on a batch; return the sums of its losses, penalty included, and of its hits.

        Parameters
        ----------
        x : float32 (rows, ...), what the model takes
        values, weight : (rows, ...) of the objective, float32 (rows,)
        """
        loss, hits = self._step(*_tensors(x, values, weight))
        return float(loss), float(hits)

    def steps(self, x: np.ndarray, values: np.ndarray, weight: np.ndarray, size: int) -> tuple[float, float]:
        """Take a step for every `size` rows, as `step` does; return the sums over all of them.

        The loop is inside the compiled function: a step of a small network takes less time than a call of one.
        """
        import tensorflow as tf

        loss, hits = self._steps(*_tensors(x, values, weight), tf.constant(size))
        return float(loss), float(hits)

    def evaluate(self, x: np.ndarray, values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
        """Return the sums of the weighted losses, without penalty, and of the hits, in inference mode."""
        loss, hits = self._evaluate(*_tensors(x, values, weight))
        return float(loss), float(hits)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Return float32 (rows, k), in inference mode."""
        return np.asarray(self._infer(*_tensors(x))[-1])

    def features(self, x: np.ndarray) -> np.ndarray:
        """Return the values of the inner tensor, float32 (rows, d), in inference mode."""
        return np.asarray(self._infer(*_tensors(x))[0])

    def penalty(self) -> tf.Tensor:
        """Return what regularisers add to the loss, a scalar tensor."""
        import tensorflow as tf

        return tf.add_n(self.model.losses) if self.model.losses else tf.constant(0.0)

    def compile(self) -> None:
        """Trace anew what is traced of the model, as is needed when its layers compute in another way than before."""
        self._compile_steps()
        self._evaluate, self._infer = _Compiled(self._sums_in_inference), _Compiled(self._in_inference)

    def _compile_steps(self) -> None:
        self._step, self._steps = _Compiled(self._step_on_devices), _Compiled(self._step_by_step)

    def _step_on_share(self, share: BatchShare, x: tf.Tensor, values: tf.Tensor, weight: tf.Tensor) -> Sums:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            logits = self.model(x, training=True)
            losses = (self.objective.losses(values, logits) * weight + self.penalty()) * share.counts
            loss = self.optimizer.scale_loss(tf.reduce_sum(losses) / share.batch_size)
        pairs = zip(tape.gradient(loss, self.variables), self.variables, strict=True)
        moved = [pair for pair in pairs if pair[0] is not None]  # not all matter: DINOv2's token for masked patches
        self.optimizer.apply([gradient for gradient, _ in moved], [variable for _, variable in moved])
        return tf.reduce_sum(losses), tf.reduce_sum(self.objective.hits(values, logits)) * share.counts

    def _step_on_devices(self, x: tf.Tensor, values: tf.Tensor, weight: tf.Tensor) -> Sums:
        return self.devices.run(self._step_on_share, x, values, weight)

    def _step_by_step(self, x: tf.Tensor, values: tf.Tensor, weight: tf.Tensor, size: tf.Tensor) -> Sums:
        import tensorflow as tf

        rows = tf.shape(x)[0]

        def is_left(start: tf.Tensor, total: tf.Tensor, right: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
            return start < rows

        def step(start: tf.Tensor, total: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            batch = slice(start, start + size)
            loss, hits = self._step_on_devices(x[batch], values[batch], weight[batch])
            return start + size, total + loss, right + hits

        _, total, right = tf.while_loop(is_left, step, (tf.constant(0), tf.constant(0.0), tf.constant(0.0)))
        return total, right

    def _sums_in_inference(self, x: tf.Tensor, values: tf.Tensor, weight: tf.Tensor) -> Sums:
        import tensorflow as tf

        logits = self._infer(x)[-1]  # traced already, or the next to be asked for
        losses = self.objective.losses(values, logits) * weight
        return tf.reduce_sum(losses), tf.reduce_sum(self.objective.hits(values, logits))

    def _in_inference(self, x: tf.Tensor) -> list[tf.Tensor]:
        found = self._both(x, training=False)
        return list(found) if isinstance(found, list | tuple) else [found]


class _Compiled:
    """A function of tensors, traced once for any number of rows: large networks take long to trace.

    Nothing is rewritten by AutoGraph, here and in the engines, as in Keras: it writes Python files into the temporary
    folder, which are only removed where Python ends in peace.
    """

    def __init__(self, function: Callable[..., Sequence[tf.Tensor]]) -> None:
        self._function = function
        self._traced: Callable[..., Sequence[tf.Tensor]] | None = None

    def __call__(self, *tensors: tf.Tensor) -> Sequence[tf.Tensor]:
        import tensorflow as tf

        if self._traced is None:
            shapes = [[None, *tensor.shape[1:]] if tensor.shape.rank else [] for tensor in tensors]
            signature = [tf.TensorSpec(shape, tensor.dtype) for shape, tensor in zip(shapes, tensors, strict=True)]
            self._traced = tf.function(self._function, input_signature=signature, autograph=False)
        return self._traced(*tensors)


def _tensors(*arrays: np.ndarray) -> list[tf.Tensor]:
    import tensorflow as tf

    return [tf.convert_to_tensor(array) for array in arrays]


def make_optimizer(name: str, learning_rate: float, momentum: float) -> keras.Optimizer:
    """Return Keras' optimizer of that name; of them only sgd is given the momentum."""
    if name not in OPTIMIZERS:
        raise UsageError(f"No optimizer {name!r}; there are {', '.join(OPTIMIZERS)}.")
    config = {"learning_rate": learning_rate} | ({"momentum": momentum} if name == "sgd" else {})
    return import_keras().optimizers.get({"class_name": name, "config": config})
