"""An image worth labelling, and the reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.active.answers import PoolAnswers
from featx.active.ranking import Ranking
from featx.io.counting import counted

_UNSURE = 0.5  # doubt from which the two likeliest classes are named


@dataclass(frozen=True)
class Suggested:
    """An image to label.

    score : share of what is worth knowing of the pool that its label adds, in [0, 1]
    reason : in words
    suggestion : the likeliest class, or the labels separated by "|"; None without a model
    confidence : of the likeliest class; rival : the second one
    distance : from the nearest training image; within 1 lie 99 % of the known
    stands_for : images of the pool that are nearest to it of all that are listed; copies : near-duplicates of it
    """

    path: str
    score: float
    reason: str
    suggestion: str | None
    confidence: float | None
    rival: str | None
    distance: float | None
    stands_for: int
    copies: int


@dataclass(frozen=True)
class Narrator:
    """Puts a ranking into words.

    classes : names; answers : of a model to the rows; None without one
    """

    classes: Sequence[str]
    answers: PoolAnswers | None

    def describe(self, ranking: Ranking, places: np.ndarray, paths: Sequence[str]) -> tuple[Suggested, ...]:
        """The images of a ranking.

        places : the row, among those that were answered, of each row that the ranking is of; paths : of its images
        """
        return tuple(
            self._one(path, int(places[row]), float(gain), int(stands_for), int(copies))
            for path, row, gain, stands_for, copies in zip(
                paths, ranking.rows, ranking.gain, ranking.stands_for, ranking.copies, strict=True
            )
        )

    def _one(self, path: str, row: int, gain: float, stands_for: int, copies: int) -> Suggested:
        about = _typical(stands_for, copies)
        if self.answers is None:
            return Suggested(path, round(gain, 6), about, None, None, None, None, stands_for, copies)
        found = self.answers
        first, second = self.classes[int(found.first[row])], self.classes[int(found.second[row])]
        confidence = float(found.confidence[row])
        distance = None if found.distance is None else float(found.distance[row])
        suggestion = first
        if found.labels is not None:
            order = np.argsort(-found.labels[row], kind="stable")
            suggestion = "|".join(self.classes[code] for code in order.tolist() if found.labels[row, code] >= 0)
        reason = f"{self._doubt(row, first, second)}; {about}"
        distance = None if distance is None else round(distance, 6)
        return Suggested(
            path, round(gain, 6), reason, suggestion, round(confidence, 6), second, distance, stands_for, copies
        )

    def _doubt(self, row: int, first: str, second: str) -> str:
        assert self.answers is not None
        doubt, confidence = float(self.answers.margin[row]), float(self.answers.confidence[row])
        if self.answers.labels is not None:
            return "a label is close to its threshold" if doubt >= _UNSURE else "every label is far from its threshold"
        if doubt >= _UNSURE and first != second:
            return f"{first} ({confidence:.0%}) or {second} ({float(self.answers.rival[row]):.0%})"
        return f"rather sure of {first} ({confidence:.0%})"


def _typical(stands_for: int, copies: int) -> str:
    like = "like no other image" if stands_for <= 1 else f"typical of {counted(stands_for, 'image')}"
    if not copies:
        return like
    return f"{like}; {counted(copies, 'near-duplicate')} left out"
