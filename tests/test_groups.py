"""A learning rate for every group of variables, against computations by hand and Keras' optimizers one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from featx.training.groups import GroupedOptimizer, ParameterGroup
from featx.training.network import OPTIMIZERS, make_optimizer

RATE = 0.1
SHARES = (1.0, 0.5, 0.25)


def variables(count: int = 3) -> list[Any]:
    import keras

    generator = np.random.default_rng(0)
    return [keras.Variable(generator.normal(size=(2, 3)).astype(np.float32)) for _ in range(count)]


def gradients(steps: int, count: int = 3) -> np.ndarray:
    """float32 (steps, variables, 2, 3)."""
    return np.random.default_rng(1).normal(size=(steps, count, 2, 3)).astype(np.float32)


def maker(name: str) -> Callable[[], Any]:
    return lambda: make_optimizer(name, RATE, 0.9)


def grouped(name: str, held: list[Any]) -> GroupedOptimizer:
    optimizer = GroupedOptimizer(
        maker(name), [ParameterGroup(share, [one]) for share, one in zip(SHARES, held, strict=True)]
    )
    optimizer.build(held)
    return optimizer


def sgd_by_hand(start: np.ndarray, steps: np.ndarray, rate: float) -> np.ndarray:
    value, momentum = start.astype(np.float64), np.zeros(start.shape)
    for gradient in steps:
        momentum = 0.9 * momentum - rate * gradient
        value = value + momentum
    return value


def adam_by_hand(start: np.ndarray, steps: np.ndarray, rate: float) -> np.ndarray:
    value, m, v = start.astype(np.float64), np.zeros(start.shape), np.zeros(start.shape)
    for t, gradient in enumerate(steps.astype(np.float64), 1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        value = value - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
    return value


@pytest.mark.parametrize(("name", "by_hand"), [("sgd", sgd_by_hand), ("adam", adam_by_hand)])
def test_each_group_moves_by_its_share_of_the_rate(name: str, by_hand: Callable[..., np.ndarray]) -> None:
    held, steps = variables(), gradients(7)
    starts = [one.numpy() for one in held]
    optimizer = grouped(name, held)
    for step in steps:
        optimizer.apply(list(step), held)
    for i, (one, start, share) in enumerate(zip(held, starts, SHARES, strict=True)):
        np.testing.assert_allclose(one.numpy(), by_hand(start, steps[:, i], RATE * share), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_does_what_it_does_alone_with_that_rate(name: str) -> None:
    held, steps = variables(), gradients(5)
    alone = variables()
    optimizer = grouped(name, held)
    optimizer.learning_rate = 0.02  # as a schedule sets it
    for step in steps:
        optimizer.apply(list(step), held)
    for i, (one, other, share) in enumerate(zip(held, alone, SHARES, strict=True)):
        single = maker(name)()
        single.learning_rate = 0.02 * share
        for step in steps:
            single.apply([step[i]], [other])
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_group_that_joins_later_begins_as_in_a_training_of_its_own(name: str) -> None:
    held, steps = variables(), gradients(6)
    alone = variables()[2]
    start = held[2].numpy()
    optimizer = grouped(name, held)
    for step in steps[:3]:
        optimizer.apply(list(step[:2]), held[:2])
    np.testing.assert_array_equal(held[2].numpy(), start)
    single = maker(name)()
    single.learning_rate = RATE * SHARES[2]
    for step in steps[3:]:
        optimizer.apply(list(step), held)
        single.apply([step[2]], [alone])
    np.testing.assert_array_equal(held[2].numpy(), alone.numpy())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_its_state_is_all_that_a_resumed_training_needs(name: str) -> None:
    held, steps = variables(), gradients(6)
    optimizer = grouped(name, held)
    for step in steps[:3]:
        optimizer.apply(list(step[:2]), held[:2])
    kept = [np.array(one.numpy()) for one in (*held, *optimizer.variables)]
    for step in steps[3:]:
        optimizer.apply(list(step), held)
    again = variables()
    resumed = grouped(name, again)
    for variable, value in zip((*again, *resumed.variables), kept, strict=True):
        variable.assign(value)
    for step in steps[3:]:
        resumed.apply(list(step), again)
    for one, other in zip(held, again, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_takes_the_rate_times_it_off_kernels_and_leaves_vectors_alone(name: str) -> None:
    import keras

    decay, generator = 0.3, np.random.default_rng(2)
    kernel, bias = (keras.Variable(generator.normal(size=shape).astype(np.float32)) for shape in ((2, 3), (3,)))
    starts = [kernel.numpy(), bias.numpy()]
    optimizer = GroupedOptimizer(maker(name), [ParameterGroup(0.5, [kernel, bias])], decay)
    optimizer.build([kernel, bias])
    for _ in range(4):
        optimizer.apply([np.zeros((2, 3), np.float32), np.zeros(3, np.float32)], [kernel, bias])
    np.testing.assert_allclose(kernel.numpy(), starts[0] * (1 - 0.5 * RATE * decay) ** 4, rtol=1e-5)
    np.testing.assert_array_equal(bias.numpy(), starts[1])


def test_adam_with_weight_decay_is_keras_adamw() -> None:
    import keras

    held, alone, steps = variables(1), variables(1), gradients(6, 1)
    optimizer = GroupedOptimizer(maker("adam"), [ParameterGroup(1.0, held)], 0.1)
    optimizer.build(held)
    reference = keras.optimizers.AdamW(RATE, weight_decay=0.1)
    for step in steps:
        optimizer.apply(list(step), held)
        reference.apply(list(step), alone)
    np.testing.assert_array_equal(held[0].numpy(), alone[0].numpy())
