"""The section baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from featx.config.bounds import Count, Ge, Lt
from featx.config.option import option
from featx.config.training import Monitor, TrainingOptions

NetName = Literal["conv1", "conv3", "conv6"]


@dataclass(frozen=True)
class BaselineOptions(TrainingOptions):
    """Which small network is trained from scratch to compare with, and how."""

    trained: ClassVar[str] = "the baseline"

    net: NetName = option(
        "conv3", "How many convolutions; conv3 and conv6 have a hidden dense layer, of 1024 and 256 units, behind them."
    )
    input_size: Annotated[int, Ge(8)] = option(64, "Side in pixels of the square the network sees.", metavar="N")
    dropout: Annotated[float, Ge(0), Lt(1)] = option(
        0.5, "Share of what the last layer takes that is left out in training."
    )
    epochs: Count = option(30, "How often every training image is seen, at most.")
    batch_size: Count = option(32, "Images per step.")
    monitor: Monitor = option(
        "val_accuracy", "What decides which epoch of {trained} is the best; its weights are kept."
    )
    patience: Count = option(8, "Epochs without a better --monitor before training stops.")
