"""Options shared by all sections that train a network, and the presets that stand for several of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from featx.config.bounds import Count, Ge, Interval, Lt, Positive, Sentence
from featx.config.option import Keys, Place, Section, option

Optimizer = Literal["adam", "sgd", "rmsprop", "adagrad", "adadelta", "adamax", "nadam"]
ScheduleKind = Literal["constant", "piecewise", "cosine", "exponential", "plateau"]
Monitor = Literal["val_loss", "val_accuracy"]
Preset = Literal["sgd", "piecewise", "rmsprop"]

Factor = Annotated[float, Interval(gt=0, lt=1)]
Accuracy = Annotated[float, Interval(gt=0, le=1), Sentence("is a share of the images above 0 and up to 1, like 0.99")]


@dataclass(frozen=True)
class TrainingOptions(Section):
    """How a network is trained epoch by epoch: what the dense head and fine-tuning have in common."""

    trained: ClassVar[str] = "the network"

    preset: Preset | None = option(None, "Preset of the training options below; options given override it.")
    optimizer: Optimizer = option("adam", "Optimizer of {trained}.")
    momentum: Annotated[float, Ge(0), Lt(1)] = option(0.9, "Momentum of --optimizer sgd.")
    learning_rate: Positive = option(1e-3, "Learning rate of {trained}, where --schedule begins.")
    schedule: ScheduleKind = option("constant", "Schedule of the learning rate of {trained}.")
    boundaries: tuple[int, ...] = option(
        (),
        "Last epoch of each rate of --schedule piecewise, counted from 0 as in Keras, like 20,35.",
        metavar="N,N,...",
    )
    rates: tuple[Positive, ...] = option(
        (), "Learning rates of --schedule piecewise, one more than --boundaries.", metavar="R,R,..."
    )
    decay: Factor = option(0.95, "Factor on the rate after each epoch of --schedule exponential.")
    factor: Factor = option(0.5, "Factor on the rate at each plateau of --schedule plateau.")
    plateau_patience: Count = option(
        5, "Epochs without improvement in --monitor before --schedule plateau lowers the rate."
    )
    least_rate: Annotated[float, Ge(0)] = option(
        0.0, "Lowest rate: what cosine would reach one epoch after the last, and the floor of plateau and exponential."
    )
    warmup: Annotated[int, Ge(0)] = option(0, "Epochs in which the rate first rises linearly to --learning-rate.")
    epochs: Count = option(100, "Most epochs; {trained} may stop earlier.")
    batch_size: Count = option(64, "Batch size of {trained}.")
    monitor: Monitor = option(
        "val_loss", "Quantity that decides which epoch of {trained} is best; its weights are kept."
    )
    patience: Count = option(10, "Epochs without improvement in --monitor before {trained} stops.")
    min_delta: Annotated[float, Ge(0)] = option(0.0, "Smallest improvement that renews the patience.")
    baseline: float | None = option(None, "The patience is renewed only where --monitor is better than this.")
    stop_accuracy: Accuracy | None = option(
        None, "Training accuracy at which to stop (with --stop-val-accuracy, once both are reached)."
    )
    stop_val_accuracy: Accuracy | None = option(None, "Validation accuracy at which to stop.")
    tensorboard: Place | None = option(
        None, "Folder for TensorBoard logs of {trained}, written while it trains.", metavar="DIR"
    )


_CONSTANT: Keys = {"schedule": "constant", "boundaries": (), "rates": ()}
PRESETS: Mapping[str, Keys] = {
    "sgd": {"optimizer": "sgd", "learning_rate": 1e-4, "momentum": 0.9, **_CONSTANT},
    "piecewise": {"schedule": "piecewise", "boundaries": (20, 35), "rates": (1e-4, 5e-4, 1e-3), "epochs": 50},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 1e-4, **_CONSTANT},
}
"""What `preset` stands for"""


def with_preset(values: Keys) -> Keys:
    """Options of a section with those of the preset among them, which the options that are given override."""
    preset = values.get("preset")
    return {**(PRESETS.get(preset, {}) if isinstance(preset, str) else {}), **values}
