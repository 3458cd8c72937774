"""The rows of a CSV of labels: the image of each, its label, and whether it is confirmed."""

from __future__ import annotations

from dataclasses import dataclass

from featx.config import DataOptions
from featx.dataset.table import LabelTable, local_name
from featx.errors import DataError


@dataclass(frozen=True)
class LabelRow:
    """A row of a CSV of labels. right : whether it has a mark in the column `right`"""

    line: int
    path: str
    label: str
    right: bool = False


def read_labels(path: str) -> list[LabelRow]:
    """Every row of a CSV with the columns path and label, and maybe `right`, read as `read_table` reads one.

    Raises
    ------
    DataError
        When a column is missing, or the file is no CSV.
    """
    table = LabelTable.read(path, DataOptions())
    if table.label is None:
        raise DataError(f"No column 'label' in {path}. It needs the columns path and label.")
    place = table.header.index("right") if "right" in table.header else None
    return [
        LabelRow(row.line, local_name(name), row.cells[table.label], place is not None and _is_mark(row.cells[place]))
        for row in table.rows
        if (name := row.cells[table.path]).strip()
    ]


def _is_mark(cell: str) -> bool:
    return cell.strip().lower() in {"yes", "y", "x", "true", "1", "ok", "right"}
