"""Columns of a CSV of images that are neither labels nor a split."""

from __future__ import annotations

from collections.abc import Sequence

from featx.config import DataOptions
from featx.dataset.table import LabelTable


def read_columns(path: str, options: DataOptions, names: Sequence[str]) -> dict[str, list[str]]:
    """Those that the CSV has, as text, with a cell for each image that `read_table` reads, in that order."""
    table = LabelTable.read(path, options)
    rows = [row for row in table.rows if row.cells[table.path].strip()]
    here = {name: table.header.index(name) for name in names if name in table.header}
    return {name: [row.cells[place] for row in rows] for name, place in here.items()}
