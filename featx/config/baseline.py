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
        "conv3",
        "Architecture: 1, 3 or 6 convolutions; conv3 and conv6 end in a hidden dense layer of 1024 and 256 units.",
    )
    input_size: Annotated[int, Ge(8)] = option(64, "Side in pixels of the square the network sees.", metavar="N")
    dropout: Annotated[float, Ge(0), Lt(1)] = option(0.5, "Dropout before the last layer.")
    epochs: Count = option(30, "Most passes over the training images.")
    batch_size: Count = option(32, "Images per step.")
    monitor: Monitor = option(
        "val_accuracy", "Quantity that decides which epoch of {trained} is best; its weights are kept."
    )
    patience: Count = option(8, "Epochs without improvement in --monitor before training stops.")
