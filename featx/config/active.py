"""The sections next, enough, drift and map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from featx.config.bounds import Cosine, Count, Coverage, Distance, Ge
from featx.config.option import Section, option

Doubt = Literal["margin", "entropy", "none"]
Placing = Literal["tsne", "pca", "umap"]


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


@dataclass(frozen=True)
class DriftOptions(Section):
    """When new images count as different, and how many of the strangest are shown."""

    level: Coverage = option(
        0.05, "Share of false alarms that is accepted: images count as different where p is at most this."
    )
    strangest: Count = option(36, "Images farthest from all training images that are listed, at most.")


@dataclass(frozen=True)
class MapOptions(Section):
    """How images are placed in two dimensions."""

    method: Placing = option(
        "tsne", "t-SNE keeps neighbours, pca large distances and takes no time; umap needs featx[umap]."
    )
    sample: Annotated[int, Ge(4)] = option(
        4000, "Images that are placed by t-SNE or UMAP; others go where the nearest of these are."
    )
    points: Annotated[int, Ge(4)] = option(
        100_000, "Images that the page shows, at most; of more, so many that are drawn at random."
    )
    pictures: Annotated[int, Ge(0)] = option(3000, "Images that have a picture in the page, of 1 KB each.")
