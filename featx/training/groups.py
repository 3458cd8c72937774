"""One optimizer per group of variables, used as one: each group has its own learning rate and step count.

Scaling gradients would do nothing to Adam, which divides them by their own size; a rate of its own is right for every
optimizer. And the bias corrections of Adam, Adamax and Nadam hold from a variable's own first step on, so variables
that join a training later begin as they would in a training of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class ParameterGroup:
    """Variables of one learning rate that begin to train together.

    share : their rate as a share of the optimizer's
    """

    share: float
    variables: list[keras.Variable]


class GroupedOptimizer:
    """Behaves as Keras' optimizers do where `featx.training` uses them, and may stand inside of a LossScaleOptimizer.

    make : returns a new optimizer of Keras, each time of the same kind
    weight_decay : each step takes the group's rate times this off every kernel, apart from the gradient (Loshchilov
        and Hutter 2019, AdamW). Biases, and what scales or shifts a channel, are left alone.
    """

    def __init__(
        self, make: Callable[[], keras.Optimizer], groups: Sequence[ParameterGroup], weight_decay: float = 0.0
    ) -> None:
        self._groups = groups
        self._optimizers = [make() for _ in groups]
        self._number = {id(one): number for number, group in enumerate(groups) for one in group.variables}
        self.loss_scale_factor: float | None = None
        self.learning_rate = float(self._optimizers[0].learning_rate.numpy())
        for optimizer, group in zip(self._optimizers, groups, strict=True):
            if weight_decay:
                optimizer.weight_decay = weight_decay
                optimizer.exclude_from_weight_decay([one for one in group.variables if len(one.shape) < 2])

    @property
    def learning_rate(self) -> float:
        """The rate of a group whose share is 1."""
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._rate = rate
        for optimizer, group in zip(self._optimizers, self._groups, strict=True):
            optimizer.learning_rate = rate * group.share

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of every group."""
        return [variable for optimizer in self._optimizers for variable in optimizer.variables]

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the state of all groups, whose variables these are."""
        del variables
        for optimizer, group in zip(self._optimizers, self._groups, strict=True):
            optimizer.build(group.variables)

    def apply(self, gradients: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable]) -> None:
        """Move some of the variables by their gradients; groups without any of them stay as they are."""
        taken: list[list[tuple[tf.Tensor, keras.Variable]]] = [[] for _ in self._groups]
        for gradient, variable in zip(gradients, trainable_variables, strict=True):
            taken[self._number[id(variable)]].append((gradient, variable))
        for optimizer, pairs in zip(self._optimizers, taken, strict=True):
            if pairs:
                optimizer.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Return the loss as it is: scaling is left to a LossScaleOptimizer around this one."""
        return loss
