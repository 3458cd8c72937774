"""The page of what is suspicious in a data set: the lists and the grids of pictures as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.io.files import write_atomic
from featx.report.figure_folder import Plot
from featx.report.page import render

_MOST_ROWS = 200  # of a list; its CSV has all of them
_NUMBERS = frozenset({"confidence", "label_confidence", "similarity", "deviations", "distance"})


@dataclass(frozen=True)
class Finding:
    """One kind of suspicious images.

    name : of its files; heading, text, advice : what the page says of it
    found : images or pairs; header, rows : of its CSV; grid : its pictures, None where there are none; alt : what
    they show, in words; caption : under them
    """

    name: str
    heading: str
    text: str
    found: int
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    csv: Path
    grid: Path | None
    alt: str = ""
    caption: str = ""
    advice: str = ""


def write_findings(
    index: Path, title: str, summary: str, findings: Sequence[Finding], notes: Sequence[str] = (), command: str = ""
) -> Path:
    """Write the page to `index`; it holds its pictures and loads nothing.

    summary : what was compared; notes : what was left out; command : that wrote the page

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    page = render(
        "findings.html",
        title=title,
        summary=summary,
        findings=findings,
        shown={
            one.name: [list(zip(one.header, row, strict=True)) for row in one.rows[:_MOST_ROWS]] for one in findings
        },
        numbers=_NUMBERS,
        notes=notes,
        command=command,
        plots={one.name: Plot(one.grid, one.alt, wide=True) for one in findings if one.grid is not None},
    )
    write_atomic(index, page)
    return index
