"""The sections next and enough: what comes after the first model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from featx.config.bounds import Cosine, Count, Distance, Ge
from featx.config.option import Section, option

Doubt = Literal["margin", "entropy", "none"]


@dataclass(frozen=True)
class NextOptions(Section):
    """Which images of a pool are worth a label, and how many."""

    count: Count = option(100, "Number of images to choose.")
    doubt: Doubt = option(
        "margin",
        "Measure of a model's uncertainty: the margin between its two likeliest classes, or the entropy of "
        "all; none: images are chosen for being typical and different alone.",
    )
    same: Cosine = option(
        0.97,
        "Least similarity of near-duplicates, of which one is chosen; the cosine about the mean of the pool.",
    )
    far: Distance = option(
        1.0, "Images farther than this from all training images are listed apart; 99 % of the known are within 1."
    )


@dataclass(frozen=True)
class EnoughOptions(Section):
    """How accuracy is measured against the number of images, and how far it is extrapolated."""

    repeats: Annotated[int, Ge(2)] = option(8, "Number of times that each size is measured.")
    more: tuple[Count, ...] = option(
        (),
        "Numbers of further images to forecast for (default: half as many, as many, three times as many).",
        metavar="N,N,...",
    )
