"""The dense head against Keras: the same schedules, stops, losses and steps; and the same end after a kill."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from arrays import weights_of
from conftest import environment
from fitted import Lab, call

from featx.bundle.bundle import load_bundle
from featx.config import FinetuneOptions, HeadOptions, Pipeline, TrainingOptions, check_options, help_of, listed_options
from featx.config.pipeline import read_pipeline
from featx.dataset import TRAIN
from featx.errors import HeadError, UsageError
from featx.features import Features, as_features
from featx.heads.dense import DenseHead
from featx.heads.scaling import Standardization, standardize
from featx.metrics.probabilities import softmax
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.selection.choice import Choice
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.training import checkpoints
from featx.training.callbacks import Recording
from featx.training.log import COLUMNS, Epoch
from featx.training.network import OPTIMIZERS, make_optimizer
from featx.training.schedules import Schedule, Stopping, Watch
from featx.workflow.publish import publish_head


class Killed(BaseException):
    """What happens to a process, for want of a process."""


def blobs(n: int = 120, d: int = 6, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(n) % k)
    x = random.normal(size=(k, d))[y] + 1.2 * random.normal(size=(n, d))
    return x.astype(np.float16).astype(np.float32), y


def labels(n: int = 120, d: int = 6, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows with any number of k labels, the later ones rare."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)).astype(np.float32)
    return x, x @ random.normal(size=(d, k)) + random.normal(size=(n, k)) > np.arange(k)


def epochs(**columns: Sequence[float]) -> list[Epoch]:
    """Rows with some columns; the others are None."""
    length = len(next(iter(columns.values())))
    return [Epoch(*(columns[name][i] if name in columns else None for name in COLUMNS)) for i in range(length)]


# --- options ------------------------------------------------------------------------------------------------------

PIECEWISE: dict[str, Any] = {"schedule": "piecewise"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PIECEWISE, r"needs head.boundaries and one rate more .* got 0 boundaries and 0 rates"),
        (PIECEWISE | {"boundaries": (20, 35), "rates": (1e-4, 1e-3)}, "2 boundaries and 2 rates"),
        (PIECEWISE | {"boundaries": (35, 20), "rates": (1.0, 1.0, 1.0)}, "rise from 1 on.*got 35,20"),
        (PIECEWISE | {"boundaries": (0,), "rates": (1.0, 1.0)}, "rise from 1 on.*got 0"),
        (PIECEWISE | {"boundaries": (5,), "rates": (1.0, 0.0)}, "head.rates must be more than 0, got 1.0,0.0"),
        (PIECEWISE | {"boundaries": (100,), "rates": (1.0, 2.0)}, r"less than head.epochs \(100\), got 100"),
        ({"boundaries": (5,), "rates": (1.0, 0.1)}, "head.schedule is constant. Add --schedule piecewise"),
        ({"schedule": "plateau", "plateau_patience": 10}, r"less than head.patience \(10\).* got 10"),
        ({"decay": 1.0}, "head.decay must be between 0 and 1, got 1.0"),
        ({"factor": 0.0}, "head.factor must be between 0 and 1, got 0.0"),
        ({"least_rate": 0.1}, r"less than head.learning_rate \(0.001\), got 0.1"),
        ({"learning_rate": float("nan")}, "head.learning_rate must be more than 0, got nan"),
        ({"warmup": 5, "epochs": 5}, r"head.warmup must be less than head.epochs \(5\), got 5"),
        ({"warmup": -1}, "head.warmup must be at least 0, got -1"),
        ({"stop_accuracy": 99.0}, "share of the images above 0 and up to 1, like 0.99; got 99.0"),
        ({"stop_val_accuracy": 0.0}, "head.stop_val_accuracy is a share"),
        ({"momentum": 1.0}, "head.momentum must be less than 1, got 1.0"),
        ({"l2": -0.1}, "head.l2 must be at least 0, got -0.1"),
        ({"positive_weight": 0.0}, "head.positive_weight must be more than 0, got 0.0"),
        ({"hidden": "64,1.5"}, r"units \(whole numbers\) and dropout .* got '1.5'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_options(Pipeline(head=HeadOptions(**options)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "finetune.learning_rate must be more than 0, got 0.0"),
        (PIECEWISE, r"needs finetune.boundaries and one rate more in finetune.rates"),
        ({"boundaries": (2,), "rates": (1.0, 0.1)}, "finetune.schedule is constant. Add --schedule piecewise"),
        ({"warmup": 5}, r"finetune.warmup must be less than finetune.epochs \(5\), got 5"),
        ({"patience": 0}, "finetune.patience must be at least 1, got 0"),
    ],
)
def test_fine_tuning_has_the_same_options_and_limits(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_options(Pipeline(finetune=FinetuneOptions(**options)))


def test_help_says_what_an_option_is_of_and_lists_a_stages_own_first() -> None:
    told = {kind: [help_of(kind, one) for one in listed_options(kind)] for kind in (HeadOptions, FinetuneOptions)}
    for kind, of in ((HeadOptions, "--clf dense"), (FinetuneOptions, "the fine-tune")):
        assert f"Optimizer of {of}." in told[kind]
        assert not any("{" in text and "NAME" not in text for text in told[kind])
    assert not any("--clf" in text for text in told[FinetuneOptions])
    assert [one.name for one in listed_options(HeadOptions)][:2] == ["clf", "estimator"]
    assert listed_options(FinetuneOptions)[0].name == "enabled"
    shared = [one.name for one in fields(TrainingOptions)]
    assert [one.name for one in listed_options(HeadOptions)][-len(shared) :] == shared


def test_a_head_checks_its_parameters_when_it_is_fitted() -> None:
    head = DenseHead(schedule="piecewise", boundaries=(3,), rates=(0.1,))
    with pytest.raises(UsageError, match="got 1 boundary and 1 rate"):
        head.fit(*blobs())


def test_a_head_that_is_fitted_again_may_have_fewer_epochs_than_its_schedule() -> None:
    """As after folds, where the best epochs came early."""
    x, y = blobs()
    head = DenseHead(hidden="", epochs=2, warmup=3, **PIECEWISE, boundaries=(2, 20), rates=(0.4, 0.1, 0.2)).fit(x, y)
    np.testing.assert_allclose(head.training_log_.column("learning_rate"), [0.1, 0.2])


def test_a_pipeline_file_holds_lists(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "head: {clf: dense, hidden: [256, 0.3, 128], schedule: piecewise, boundaries: [20, 35], "
        "rates: [1e-4, 5.0e-4, 1e-3]}"
    )
    head = read_pipeline(tmp_path / "a.yaml").head
    assert head.hidden == "256,0.3,128"
    assert (head.boundaries, head.rates) == ((20, 35), (1e-4, 5e-4, 1e-3))
    (tmp_path / "b.yaml").write_text("head: {schedule: piecewise, boundaries: 20, rates: [0.1, 0.2]}")
    assert read_pipeline(tmp_path / "b.yaml").head.boundaries == (20,)


def test_the_command_line_refuses_before_it_computes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    done = call("fit-head", "images", "--clf", "dense", "--schedule", "piecewise", "--rates", "1e-3", cwd=tmp_path)
    assert done.status == 2
    assert "got 0 boundaries and 1 rate" in done.sentence
    assert not (tmp_path / "cache").exists()


def test_the_head_has_every_option_of_its_name() -> None:
    options = HeadOptions(l2=0.1, schedule="cosine", warmup=2, baseline=0.5, monitor="val_accuracy", least_rate=1e-5)
    params = DenseHead.from_options(0.0, options, seed=7).get_params()
    assert params.pop("seed") == 7
    assert params == {name: getattr(options, name) for name in params}
    assert set(params) >= {"hidden", "activation", "l2", "momentum", "schedule", "min_delta", "stop_val_accuracy"}


# --- learning rates -----------------------------------------------------------------------------------------------


def rates(schedule: Schedule, count: int) -> list[float]:
    history = epochs(loss=[1.0 / (1 + i) for i in range(count)])
    return [schedule.rate(history[:i]) for i in range(count)]


def test_piecewise_is_kerass_with_epochs_for_steps() -> None:
    import keras

    values = [1e-4, 5e-4, 1e-3]
    found = rates(Schedule("piecewise", 9.0, 40, Watch("val_loss"), (20, 35), tuple(values)), 40)
    other = keras.optimizers.schedules.PiecewiseConstantDecay([20, 35], values)
    np.testing.assert_allclose(found, [float(other(number)) for number in range(40)])
    assert [found[i] for i in (0, 20, 21, 35, 36)] == [1e-4, 1e-4, 5e-4, 5e-4, 1e-3]


def test_cosine_and_exponential_are_kerass_with_epochs_for_steps() -> None:
    import keras

    schedules = keras.optimizers.schedules
    found = rates(Schedule("cosine", 0.1, 12, Watch("val_loss"), least_rate=0.01), 12)
    np.testing.assert_allclose(found, [float(schedules.CosineDecay(0.1, 12, 0.1)(e)) for e in range(12)], rtol=1e-6)
    assert found[-1] > 0.01
    assert float(schedules.CosineDecay(0.1, 12, 0.1)(12)) == pytest.approx(0.01), "one epoch after the last"
    found = rates(Schedule("exponential", 0.1, 12, Watch("val_loss"), decay=0.8, least_rate=0.02), 12)
    other = [float(schedules.ExponentialDecay(0.1, 1, 0.8)(e)) for e in range(12)]
    np.testing.assert_allclose(found, np.maximum(other, 0.02), rtol=1e-6)


def test_the_warm_up_rises_to_where_the_schedule_begins() -> None:
    watch = Watch("val_loss")
    np.testing.assert_allclose(rates(Schedule("constant", 0.4, 9, watch, warmup=3), 5), [0.1, 0.2, 0.3, 0.4, 0.4])
    cosine = rates(Schedule("cosine", 0.4, 7, watch, warmup=3), 7)
    np.testing.assert_allclose(cosine, [0.1, 0.2, 0.3, 0.4, 0.34142136, 0.2, 0.05857864])
    exponential = rates(Schedule("exponential", 0.4, 9, watch, decay=0.5, warmup=1), 4)
    np.testing.assert_allclose(exponential, [0.2, 0.4, 0.2, 0.1])
    piecewise = Schedule("piecewise", 1.0, 9, watch, boundaries=(2,), rates=(0.3, 0.1), warmup=2)
    np.testing.assert_allclose(rates(piecewise, 5), [0.1, 0.2, 0.3, 0.1, 0.1])


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize("min_delta", [0.0, 0.02])
def test_plateaus_are_those_of_keras(monitor: Any, min_delta: float) -> None:
    import keras

    random = np.random.default_rng(3)
    values = np.round(0.5 + 0.2 * random.random(60), 2).tolist()
    history = epochs(val_loss=values, val_accuracy=values)
    schedule = Schedule("plateau", 0.1, 60, Watch(monitor, min_delta), factor=0.3, plateau_patience=3, least_rate=1e-4)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    mode = "min" if monitor == "val_loss" else "max"
    callback = keras.callbacks.ReduceLROnPlateau(monitor, 0.3, 3, mode=mode, min_delta=min_delta, min_lr=1e-4)
    callback.set_model(model)
    callback.on_train_begin()
    for number, value in enumerate(values, 1):
        callback.on_epoch_end(number - 1, {monitor: value})
        assert schedule.rate(history[:number]) == pytest.approx(float(model.optimizer.learning_rate), rel=1e-6)
    assert schedule.rate(history) == 1e-4, "the floor is reached"


# --- stopping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize(("min_delta", "baseline"), [(0.0, None), (0.03, None), (0.0, 0.6), (0.02, 0.55)])
def test_early_stopping_is_that_of_keras(monitor: Any, min_delta: float, baseline: float | None) -> None:
    import keras

    for seed in range(20):
        trend = np.linspace(0.8, 0.5, 40) if monitor == "val_loss" else np.linspace(0.4, 0.7, 40)
        values = (trend + 0.1 * np.random.default_rng(seed).random(40)).tolist()
        callback = keras.callbacks.EarlyStopping(
            monitor, min_delta, 4, mode="min" if monitor == "val_loss" else "max", baseline=baseline
        )
        callback.set_model(keras.Sequential())
        callback.on_train_begin()
        callback.model.stop_training = False
        history = epochs(val_loss=values, val_accuracy=values)
        stopping = Stopping(Watch(monitor, min_delta), 1000, 4, baseline)
        for number, value in enumerate(values, 1):
            callback.on_epoch_end(number - 1, {monitor: value})
            assert stopping.is_over(history[:number]) == callback.model.stop_training, (seed, number)
            if callback.model.stop_training:
                break


def test_patience_min_delta_and_baseline_by_hand() -> None:
    history = epochs(val_loss=[1.0, 0.99, 0.98, 0.97, 0.96], val_accuracy=[0.5] * 5)

    def stops_after(**terms: Any) -> int | None:
        watch = Watch("val_loss", terms.pop("min_delta", 0.0))
        stopping = Stopping(watch, 100, **terms)
        return next((i for i in range(1, 6) if stopping.is_over(history[:i])), None)

    assert stops_after(patience=2) is None
    assert stops_after(patience=2, min_delta=0.05) == 3, "steps of 0.01 are no improvement"
    assert stops_after(patience=4, min_delta=0.025) is None, "three steps of 0.01 together are one"
    assert Stopping(Watch("val_accuracy"), 100, 2).is_over(history[:3]), "accuracy stands still"
    assert Stopping(Watch("val_loss"), 5, 9).is_over(history), "the epochs are over"
    flat = epochs(val_loss=[1.0, 0.9, 0.8, 0.85], val_accuracy=[0.5] * 4)
    assert Stopping(Watch("val_loss"), 100, 4, baseline=0.5).is_over(flat), "nothing was below 0.5 in four epochs"
    assert not Stopping(Watch("val_loss"), 100, 4, baseline=0.95).is_over(flat)


def test_training_stops_at_the_accuracies_that_were_asked_for() -> None:
    history = epochs(accuracy=[0.9, 0.995, 1.0], val_accuracy=[0.8, 0.98, 0.99], val_loss=[3.0, 2.0, 1.0])

    def stops_after(**goals: float) -> int | None:
        stopping = Stopping(Watch("val_loss"), 100, 50, None, **goals)
        return next((i for i in range(1, 4) if stopping.is_over(history[:i])), None)

    assert stops_after(stop_accuracy=0.99) == 2
    assert stops_after(stop_val_accuracy=0.8) == 1
    assert stops_after(stop_accuracy=0.9, stop_val_accuracy=0.99) == 3, "both have to be reached"
    assert stops_after(stop_val_accuracy=0.995) is None
    alone = Stopping(Watch("val_loss"), 100, 50, stop_accuracy=0.5, stop_val_accuracy=0.5)
    assert not alone.is_over(epochs(loss=[1.0], accuracy=[0.9])), "without validation rows the second is never reached"


def test_the_best_epoch_is_kept() -> None:
    history = epochs(val_loss=[0.5, 0.3, 0.4, 0.3], val_accuracy=[0.8, 0.8, 0.9, 0.9])
    assert Stopping(Watch("val_loss", 0.5), 9, 9).best(history) == 2, "the first of equals, whatever min_delta"
    assert Stopping(Watch("val_accuracy"), 9, 9).best(history) == 4, "of equal accuracies the lower loss"
    assert Stopping(Watch("val_loss"), 9, 9).best(epochs(loss=[1.0, 2.0])) == 2, "without validation rows the last"


def test_a_fit_stops_restores_and_tells() -> None:
    x, y = blobs(240)
    head = DenseHead(
        hidden="16", epochs=80, learning_rate=0.02, batch_size=32, monitor="val_accuracy", patience=5, min_delta=0.001
    ).fit(x[:160], y[:160], validation=(x[160:], y[160:]))
    seen = head.training_log_.column("val_accuracy")
    assert {len(head.training_log_.column(name)) for name in COLUMNS} == {len(seen)}
    assert len(seen) < 80
    assert seen[head.training_log_.best - 1] == max(seen)
    logits = head.logits(x[160:])
    assert (logits.argmax(axis=1) == y[160:]).mean() == pytest.approx(max(seen))
    loss = -np.log(softmax(logits)[np.arange(80), y[160:]]).mean()
    assert loss == pytest.approx(head.training_log_.column("val_loss")[head.training_log_.best - 1], rel=1e-5)

    stopped = DenseHead(hidden="16", epochs=80, learning_rate=0.002, stop_accuracy=0.75).fit(x, y)
    reached = stopped.training_log_.column("accuracy")
    assert reached[-1] >= 0.75 > max(reached[:-1])
    assert stopped.training_log_.best == len(reached) < 80
    assert stopped.training_log_.column("val_loss") == stopped.training_log_.column("val_accuracy") == []


# --- the same steps as Keras --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_are_kerass_with_the_settings(name: str) -> None:

    made = make_optimizer(name, 0.0123, 0.7)
    assert type(made).__module__.startswith("keras")
    assert type(made).__name__.lower() == name
    settings = {"learning_rate": 0.0123, "name": name} | ({"momentum": 0.7} if name == "sgd" else {})
    assert {**made.get_config(), "name": name} == type(made)(**settings).get_config()
    assert made.get_config()["learning_rate"] == pytest.approx(0.0123)


def as_drawn(*arrays: np.ndarray) -> Any:
    """A dataset of Keras: batches of 32 of 100 rows, in the orders that the head draws for four epochs."""
    import tensorflow as tf

    orders = [np.random.default_rng((0, epoch)).permutation(100) for epoch in range(4)]
    batches = [order[start : start + 32] for order in orders for start in range(0, 100, 32)]
    kinds = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays)
    return tf.data.Dataset.from_generator(
        lambda: (tuple(array[rows] for array in arrays) for rows in batches), output_signature=kinds
    )


@pytest.mark.parametrize("several", [False, True])
def test_training_is_kerass_fit(several: bool) -> None:
    """The same weights, losses and accuracies as `Model.fit` with the same start, order, rates, weights and penalty."""
    import keras

    x, y = labels(150) if several else blobs(150)
    x, y, other = x[:100], y[:100], (x[100:], y[100:])
    weight = np.random.default_rng(1).random(100) + 0.5
    params: dict[str, Any] = {"hidden": "8", "activation": "tanh", "l2": 0.01, "optimizer": "sgd", "batch_size": 32}
    params |= {"schedule": "exponential", "learning_rate": 0.2, "decay": 0.5, "patience": 9}
    start = DenseHead(**{**params, "schedule": "constant", "learning_rate": 1e-30, "epochs": 1}).fit(x, y)
    head = DenseHead(**params, epochs=4, seed=0).fit(x, y, weight, validation=other)

    model, losses = start.model_, keras.losses
    loss = losses.BinaryCrossentropy(from_logits=True) if several else losses.SparseCategoricalCrossentropy(True)
    metrics = [] if several else ["accuracy"]
    model.compile(keras.optimizers.SGD(0.2, momentum=0.9), loss, metrics=metrics, jit_compile=False)
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, _: 0.2 * 0.5**epoch)
    batches = as_drawn(x, y.astype(int), weight / weight.mean())
    told = {"validation_data": other, "callbacks": [halved], "shuffle": False, "verbose": 0}
    expected = model.fit(batches, epochs=4, steps_per_epoch=4, **told).history
    assert set(expected) >= {"loss", "val_loss"}
    for name, values in expected.items():
        np.testing.assert_allclose(head.training_log_.column(name), values, rtol=1e-4, err_msg=name)
        assert len(values) == 4
    if head.training_log_.best == 4:
        for found, wanted in zip(head.model_.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert len(set(head.training_log_.column("learning_rate"))) == 4


def test_l2_shrinks_the_weights_of_every_layer() -> None:
    x, y = blobs()

    def norms(l2: float) -> list[float]:
        head = DenseHead(hidden="8", epochs=30, learning_rate=0.02, l2=l2).fit(x, y)
        return [float(np.square(w).sum()) for w in head.model_.get_weights() if w.ndim == 2]

    assert all(small < 0.5 * large for small, large in zip(norms(0.1), norms(0.0), strict=True))


# --- several labels -----------------------------------------------------------------------------------------------


def test_labels_have_kerass_binary_cross_entropy() -> None:
    import keras

    x, y = labels(300)
    head = DenseHead(hidden="16", epochs=40, learning_rate=0.02).fit(x[:200], y[:200], validation=(x[200:], y[200:]))
    np.testing.assert_array_equal(head.classes_, np.arange(4))
    logits = head.logits(x[200:])
    assert (logits.shape, logits.dtype) == ((100, 4), np.float32)
    best = head.training_log_.best - 1
    loss = float(keras.losses.BinaryCrossentropy(from_logits=True)(y[200:].astype(np.float32), logits))
    assert head.training_log_.column("val_loss")[best] == pytest.approx(loss, rel=1e-5)
    right = float(np.mean(keras.metrics.binary_accuracy(y[200:].astype(np.float32), 1 / (1 + np.exp(-logits)))))
    assert head.training_log_.column("val_accuracy")[best] == pytest.approx(right)
    assert right > 0.8


def test_labels_are_balanced_one_by_one() -> None:
    """A label's presence weighs negatives / positives times `positive_weight`, by hand."""
    x, y = labels(200)
    y = np.hstack([y, np.zeros((200, 1), bool), np.ones((200, 1), bool)])  # that nothing can be balanced with
    weights: dict[str, Any] = {"class_weight": "balanced", "positive_weight": 2.0}
    head = DenseHead(hidden="", epochs=2, optimizer="sgd", **weights).fit(x, y, validation=(x, y))
    logits = head.logits(x).astype(np.float64)
    there = y.sum(axis=0)
    emphasis = 2.0 * np.where((there > 0) & (there < 200), (200 - there) / np.maximum(there, 1), 1.0)
    losses = emphasis * y * np.log1p(np.exp(-logits)) + ~y * np.log1p(np.exp(logits))
    assert head.training_log_.column("val_loss")[head.training_log_.best - 1] == pytest.approx(losses.mean(), rel=1e-5)


def test_balance_and_emphasis_find_the_rare_labels() -> None:
    x, y = labels(400, seed=2)

    def claimed(**params: Any) -> float:
        head = DenseHead(hidden="", epochs=30, learning_rate=0.02, **params).fit(x, y)
        return float((head.logits(x) > 0)[:, 3].mean())

    plain, rare = claimed(), float(y[:, 3].mean())
    assert claimed(positive_weight=5.0) > plain + 0.02
    assert claimed(class_weight="balanced") > plain + 0.02
    assert plain == pytest.approx(rare, abs=0.05)


def test_targets_that_cannot_be_labels_are_refused() -> None:
    x, y = labels(30)
    with pytest.raises(HeadError, match=r"Labels are bool \(30, labels\).*got int64 \(30, 4\)"):
        DenseHead().fit(x, y.astype(np.int64))
    with pytest.raises(HeadError, match=r"got bool \(29, 4\)"):
        DenseHead().fit(x, y[1:])
    with pytest.raises(HeadError, match=r"bool \(n, 4\) as those of training; got bool \(30, 3\)"):
        DenseHead().fit(x, y, validation=(x, y[:, :3]))
    with pytest.raises(HeadError, match="positive_weight is for images with several labels"):
        DenseHead(positive_weight=3.0).fit(*blobs())
    with pytest.raises(HeadError, match="30 numbers of at least 0"):
        DenseHead().fit(x, y, -np.ones(30))


# --- streaming ----------------------------------------------------------------------------------------------------


class Stream:
    """Features handed out in small float16 blocks; the most rows that were read at once are noted."""

    def __init__(self, array: np.ndarray, read: list[int]) -> None:
        self._array, self._read, self.shape, self.dtype = array.astype(np.float16), read, array.shape, np.dtype("f2")
        self.outputs: tuple[int, ...] = ()

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        del rows
        for start in range(0, len(self._array), 20):
            yield self._array[start : start + 20]
            self._read.append(20)

    def asarray(self) -> np.ndarray:
        self._read.append(len(self._array))
        return self._array.astype(np.float32)

    def take(self, rows: np.ndarray) -> Stream:
        return Stream(self._array[rows], self._read)


@pytest.mark.parametrize("make", [blobs, labels])
def test_a_stream_trains_as_an_array_and_is_never_read_whole(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.heads.epochs._CHUNK_BYTES", 4 * 6 * 32)  # 32 rows
    x, y = make(200)
    read: list[int] = []
    params: dict[str, Any] = {"hidden": "8,0.3", "epochs": 4, "batch_size": 16, "learning_rate": 0.01, "l2": 1e-3}
    params["optimizer"] = "sgd"
    x = x.astype(np.float16).astype(np.float32)
    whole = DenseHead(**params).fit(x[:140], y[:140], validation=(x[140:], y[140:]))
    streamed = DenseHead(**params)
    streamed.fit(Stream(x[:140], read), y[:140], validation=(Stream(x[140:], read), y[140:]))
    assert max(read) <= 32
    for name in COLUMNS[:-1]:
        np.testing.assert_allclose(streamed.training_log_.column(name), whole.training_log_.column(name), rtol=1e-4)
    np.testing.assert_allclose(streamed.logits(x), whole.logits(x), atol=1e-4)


def test_rows_of_a_class_that_is_not_trained_are_not_watched() -> None:
    x, y = blobs(90)
    kept = y[:60] != 2
    params: dict[str, Any] = {"hidden": "", "epochs": 2, "optimizer": "sgd"}
    head = DenseHead(**params).fit(x[:60][kept], y[:60][kept], validation=(x[60:], y[60:]))
    known = y[60:] != 2
    other = DenseHead(**params).fit(x[:60][kept], y[:60][kept], validation=(x[60:][known], y[60:][known]))
    np.testing.assert_allclose(head.training_log_.column("val_loss"), other.training_log_.column("val_loss"), rtol=1e-6)
    alone = DenseHead(**params).fit(x[:60][kept], y[:60][kept], validation=(x[60:][~known], y[60:][~known]))
    assert alone.training_log_.column("val_loss") == []


# --- the log ------------------------------------------------------------------------------------------------------


def read_log(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_events(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value of the event files in a folder."""
    import tensorflow as tf

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name in {"scalars", ""}
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_the_command_leaves_a_log_in_the_bundle_and_events_for_tensorboard(lab: Lab, tmp_path: Path) -> None:
    _ = lab.prepared
    options = ["--backbone", lab.root / "tiny.keras", "--cache", lab.root / "cache", "--split", "0.5,0.25,0.25"]
    schedule = ["--schedule", "piecewise", "--boundaries", "1,2", "--rates", "1e-4,5e-4,1e-3", "--epochs", "4"]
    done = call(
        *map(str, ["fit-head", lab.root / "pictures", *options, "--clf", "dense", "--hidden", "8", *schedule]),
        *("--tensorboard", "curves", "--name", "logged", "--no-html", "--json"),
        cwd=tmp_path,
    )
    assert done.status == 0, done.err
    bundle = load_bundle(tmp_path / done.json["bundle"])
    assert "training.csv" in bundle.manifest.files
    rows = read_log(bundle.path / "training.csv")
    assert list(rows[0]) == ["epoch", *COLUMNS]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["learning_rate"]) for row in rows] == [1e-4, 1e-4, 5e-4, 1e-3]
    assert all(float(value) >= 0 for row in rows for value in row.values())
    assert done.json["params"]["rates"] == [1e-4, 5e-4, 1e-3]
    assert "tensorboard" not in done.json["params"]
    assert not list(bundle.path.parent.glob(".training-*")), "what it would have resumed from is gone"

    (validation,) = (tmp_path / "curves" / "logged" / "last@avg").glob("*/validation")
    told, watched = read_events(validation.parent / "train"), read_events(validation)
    assert set(told) == {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"}
    assert set(watched) == {"epoch_loss", "epoch_accuracy"}
    for row in rows:
        step = int(row["epoch"])
        assert told["epoch_loss"][step] == pytest.approx(float(row["loss"]), rel=1e-6)
        assert told["epoch_learning_rate"][step] == pytest.approx(float(row["learning_rate"]), rel=1e-6)
        assert watched["epoch_accuracy"][step] == pytest.approx(float(row["val_accuracy"]), rel=1e-6)


def test_a_log_without_validation_has_empty_cells(lab: Lab, tmp_path: Path) -> None:
    sample = replace(lab.prepared.sample, split=np.full_like(lab.prepared.sample.split, TRAIN))
    head = replace(lab.pipeline.head, clf="dense", hidden="4", epochs=2, folds=2, optimizer="sgd")
    bundle = publish_head(
        replace(lab.prepared, sample=sample, run=Run(tmp_path), pipeline=replace(lab.pipeline, head=head))
    )
    rows = read_log(bundle.path / "training.csv")
    assert {(row["val_loss"], row["val_accuracy"]) for row in rows} == {("", "")}
    assert all(float(row["loss"]) > 0 for row in rows)


def test_other_heads_have_no_log(lab: Lab) -> None:
    assert not (lab.bundle("logreg").path / "training.csv").exists()


# --- going on after a kill ----------------------------------------------------------------------------------------

# Runs featx until the third epoch of a dense head, and there ends itself as `kill -9` does.
_SUICIDE = """
import os, signal, sys
from featx.cli import main
from featx.heads import epochs
from featx.training import checkpoints

def die():
    os.kill(os.getpid(), signal.SIGKILL)

epochs._CHUNK_BYTES = 1  # one batch
if sys.argv[1] == "middle":
    chunks = epochs.Batches.chunks
    def some(self, epoch):
        for number, chunk in enumerate(chunks(self, epoch)):
            if (epoch, number) == (2, 1):
                die()
            yield chunk
    epochs.Batches.chunks = some
else:
    write = checkpoints.write_json
    checkpoints.write_json = lambda path, history: die() if len(history) == 3 else write(path, history)
main(sys.argv[2:])
"""
_DENSE = ["--clf", "dense", "--hidden", "16,0.5,8", "--epochs", "6", "--batch-size", "8", "--learning-rate", "0.01"]
_PLATEAU = ["--schedule", "plateau", "--plateau-patience", "1", "--monitor", "val_accuracy", "--min-delta", "0.05"]


def fit_dense(root: Path) -> list[str]:
    data = [str(root / "pictures"), "--backbone", str(root / "tiny.keras"), "--cache", str(root / "cache")]
    return ["fit-head", *data, "--split", "0.5,0.25,0.25", *_DENSE, *_PLATEAU, "--no-html", "--json"]


@cache
def undisturbed(root: Path) -> Path:
    """The bundle of a fit that nothing ends, made once for both moments."""
    whole = call(*fit_dense(root), "--name", "whole", "--runs", str(root / "undisturbed"), cwd=root)
    assert whole.status == 0, whole.err
    return root / whole.json["bundle"]


@pytest.mark.parametrize("moment", ["writing", pytest.param("middle", marks=pytest.mark.slow)])
def test_killed_and_resumed_it_ends_with_the_same_weights(
    lab: Lab, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of an epoch was written but does not count yet, or an epoch is half done."""
    monkeypatch.setattr("featx.heads.epochs._CHUNK_BYTES", 1)
    _ = lab.prepared
    command, whole = fit_dense(lab.root), undisturbed(lab.root)
    killed = forked.run([moment, *command, "--name", "part"], tmp_path, environment(), code=_SUICIDE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list((tmp_path / "runs" / "part").glob("*-dense"))
    (log,) = (tmp_path / "runs" / "part").glob(".training-*/last@avg/*/history.json")
    assert len(json.loads(log.read_text())) == 2

    resumed = call(*command, "--name", "part", cwd=tmp_path)
    assert resumed.status == 0, resumed.err
    assert "Going on after epoch 2." in resumed.err
    assert not log.exists()
    bundles = [load_bundle(path) for path in (whole, tmp_path / resumed.json["bundle"])]
    weights = [weights_of(one.path / "head.keras") for one in bundles]
    for layers in zip(*(one.values() for one in weights), strict=True):  # Keras numbers their names in every process
        for expected, found in zip(*layers, strict=True):
            np.testing.assert_array_equal(found, expected)
    logs = [[{**row, "seconds": ""} for row in read_log(one.path / "training.csv")] for one in bundles]
    assert logs[0] == logs[1]
    assert len(logs[0]) > 3, "there was something left to train"
    assert bundles[0].manifest.metrics == bundles[1].manifest.metrics


_SMALL: dict[str, Any] = {"hidden": "4", "epochs": 3, "optimizer": "sgd"}


def leave_two_epochs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train two of three epochs."""
    write = checkpoints.write_json

    def die(path: Path, history: list[Any]) -> None:
        write(path, history)
        if len(history) == 2:
            raise Killed

    monkeypatch.setattr(checkpoints, "write_json", die)
    with pytest.raises(Killed):
        DenseHead(**_SMALL).fit(*blobs(60), recording=Recording(folder))
    monkeypatch.setattr(checkpoints, "write_json", write)


def go_on(folder: Path, **other: Any) -> list[str]:
    """Train again, as `other` says; what was told."""
    told: list[str] = []
    x, y = blobs(60)
    x, y = other.pop("x", x), other.pop("y", y)
    DenseHead(**{**_SMALL, **other}).fit(x, y, recording=Recording(folder, notify=told.append))
    return told


def test_other_parameters_or_rows_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs(60)
    leave_two_epochs(tmp_path / "left", monkeypatch)
    for name, other, told in (
        ("same", {}, ["Going on after epoch 2."]),
        ("rate", {"learning_rate": 0.5}, []),
        ("rows", {"y": y[::-1].copy()}, []),
        ("values", {"x": x * np.float32(1.5)}, []),
    ):
        shutil.copytree(tmp_path / "left", tmp_path / name)
        assert go_on(tmp_path / name, **other) == told, name
    watched = DenseHead(**_SMALL).fit(x, y, validation=(x, y), recording=Recording(tmp_path / "val"))
    again = DenseHead(**_SMALL).fit(x, y, validation=(9 * x, y), recording=Recording(tmp_path / "val"))
    assert [one.val_loss for one in again.training_log_.epochs] != [
        one.val_loss for one in watched.training_log_.epochs
    ]


def test_a_processor_that_adds_in_another_order_goes_on_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenBLAS does with OPENBLAS_CORETYPE=Haswell and SkylakeX: means that differ in their last bits."""
    processors = iter([1.0, 1 + 1e-7])

    def standardize_there(features: Features) -> Standardization:
        found, factor = standardize(features), next(processors)
        return Standardization(found.mean * factor, found.inverse * factor)

    monkeypatch.setattr("featx.heads.dense.standardize", standardize_there)
    leave_two_epochs(tmp_path, monkeypatch)
    assert go_on(tmp_path) == ["Going on after epoch 2."]


def test_a_damaged_state_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x, y = blobs(60)
    first = DenseHead(**_SMALL).fit(x, y, recording=Recording(tmp_path))
    (state,) = tmp_path.glob("*/state-3.npz")
    state.write_bytes(state.read_bytes()[:100])
    told: list[str] = []
    again = DenseHead(**_SMALL).fit(x, y, recording=Recording(tmp_path, notify=told.append))
    assert told == []
    assert "training starts again from epoch 1" in caplog.text
    np.testing.assert_array_equal(again.logits(x), first.logits(x))


def test_a_state_of_featx_0_1_0_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows had the names of the columns, None without validation rows."""
    write = checkpoints.write_json

    def write_former(path: Path, rows: list[Any]) -> None:
        write(path, [{name: row.get(name) for name in COLUMNS} for row in rows])

    monkeypatch.setattr(checkpoints, "write_json", write_former)
    leave_two_epochs(tmp_path, monkeypatch)
    assert go_on(tmp_path) == ["Going on after epoch 2."]


def test_a_search_of_folds_goes_on_in_the_fold_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = blobs(90)
    options = HeadOptions(clf="dense", hidden="8,0.5", epochs=4, folds=2, learning_rate=0.01)
    problem = Problem.of_train(as_features(x), y)

    def choose(**more: Any) -> Choice:
        return choose_head(problem, SearchSettings(options, **more))

    write, written = checkpoints.write_json, 0

    def copy_once(path: Path, history: list[Any]) -> None:
        """As a kill leaves it in front of the third epoch's log, in the second fold."""
        nonlocal written
        written += 1
        if written == 7:
            shutil.copytree(tmp_path / "whole", tmp_path / "left")
        write(path, history)

    monkeypatch.setattr(checkpoints, "write_json", copy_once)
    whole = choose(recording=Recording(tmp_path / "whole"))
    monkeypatch.setattr(checkpoints, "write_json", write)
    told: list[str] = []
    resumed = choose(recording=Recording(tmp_path / "left", notify=told.append))
    assert told == ["Going on after epoch 4.", "Going on after epoch 2."]
    assert resumed.candidates == whole.candidates
    np.testing.assert_array_equal(resumed.head.logits(x), whole.head.logits(x))


def test_a_prepared_run_is_fitted_the_same_with_another_memory(lab: Lab, tmp_path: Path) -> None:
    """Streamed from the store, val part included."""
    head = replace(lab.pipeline.head, clf="dense", hidden="8", epochs=3)

    def fitted(name: str, **changes: Any) -> Prepared:
        pipeline = replace(lab.pipeline, head=replace(head, **changes))
        return replace(lab.prepared, run=Run(tmp_path / name), pipeline=pipeline)

    whole, streamed = publish_head(fitted("whole")), publish_head(fitted("streamed", memory="1kB"))
    features = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    np.testing.assert_allclose(streamed.head(features), whole.head(features), atol=1e-4)
    assert streamed.manifest.fingerprint == whole.manifest.fingerprint
