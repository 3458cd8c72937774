"""Suspicious images of a data set, as files to go through: a CSV and an image grid of each kind, and one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.images.grid import GridImage, draw_grid
from featx.io.commands import short_path
from featx.io.counting import counted
from featx.io.csvtext import csv_text
from featx.io.files import write_atomic
from featx.report.figure_folder import Plot
from featx.report.page import render

SHOWN = 36  # images in a grid
_MOST_ROWS = 200  # of a list; its CSV has all of them
_NUMBERS = frozenset({"confidence", "label_confidence", "similarity", "deviations", "distance", "score"})


@dataclass(frozen=True)
class Finding:
    """One kind of suspicious images.

    name : of its files; heading, text, advice : for the page; caption : under the grid
    found : images or pairs; header, rows : of the CSV
    pictures : of the images in the order of the rows; shown : which of them the grid has, in words
    """

    name: str
    heading: str
    text: str
    found: int
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    pictures: Sequence[GridImage]
    shown: str
    caption: str
    advice: str = ""

    @property
    def csv_name(self) -> str:
        """The name of its CSV."""
        return f"{self.name}.csv"


@dataclass(frozen=True)
class WrittenFinding:
    """A finding and its files. grid : None where there is nothing to draw"""

    finding: Finding
    csv: Path
    grid: Path | None


def write_finding(folder: Path, finding: Finding) -> WrittenFinding:
    """Write the CSV and the image grid of one kind; a grid of an earlier run goes.

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    table, grid = folder / finding.csv_name, folder / f"{finding.name}.png"
    write_atomic(table, csv_text([finding.header, *finding.rows]))
    if not finding.pictures:
        grid.unlink(missing_ok=True)
        return WrittenFinding(finding, table, None)
    draw_grid(finding.pictures[:SHOWN], grid, title=f"{finding.heading}: {finding.shown}")
    return WrittenFinding(finding, table, grid)


def write_findings_page(
    index: Path,
    title: str,
    summary: str,
    written: Sequence[WrittenFinding],
    notes: Sequence[str] = (),
    command: str = "",
) -> None:
    """Write the page to `index`; it holds its figures and loads nothing.

    summary : what was compared; notes : what was left out; command : that wrote the page

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    findings = [one.finding for one in written]
    page = render(
        "findings.html",
        title=title,
        summary=summary,
        findings=findings,
        headers={one.name: [name for name, _ in _filled(one)[0]] if one.rows else [] for one in findings},
        shown={one.name: _filled(one) for one in findings},
        numbers=_NUMBERS,
        notes=notes,
        command=command,
        plots={
            one.finding.name: Plot(one.grid, _in_words(one.finding), wide=True)
            for one in written
            if one.grid is not None
        },
    )
    write_atomic(index, page)


def _filled(finding: Finding) -> list[list[tuple[str, str]]]:
    """The first lines as (column, cell) without columns that are still empty, and with short paths."""
    rows, names = finding.rows[:_MOST_ROWS], finding.header
    kept = [place for place in range(len(names)) if any(row[place] for row in rows)]
    paths = [name.startswith("path") for name in names]
    return [[(names[place], short_path(row[place]) if paths[place] else row[place]) for place in kept] for row in rows]


def _in_words(finding: Finding) -> str:
    drawn = finding.pictures[:SHOWN]
    return f"{counted(len(drawn), 'image')}. " + "; ".join(", ".join(one.caption) for one in drawn) + "."
