"""Confusions: the most frequent mistakes, and the 2x2 table of each label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.report.scores import Scores

_MOST_CONFUSIONS = 20


@dataclass(frozen=True)
class _Confusion:
    """How many images of one class were taken for another. share : of the actual class; of : images of that"""

    actual: str
    predicted: str
    images: int
    share: float
    of: int


def list_confusions(scores: Scores) -> list[_Confusion]:
    """The most frequent mistakes, the most frequent first."""
    if scores.confusion is None:
        return []
    wrong = scores.confusion * ~np.eye(len(scores.confusion), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    names = [str(row["label"]) for row in scores.classes]
    cells = [divmod(int(cell), len(names)) for cell in order]
    return [
        _Confusion(
            names[row],
            names[column],
            int(wrong[row, column]),
            float(wrong[row, column] / scores.confusion[row].sum()),
            int(scores.confusion[row].sum()),
        )
        for row, column in cells
        if wrong[row, column]
    ]


@dataclass(frozen=True)
class _Cell:
    """Images, and their share of the row; right : whether the model is right about them"""

    images: int
    share: float
    right: bool


@dataclass(frozen=True)
class _LabelTable:
    """The 2x2 table of a label. rows : images that have it and that do not; cells : that are given it, and not"""

    label: str
    rows: tuple[tuple[str, tuple[_Cell, ...]], ...]


def list_label_tables(scores: Scores) -> list[_LabelTable]:
    """The table of each label."""
    if scores.tables is None:
        return []
    return [
        _LabelTable(
            str(row["label"]),
            tuple((name, _label_cells(table[there], there)) for there, name in ((1, "has it"), (0, "has it not"))),
        )
        for row, table in zip(scores.classes, scores.tables, strict=True)
    ]


def _label_cells(row: np.ndarray, there: int) -> tuple[_Cell, ...]:
    total = max(row.sum(), 1)
    return tuple(_Cell(int(row[given]), float(row[given] / total), there == given) for given in (1, 0))
