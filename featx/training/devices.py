"""Where a network trains: one device, or several that share every batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from featx.backbones.runtime import import_keras
from featx.config import DeviceChoice
from featx.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

    Sums = tuple[tf.Tensor, tf.Tensor]  # scalars


@dataclass(frozen=True)
class BatchShare:
    """A device's share of a batch.

    batch_size : float32 tensor, how many rows the whole batch has
    counts : float32 tensor, 1; 0 on a device that got a row of another because there were not enough
    """

    batch_size: tf.Tensor
    counts: tf.Tensor


@dataclass(frozen=True)
class Devices:
    """Where a network trains.

    strategy : TensorFlow's; None: one device of TensorFlow's own choice
    count : how many devices share each batch
    """

    strategy: tf.distribute.Strategy | None = None
    count: int = 1

    def scope(self) -> AbstractContextManager[object]:
        """Where models and optimizers have to be made."""
        scope: AbstractContextManager[object] = nullcontext() if self.strategy is None else self.strategy.scope()
        return scope

    def run(self, step: Callable[..., Sums], *tensors: tf.Tensor) -> Sums:
        """Call `step(share, *rows)` on every device with its rows of the tensors; return the sums of its results.

        For use inside of a compiled function. Every device is sent the whole batch and takes its rows.
        """
        import tensorflow as tf

        count = tf.shape(tensors[0])[0]
        batch_size = tf.cast(count, tf.float32)
        if self.strategy is None:
            return step(BatchShare(batch_size, tf.constant(1.0)), *tensors)
        if self.count == 1:
            alone: Sums = self.strategy.run(partial(step, BatchShare(batch_size, tf.constant(1.0))), tensors)
            return alone

        def step_on_rows(*whole: tf.Tensor) -> Sums:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            first, end = number * count // self.count, (number + 1) * count // self.count
            share = BatchShare(batch_size, tf.cast(end > first, tf.float32))
            return step(share, *(tensor[first : tf.maximum(end, first + 1)] for tensor in whole))

        results = self.strategy.run(step_on_rows, tensors)
        sums: Sums = tf.nest.map_structure(lambda result: self.strategy.reduce("SUM", result, axis=None), results)
        return sums


ONE_DEVICE = Devices()


@cache  # TensorFlow numbers the sums of a strategy, and those of a second one in the same process get in their way
def choose_devices(option: DeviceChoice) -> Devices:
    """Return the devices that `--devices` names: "all" GPUs, a number of them, or "cpu". Without a GPU one is the CPU.

    Several train as one: every device has a copy of the network and takes an even part of each batch, and the
    gradients are summed (TensorFlow's MirroredStrategy).

    Raises
    ------
    UsageError
        More devices than there are.
    """
    import_keras()  # sets TensorFlow up
    import tensorflow as tf

    if option.most == 0:
        return Devices(tf.distribute.OneDeviceStrategy("/CPU:0"))
    # there are several CPUs only where somebody has set up logical ones
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    count = len(found) if option.most is None else option.most
    if count > len(found):
        kind = f"{found[0].device_type}{'s' if len(found) > 1 else ''}"
        raise UsageError(
            f"--devices {option}: TensorFlow sees {len(found)} {kind} here. Choose --devices all, or a number up to "
            f"{len(found)}."
        )
    if count == 1:
        return ONE_DEVICE
    return Devices(tf.distribute.MirroredStrategy([device.name for device in found[:count]]), count)
