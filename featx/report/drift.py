"""Drift results as files: the strangest images as a CSV and a grid, and one page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from featx.images.grid import GridImage
from featx.io.files import write_atomic
from featx.io.urls import is_url
from featx.report.figure_folder import Plot
from featx.report.findings import SHOWN, Finding, write_finding
from featx.report.page import render
from featx.report.report import INDEX
from featx.report.words import first_of

_CLASSES = 50  # in the table of the page
_MEANING = {
    "features": "what the network sees of the images (energy distance)",
    "distance": "how far they are from the training images (Kolmogorov-Smirnov)",
    "confidence": "how sure the model is (Kolmogorov-Smirnov)",
    "classes": "what it predicts for them (chi-squared)",
}


class ShownTest(Protocol):
    """One test, as far as it is shown."""

    @property
    def statistic(self) -> float:
        """Larger where the sides differ more."""

    @property
    def p(self) -> float:
        """The p of this test alone."""

    @property
    def adjusted(self) -> float:
        """With the others."""


@dataclass(frozen=True)
class ClassShift:
    """The shares of one class. before : of held-out images; now : estimated; answered : that the model gives it"""

    label: str
    before: float
    now: float
    interval: tuple[float, float] | None
    answered: float


@dataclass(frozen=True)
class Strange:
    """An image that is far from all training images, and what it is taken for."""

    path: str
    distance: float
    label: str
    confidence: float


@dataclass(frozen=True)
class DriftText:
    """What the page says. command : that wrote it; None: no page is written"""

    verdict: str
    compared: str
    notes: tuple[str, ...]
    command: str | None


@dataclass(frozen=True)
class DriftFiles:
    """Where it is written; None where there is no such file."""

    csv: Path | None
    page: Path | None


def write_drift(
    out: Path,
    tests: Mapping[str, ShownTest],
    mix: Sequence[ClassShift] | None,
    strangest: Sequence[Strange],
    text: DriftText,
) -> DriftFiles:
    """Write `strangest.csv`, its grid, and the page; files of an earlier run go.

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = write_finding(out, _finding(strangest)) if strangest else None
    if written is None:
        for name in ("strangest.csv", "strangest.png"):
            (out / name).unlink(missing_ok=True)
    page, table = out / INDEX, None if written is None else written.csv
    if text.command is None:
        page.unlink(missing_ok=True)
        return DriftFiles(table, None)
    grid = None if written is None else written.grid
    drawn = "; ".join(f"{Path(one.path).name}, {one.distance:.2f}" for one in strangest[:SHOWN])
    shown = render(
        "drift.html",
        title="Are the new images like the old ones?",
        text=text,
        tests=tests,
        meaning=_MEANING,
        mix=None if mix is None else sorted(mix, key=lambda one: -abs(one.now - one.before))[:_CLASSES],
        plots={} if grid is None else {"strangest": Plot(grid, f"The strangest images: {drawn}.", wide=True)},
        command=text.command,
    )
    write_atomic(page, shown)
    return DriftFiles(table, page)


def _finding(strangest: Sequence[Strange]) -> Finding:
    return Finding(
        name="strangest",
        heading="The strangest images",
        text="",
        found=len(strangest),
        header=("path", "distance", "prediction", "confidence"),
        rows=[
            (
                one.path if is_url(one.path) else os.path.abspath(one.path),
                f"{one.distance:.4f}",
                one.label,
                f"{one.confidence:.4f}",
            )
            for one in strangest
        ],
        pictures=[
            GridImage(one.path, (Path(one.path).name, f"{one.label}: {one.confidence:.0%}", f"{one.distance:.2f} away"))
            for one in strangest
        ],
        shown=first_of(strangest, SHOWN),
        caption="",
    )
