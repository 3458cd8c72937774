"""The gradient step: from examples through loss and gradients to the optimizer, compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, get_args

from featx.config import Optimizer
from featx.errors import UsageError
from featx.training.devices import ONE_DEVICE, Devices, Part

OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)


class Objective(Protocol):
    """What is learned: loss and accuracy of some rows, as TensorFlow tensors (rows,)."""

    def losses(self, values: Any, logits: Any) -> Any:
        """Return the loss of each row; values are what should be told of it, logits (rows, k) what is told."""

    def hits(self, values: Any, logits: Any) -> Any:
        """Return 1 where a row is right, 0 where it is wrong, or the share of it that is right."""


class Network:
    """A Keras model, its optimizer and its objective, with compiled functions to train and to measure it.

    Attributes
    ----------
    variables : what a step moves; all of the model's trainable variables until `train_only` says otherwise
    devices : where its steps are taken; model and optimizer are made in their scope
    """

    def __init__(self, model: Any, optimizer: Any, objective: Objective, devices: Devices = ONE_DEVICE) -> None:
        self.model, self.optimizer, self.objective, self.devices = model, optimizer, objective, devices
        self.variables: Sequence[Any] = list(model.trainable_variables)
        with devices.scope():
            optimizer.build(self.variables)
        self.compile()

    def train_only(self, variables: Sequence[Any]) -> None:
        """From now on move only these of the variables that the network was made with."""
        if [id(one) for one in variables] != [id(one) for one in self.variables]:
            self.variables = list(variables)
            self.compile()  # the step was traced with the others

    def step(self, x: Any, values: Any, weight: Any) -> tuple[float, float]:
        """Take one step on a batch; return the sums of its losses, penalty included, and of its hits.

        Parameters
        ----------
        x : float32 (rows, ...), what the model takes
        values, weight : (rows, ...) of the objective, float32 (rows,)
        """
        loss, hits = self._step(*_tensors(x, values, weight))
        return float(loss), float(hits)

    def steps(self, x: Any, values: Any, weight: Any, size: int) -> tuple[float, float]:
        """Take a step for every `size` rows, as `step` does; return the sums over all of them.

        The loop is inside the compiled function: a step of a small network takes less time than a call of one.
        """
        import tensorflow as tf

        loss, hits = self._steps(*_tensors(x, values, weight), tf.constant(size))
        return float(loss), float(hits)

    def judge(self, x: Any, values: Any, weight: Any) -> tuple[float, float]:
        """Return the sums of the weighted losses, without penalty, and of the hits, in inference mode."""
        loss, hits = self._judge(*_tensors(x, values, weight))
        return float(loss), float(hits)

    def logits(self, x: Any) -> Any:
        """Return float32 (rows, k), in inference mode."""
        return self._infer(*_tensors(x)).numpy()

    def penalty(self) -> Any:
        """Return what regularisers add to the loss, a scalar tensor."""
        import tensorflow as tf

        return tf.add_n(self.model.losses) if self.model.losses else tf.constant(0.0)

    def compile(self) -> None:
        """Trace anew what is traced of the model, as is needed when its layers compute in another way than before."""
        import tensorflow as tf

        def step_on(part: Part, x: Any, values: Any, weight: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = self.model(x, training=True)
                losses = (self.objective.losses(values, logits) * weight + self.penalty()) * part.counts
                loss = self.optimizer.scale_loss(tf.reduce_sum(losses) / part.of)
            self.optimizer.apply(tape.gradient(loss, self.variables), self.variables)
            return tf.reduce_sum(losses), tf.reduce_sum(self.objective.hits(values, logits)) * part.counts

        def step(x: Any, values: Any, weight: Any) -> Any:
            return self.devices.share(step_on, x, values, weight)

        def steps(x: Any, values: Any, weight: Any, size: Any) -> Any:
            total, right = tf.constant(0.0), tf.constant(0.0)
            for start in tf.range(0, tf.shape(x)[0], size):
                batch = slice(start, start + size)
                loss, hits = step(x[batch], values[batch], weight[batch])
                total, right = total + loss, right + hits
            return total, right

        def judge(x: Any, values: Any, weight: Any) -> Any:
            logits = self.model(x, training=False)
            losses = self.objective.losses(values, logits) * weight
            return tf.reduce_sum(losses), tf.reduce_sum(self.objective.hits(values, logits))

        def infer(x: Any) -> Any:
            return self.model(x, training=False)

        self._step, self._steps = _Compiled(step), _Compiled(steps)
        self._judge, self._infer = _Compiled(judge), _Compiled(infer)


class _Compiled:
    """A function of tensors, traced once for any number of rows: large networks take long to trace."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._traced: Any = None

    def __call__(self, *tensors: Any) -> Any:
        import tensorflow as tf

        if self._traced is None:
            shapes = [[None, *tensor.shape[1:]] if tensor.shape.rank else [] for tensor in tensors]
            signature = [tf.TensorSpec(shape, tensor.dtype) for shape, tensor in zip(shapes, tensors, strict=True)]
            self._traced = tf.function(self._function, input_signature=signature)
        return self._traced(*tensors)


def _tensors(*arrays: Any) -> list[Any]:
    import tensorflow as tf

    return [tf.convert_to_tensor(array) for array in arrays]


def make_optimizer(keras: Any, name: str, learning_rate: float, momentum: float) -> Any:
    """Return Keras' optimizer of that name; of them only sgd is given the momentum."""
    if name not in OPTIMIZERS:
        raise UsageError(f"No optimizer {name!r}; there are {', '.join(OPTIMIZERS)}.")
    config = {"learning_rate": learning_rate} | ({"momentum": momentum} if name == "sgd" else {})
    return keras.optimizers.get({"class_name": name, "config": config})
