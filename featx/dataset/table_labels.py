"""The labels of a CSV: one in a cell, several in a cell, or a column of 0 and 1 for each class."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.config import DataOptions
from featx.dataset.imageset import choose_classes
from featx.errors import DataError, UsageError

JSON_LISTS = "json"  # in the place of a separator
EVERY = "*"  # every column that is used for nothing else
_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"", "0", "0.0", "false", "no"}
_MOST_HINTED = 12


@dataclass(frozen=True)
class Cells:
    """The cells of one column. path : the CSV; lines : of each cell; texts : what they hold"""

    path: str
    lines: Sequence[int]
    texts: Sequence[str]


def read_labels(cells: Cells, options: DataOptions, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels, as an `ImageSet` has them, and the classes of a column of labels.

    Raises
    ------
    DataError
        Labels that are lists where none are expected, or no lists where they are.
    UsageError
        An empty separator.
    """
    if options.label_separator is None:
        _refuse_lists(cells)
        classes = choose_classes((name for name in cells.texts if name), options.classes, source)
        code = {name: position for position, name in enumerate(classes)}
        return np.array([code.get(name, -1) for name in cells.texts], np.int64), classes
    if not options.label_separator:
        raise UsageError(
            "--label-separator (data.label_separator) is empty. Name what stands between labels, like '|'."
        )
    several = [_split(cells, row, options.label_separator) for row in range(len(cells.texts))]
    classes = choose_classes((name for names in several for name in names), options.classes, source)
    code = {name: position for position, name in enumerate(classes)}
    labels = np.zeros((len(several), len(classes)), bool)
    for row, names in enumerate(several):
        labels[row, [code[name] for name in names]] = True
    return labels, classes


def read_marks(columns: Sequence[tuple[str, Cells]], options: DataOptions) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of columns of 0 and 1, which are named like the classes: several where any image has several.

    Raises
    ------
    DataError
        A cell holds something else.
    """
    marks = np.stack([[_mark(name, cells, row) for row in range(len(cells.texts))] for name, cells in columns], axis=1)
    names = [name for name, _ in columns]
    classes = choose_classes(names, options.classes, columns[0][1].path)
    ordered = np.zeros((len(marks), len(classes)), bool)
    ordered[:, [classes.index(name) for name in names]] = marks
    if (ordered.sum(axis=1) > 1).any():
        return ordered, classes
    return np.where(ordered.any(axis=1), ordered.argmax(axis=1), -1).astype(np.int64), classes


def looks_marked(texts: Sequence[str]) -> bool:
    """Whether a column holds nothing but 0 and 1, and both."""
    return {text.strip().lower() for text in texts} in ({"0", "1"}, {"0.0", "1.0"}, {"false", "true"})


def describe_marks(names: Sequence[str]) -> str:
    """The part of a note that shows how columns of 0 and 1 are read."""
    listed = ", ".join(names[:_MOST_HINTED]) + (", ..." if len(names) > _MOST_HINTED else "")
    value = ",".join(names) if len(names) <= _MOST_HINTED else f"'{EVERY}'"
    return f". One column per class ({listed}) is read with --label-columns {value}"


def _mark(name: str, cells: Cells, row: int) -> bool:
    text = cells.texts[row].strip().lower()
    if text not in _TRUE and text not in _FALSE:
        raise DataError(
            f"{cells.path}, line {cells.lines[row]}: {cells.texts[row]!r} in the column {name!r} is neither 0 nor 1. "
            "Name only columns of 0 and 1 with --label-columns."
        )
    return text in _TRUE


def _split(cells: Cells, row: int, separator: str) -> list[str]:
    text = cells.texts[row].strip()
    if separator != JSON_LISTS:
        parts = text.split(separator)
    elif not text:
        return []
    else:
        found = _as_list(text)
        if found is None:
            raise DataError(f'{cells.path}, line {cells.lines[row]}: {text!r} is not a list like ["a", "b"].')
        parts = list(map(str, found))
    return [name for name in map(str.strip, parts) if name]


def _refuse_lists(cells: Cells) -> None:
    for line, text in zip(cells.lines, cells.texts, strict=True):
        if not text:
            continue
        if _as_list(text) is None:
            return
        raise DataError(
            f"{cells.path}, line {line}: the label {text!r} is a list. Where images have several labels, read lists "
            "with --label-separator json; else write one label into each cell."
        )


def _as_list(text: str) -> list[object] | None:
    """What a list of JSON, or of Python, holds."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(one, str | int | float) for one in found):
            return found
    return None
