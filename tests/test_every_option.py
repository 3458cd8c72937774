"""Every option, with every head, schedule, optimizer and stage: it is refused where it is typed, or changes something.

Nothing is fitted: what an option changes is seen in the head that would be, in the rates and decisions of a training
that went a certain way, or in an optimizer's configuration.
"""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import Any, get_args

import pytest

from featx.config import HeadOptions, Pipeline
from featx.config.applicable import require_applicable
from featx.config.augment import OPERATIONS, AugmentOptions
from featx.config.finetune import FinetuneOptions
from featx.config.head import OWN_HEADS
from featx.config.route import set_keys
from featx.config.table import SECTIONS
from featx.config.training import Optimizer, ScheduleKind, TrainingOptions
from featx.errors import HeadError, UsageError
from featx.heads.table import head_kind, make_head
from featx.selection.weights import require_weighing
from featx.training.log import Epoch
from featx.training.schedules import Schedule, Stopping

TRAINING: dict[str, Any] = {
    "preset": "rmsprop",
    "optimizer": "adamax",
    "momentum": 0.5,
    "learning_rate": 0.02,
    "schedule": "cosine",
    "boundaries": [2, 4],
    "rates": [0.1, 0.2, 0.3],
    "decay": 0.5,
    "factor": 0.1,
    "plateau_patience": 2,
    "least_rate": 0.0009,
    "warmup": 3,
    "epochs": 11,
    "batch_size": 7,
    "monitor": "val_accuracy",
    "patience": 7,
    "min_delta": 0.3,
    "baseline": 0.2,
    "stop_accuracy": 0.5,
    "stop_val_accuracy": 0.4,
    "tensorboard": "curves",
}
"""A value of every option of a training that is not its default"""
HEAD: dict[str, Any] = {
    "kernel": "rbf",
    "strength": 2.0,
    "gamma": 2.0,
    "grid": {"var_smoothing": [1e-9]},
    "class_weight": "balanced",
    "hidden": "64",
    "activation": "tanh",
    "l2": 0.1,
}
"""The same of the options of a head that say what it is, besides its training"""
OF_EVERY_HEAD = frozenset(
    {
        *("clf", "estimator", "combine", "normalize", "pca", "metric", "search", "folds", "refit", "nested", "memory"),
        *("calibrate", "thresholds", "threshold_range", "positive_weight"),  # the last three by what images have
    }
)
"""Options of the search, of what stands before a head and of what comes behind it"""
BESIDE_THE_HEAD = frozenset({"tensorboard", "preset", "grid", "class_weight"})
"""What is seen elsewhere than in the parameters of a head"""

HEADS = [(clf, kernel) for clf in OWN_HEADS for kernel in ("linear", "rbf") if kernel == "linear" or clf == "svm"]


def of_head(clf: str, kernel: str) -> dict[str, Any]:
    """The options that choose a head."""
    named = {"head.estimator": "sklearn.naive_bayes.GaussianNB"} if clf == "estimator" else {}
    return {"head.clf": clf, "head.kernel": kernel, **named}


def is_refused(keys: dict[str, Any], typed: dict[str, Any], command: str = "") -> bool:
    """Whether options are refused beside others; `typed` are those that a user has written."""
    try:
        require_applicable(set_keys(Pipeline(), keys | typed), typed, command)
    except UsageError:
        return True
    return False


def test_every_option_of_a_head_has_a_place_here() -> None:
    assert {entry.name for entry in fields(HeadOptions)} == {*TRAINING, *HEAD, *OF_EVERY_HEAD}
    assert {entry.name for entry in fields(TrainingOptions)} == set(TRAINING)


@pytest.mark.parametrize("name", [*HEAD, *TRAINING])
def test_an_option_of_a_head_is_refused_or_changes_it(name: str) -> None:
    value = (HEAD | TRAINING)[name]
    for clf, kernel in HEADS:
        chosen = of_head(clf, kernel)
        if name == "kernel" and kernel == "rbf":
            continue
        beside = {"head.schedule": "piecewise"} if name in {"boundaries", "rates"} else {}
        beside |= {"head.boundaries": [2, 4], "head.rates": [0.1, 0.2, 0.3]} if beside else {}
        beside |= {"head.schedule": "exponential"} if name in {"decay", "least_rate"} else {}
        beside |= {"head.schedule": "plateau"} if name in {"factor", "plateau_patience"} else {}
        beside |= {"head.optimizer": "sgd"} if name == "momentum" else {}
        if is_refused(chosen | beside, {f"head.{name}": value}):
            continue
        if name == "class_weight":
            with_weights = head_kind("logreg" if clf == "auto" else clf, kernel)
            if not with_weights.weighs:
                with pytest.raises(HeadError, match="has no weights"):
                    require_weighing(with_weights)
            continue
        if name in BESIDE_THE_HEAD:
            assert clf in {"dense", "auto"} or (name, clf) == ("grid", "estimator")
            continue
        usual, other = chosen | beside, chosen | beside | {f"head.{name}": value}
        if name in {"boundaries", "rates"}:
            usual = chosen  # these two go together, and with their schedule
        trained = name in TRAINING or name in {"hidden", "activation", "l2"}
        made = [
            make_head(head_kind("dense" if trained and clf == "auto" else one.clf, one.kernel), one.strength, one, 0)
            for one in (set_keys(Pipeline(), keys).head for keys in (usual, other))
        ]
        assert made[0].get_params() != made[1].get_params() or type(made[0]) is not type(made[1]), (clf, kernel)


def epochs(values: list[float]) -> list[Epoch]:
    """A training that gets better and then stands still."""
    return [Epoch(1 - one, one + 0.1, 1 - one, one, learning_rate=1e-3, seconds=1.0) for one in values]


PAST = epochs([0.1, 0.2, 0.3, 0.4, 0.45, 0.45, 0.45, 0.45, 0.45, 0.45])


def decided(options: TrainingOptions) -> list[object]:
    """The rate, the best epoch and whether to stop after each of the epochs, and what no epoch shows."""
    schedule, stopping = Schedule.of(options), Stopping.of(options)
    found: list[object] = [
        (schedule.rate(PAST[:count]), stopping.is_over(PAST[:count]), stopping.best(PAST[:count]) if count else 0)
        for count in range(len(PAST) + 1)
    ]
    momentum = options.momentum if options.optimizer == "sgd" else None
    return [
        *found,
        options.optimizer,
        momentum,
        options.batch_size,
        options.epochs,
        options.monitor,
        options.tensorboard,
    ]


@pytest.mark.parametrize("section", ["head", "finetune", "baseline"])
@pytest.mark.parametrize(
    "name", [name for name in TRAINING if name not in {"boundaries", "rates", "schedule", "preset"}]
)
def test_an_option_of_a_training_is_refused_or_changes_what_is_decided(section: str, name: str) -> None:
    for schedule, optimizer in product(get_args(ScheduleKind), ("adam", "sgd")):
        chosen = {f"{section}.schedule": schedule, f"{section}.optimizer": optimizer, "head.clf": "dense"}
        chosen |= {f"{section}.epochs": 12, f"{section}.patience": 3 if name in {"min_delta", "baseline"} else 8}
        if schedule == "piecewise":
            chosen |= {f"{section}.boundaries": [2, 4], f"{section}.rates": [0.1, 0.2, 0.3]}
        typed = {f"{section}.{name}": TRAINING[name]}
        if name == "monitor" and section != "head":
            typed = {f"{section}.{name}": "val_loss"}
        if name == "baseline" and section != "head":  # of an accuracy
            typed = {f"{section}.{name}": 0.9}
        if name == "patience":
            typed = {f"{section}.{name}": 3}
        beside = {f"{section}.plateau_patience": 1} if name == "patience" else {}
        if is_refused(chosen | beside, typed):
            continue
        before, after = (getattr(set_keys(Pipeline(), chosen | beside | more), section) for more in ({}, typed))
        assert decided(before) != decided(after) or before.optimizer != after.optimizer, (schedule, optimizer)


def test_what_a_training_has_refused_by_schedule_and_optimizer() -> None:
    refused = {
        (name, schedule)
        for name, schedule in product(TRAINING, get_args(ScheduleKind))
        if is_refused(
            {"head.clf": "dense", "head.schedule": schedule, **_pieces(schedule)}, {f"head.{name}": TRAINING[name]}
        )
    }
    assert {schedule for name, schedule in refused if name == "decay"} == set(get_args(ScheduleKind)) - {"exponential"}
    assert {schedule for name, schedule in refused if name == "factor"} == set(get_args(ScheduleKind)) - {"plateau"}
    momentum = {"head.momentum": 0.5}
    taken = [
        one for one in get_args(Optimizer) if not is_refused({"head.clf": "dense", "head.optimizer": one}, momentum)
    ]
    assert taken == ["sgd"]


def _pieces(schedule: str) -> dict[str, Any]:
    return {"head.boundaries": [20], "head.rates": [0.1, 0.2]} if schedule == "piecewise" else {}


@pytest.mark.parametrize("command", ["fit-head", "extract"])
def test_images_that_are_never_altered_have_no_operations(command: str) -> None:
    for name in (*OPERATIONS, "fill_mode"):
        typed: dict[str, Any] = {f"augment.{name}": {"flip": "horizontal", "fill_mode": "reflect"}.get(name, 0.5)}
        assert is_refused({}, typed, command)
        assert is_refused({"augment.rotation": 20.0, "augment.views": 3}, typed, command) is False
        assert is_refused({"augment.rotation": 20.0}, typed, "finetune") is False
    assert is_refused({"augment.flip": "both", "augment.views": 2}, {"augment.fill_mode": "reflect"}, command)
    assert is_refused({"augment.flip": "both"}, {"augment.fill_mode": "reflect"}, "finetune")
    assert {entry.name for entry in fields(AugmentOptions)} == {*OPERATIONS, "views", "fill_mode", "fill_value"}


@pytest.mark.parametrize(
    ("typed", "works"),
    [
        ({"tracking.experiment": "x"}, {"tracking.tracker": "mlflow"}),
        ({"tracking.tracking_uri": "sqlite:///x"}, {"tracking.tracker": "mlflow"}),
        ({"report.plots": "svg", "report.html": False}, {"report.html": True}),
        ({"head.folds": 7, "head.search": "val"}, {"head.search": "cv"}),
        ({"head.folds": 7, "head.search": "val"}, {"head.nested": True}),
        ({"finetune.gradual": 2, "finetune.unfreeze": "none"}, {"finetune.unfreeze": "3"}),
        ({"finetune.layer_decay": 0.5, "finetune.unfreeze": "none"}, {"finetune.unfreeze": "all"}),
        ({"finetune.batch_norm": "train", "finetune.unfreeze": "none"}, {"finetune.unfreeze": "all"}),
        ({"finetune.gpu_memory": 0.5, "finetune.devices": "cpu"}, {"finetune.devices": "1"}),
        ({"head.gamma": 2.0, "head.clf": "svm"}, {"head.kernel": "rbf"}),
        ({"head.gamma": 2.0, "head.kernel": "rbf"}, {"head.clf": "svm"}),
    ],
)
def test_what_needs_another_option_is_refused_without_it(typed: dict[str, Any], works: dict[str, Any]) -> None:
    assert is_refused({}, typed)
    assert not is_refused({}, typed | works)


def test_of_the_options_of_a_fine_tune_only_those_that_train_the_network_need_it() -> None:
    own = {entry.name for entry in fields(FinetuneOptions)} - set(TRAINING)
    frozen = {"finetune.unfreeze": "none"}
    values: dict[str, Any] = {
        "gradual": 2,
        "layer_decay": 0.5,
        "batch_norm": "train",
        "weight_decay": 0.1,
        "mixup": 0.2,
    }
    values |= {"cutmix": 1.0, "label_smoothing": 0.1, "downscale": 2, "checkpoints": "best", "class_weight": "balanced"}
    assert set(values) <= own
    refused = {name for name, value in values.items() if is_refused(frozen, {f"finetune.{name}": value})}
    assert refused == {"gradual", "layer_decay", "batch_norm"}


def test_options_at_their_defaults_are_never_refused() -> None:
    defaults = {
        f"{section}.{entry.name}": getattr(options(), entry.name)
        for section, options in SECTIONS.items()
        for entry in fields(options)
    }
    for clf, kernel in HEADS:
        pipeline = set_keys(Pipeline(), of_head(clf, kernel))
        assert require_applicable(replace(pipeline), defaults, "fit-head") == pipeline
