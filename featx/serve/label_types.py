"""The data of the labelling page: images, requests of a tab, and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Self, TypeAlias

import numpy as np

from featx.io.compact import Coded, Paths
from featx.serve.label_journal import LabelEntry, LabelJournal

Labels: TypeAlias = tuple[str, ...]

Neighbours = Callable[[int, np.ndarray], list[tuple[int, float]]]
"""The rows among some that are most like a row, the most similar first, with their similarity"""


@dataclass(frozen=True, eq=False)
class LabelSheet:
    """What is known of the images, in the order in which they are shown; rows are only ever added.

    given : the labels that they have in the data, () for none; split : the part that the data declares, "" for none
    suggestion, confidence, reason : of a model, or of the list that was named; None, NaN and "" where there is none
    wrong : how likely the label in the data is wrong, NaN where that is not known
    first : rows to show before all others
    confidence, wrong : float64 (n,)
    """

    paths: Sequence[str]
    given: Coded[Labels]
    split: Coded[str]
    suggestion: Coded[Labels | None]
    confidence: np.ndarray
    reason: Coded[str]
    wrong: np.ndarray
    first: tuple[int, ...] = ()

    @classmethod
    def plain(cls, paths: Sequence[str], given: Coded[Labels] | None = None, split: Coded[str] | None = None) -> Self:
        """Images of which nothing is suggested. given, split : None where there are none"""
        n = len(paths)
        nothing = np.full(n, np.nan)
        blank = Coded.same("", n)
        labels: Labels = ()
        return cls(
            paths, given or Coded.same(labels, n), split or blank, Coded.same(None, n), nothing, blank, nothing.copy()
        )

    def matching(self, wanted: Wanted, by_label: bool) -> np.ndarray:
        """Which rows have the confidence and score that are wanted, and by this sheet the label: bool (n,).

        by_label : whether the label counts
        """
        found = ~((self.confidence < wanted.least) | (self.confidence > wanted.most))
        if wanted.doubt > 0:
            found &= self.wrong >= wanted.doubt
        if by_label and wanted.label:
            given = self.given.marked({labels: wanted.label in labels for labels in self.given.values})
            taken = {labels: wanted.label in (labels or ()) for labels in self.suggestion.values}
            found &= given | self.suggestion.marked(taken)
        return np.asarray(found)

    def followed_by(self, paths: Sequence[str]) -> LabelSheet:
        """The same with more images, of which nothing is known."""
        if not paths:
            return self
        more = LabelSheet.plain(paths)
        return LabelSheet(
            Paths(chain(self.paths, paths)),
            self.given.followed_by(more.given),
            self.split.followed_by(more.split),
            self.suggestion.followed_by(more.suggestion),
            np.concatenate([self.confidence, more.confidence]),
            self.reason.followed_by(more.reason),
            np.concatenate([self.wrong, more.wrong]),
        )


@dataclass(frozen=True)
class Wanted:
    """Which images a tab shows.

    show : "open": without a label; "given": with one of the data that nobody has checked; "answered", "skipped"
    label : only those with this label, or suggestion; least, most : of the suggestion's confidence, in [0, 1]
    doubt : least label-error score, in [0, 1]; above 0, images without one are left out
    order : "list", "unsure": the least confident first, or "wrong": labels first that are likely wrong
    """

    show: str = "open"
    label: str = ""
    least: float = 0.0
    most: float = 1.0
    doubt: float = 0.0
    order: str = "list"

    @property
    def is_filtered(self) -> bool:
        """Whether not all images of the kind to show are wanted."""
        return bool(self.label) or self.least > 0 or self.most < 1 or self.doubt > 0


@dataclass(frozen=True)
class Beside:
    """A labelled image that is like another one."""

    number: int
    labels: tuple[str, ...]
    similarity: float


@dataclass(frozen=True)
class ToLabel:
    """An image as a tab shows it. number : by which its pixels are asked for; now : its label, where it has one"""

    number: int
    name: str
    given: tuple[str, ...]
    now: tuple[str, ...]
    how: str
    suggestion: tuple[str, ...] | None
    confidence: float | None
    reason: str
    wrong: float | None
    near: tuple[Beside, ...]


@dataclass(frozen=True)
class LabelStanding:
    """How far it has come. judged : answers to images with a suggestion; right : of these, where it was right

    scored : whether any label of the data has a label-error score
    """

    classes: tuple[str, ...]
    several: bool
    scored: bool
    images: int
    open: int
    given: int
    answered: int
    skipped: int
    judged: int
    right: int
    csv: str


def keep_nowhere(_: LabelJournal) -> None:
    """Keep no answers beside the CSV."""


@dataclass(frozen=True)
class LabelStore:
    """Where judged labels are kept beside the CSV.

    kept : row -> what was known of it before
    keep : takes in what a journal has
    """

    kept: Mapping[int, LabelEntry] = field(default_factory=dict)
    keep: Callable[[LabelJournal], None] = keep_nowhere


NOWHERE = LabelStore()
