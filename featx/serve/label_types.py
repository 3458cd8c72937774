"""What is known of the images to label, what a tab asks for, and what it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from featx.serve.label_journal import LabelEntry, LabelJournal

Neighbours = Callable[[int, Sequence[int]], list[tuple[int, float]]]
"""The rows among some that are most like a row, the most similar first, with their similarity"""


@dataclass
class LabelSheet:
    """What is known of the images, in the order in which they are shown; rows are only ever added.

    given : the labels that they have in the data, () for none; split : the part that the data declares, "" for none
    suggestion, confidence, reason : of a model, or of the list that was named; None and "" where there is none
    wrong : how likely the label in the data is wrong, None where that is not known
    first : rows to show before all others
    """

    paths: list[str]
    given: list[tuple[str, ...]]
    split: list[str]
    suggestion: list[tuple[str, ...] | None] = field(default_factory=list)
    confidence: list[float | None] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    wrong: list[float | None] = field(default_factory=list)
    first: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.paths)
        self.suggestion = self.suggestion or [None] * n
        self.confidence = self.confidence or [None] * n
        self.reason = self.reason or [""] * n
        self.wrong = self.wrong or [None] * n


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
