"""The section next: which images of a pool are chosen to be labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featx.config.bounds import Cosine, Count, Distance
from featx.config.option import Section, option

Doubt = Literal["margin", "entropy", "none"]


@dataclass(frozen=True)
class NextOptions(Section):
    """Which images of a pool are worth a label, and how many."""

    count: Count = option(100, "How many images to choose.")
    doubt: Doubt = option(
        "margin",
        "What a model's uncertainty is measured by: the margin between its two likeliest classes, or the entropy of "
        "all; none: images are chosen for being typical and different alone.",
    )
    same: Cosine = option(
        0.97,
        "Least similarity of near-duplicates, of which one is chosen; the cosine about the mean of the pool.",
    )
    far: Distance = option(
        1.0, "Images farther than this from all training images are listed apart; 99 % of the known are within 1."
    )
