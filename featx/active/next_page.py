"""The images to label, as files: a CSV with an empty label column, image grids, and one page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featx.active.suggested import Suggested
from featx.images.grid import GridImage
from featx.io.urls import is_url
from featx.report.findings import SHOWN, Finding, WrittenFinding, write_finding, write_findings_page
from featx.report.report import INDEX
from featx.report.words import first_of

_HEADER = ("path", "label", "suggestion", "confidence", "distance", "score", "reason")
_LONGEST = 24  # characters of a line under a picture

_CAPTION = "Under each image: the predicted class with its confidence, and how many images of the pool it stands for."


@dataclass(frozen=True)
class Lists:
    """Where the lists are. unknown : None where no image is unknown; page : None without one"""

    csv: Path
    unknown: Path | None
    page: Path | None


def write_lists(
    out: Path,
    images: Sequence[Suggested],
    unknown: Sequence[Suggested],
    summary: str,
    notes: Sequence[str],
    command: str | None,
) -> Lists:
    """Write `next.csv`, where there are any `unknown.csv`, their grids, and the page; files of an earlier run go.

    command : that wrote the page; None: no page is written

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    chosen = write_finding(out, _list_next(images))
    written: list[WrittenFinding] = [chosen]
    if unknown:
        written.append(write_finding(out, _list_unknown(unknown)))
    else:
        for name in ("unknown.csv", "unknown.png"):
            (out / name).unlink(missing_ok=True)
    page = out / INDEX
    if command is None:
        page.unlink(missing_ok=True)
    else:
        write_findings_page(page, "What to label next", summary, written, notes, command)
    return Lists(chosen.csv, written[1].csv if unknown else None, None if command is None else page)


def _list_next(images: Sequence[Suggested]) -> Finding:
    finding = _list(
        images,
        "next",
        "Label these next",
        "The images whose labels cover most of the pool, the best first: many images are like them, no labelled one "
        "is, and the model is unsure. The score is the share of all that is worth knowing that a label adds.",
    )
    advice = "Fill in the column 'label' of next.csv; a line without one is left out by every command that reads it."
    return replace(finding, advice=advice)


def _list_unknown(images: Sequence[Suggested]) -> Finding:
    return _list(
        images,
        "unknown",
        "Unlike all training images",
        "Another kind of image, or a class that the model does not know: those that most of the others are like "
        "come first. Label them where they belong to a class, and leave them out if they do not.",
    )


def _list(images: Sequence[Suggested], name: str, heading: str, text: str) -> Finding:
    return Finding(
        name=name,
        heading=heading,
        text=text,
        found=len(images),
        header=_HEADER,
        rows=[_row(one) for one in images],
        pictures=[_picture(one) for one in images],
        shown=first_of(images, SHOWN),
        caption=_CAPTION,
    )


def _row(one: Suggested) -> tuple[str, ...]:
    path = one.path if is_url(one.path) else os.path.abspath(one.path)
    confidence = "" if one.confidence is None else f"{one.confidence:.4f}"
    distance = "" if one.distance is None else f"{one.distance:.4f}"
    return (path, "", one.suggestion or "", confidence, distance, f"{one.score:.6f}", one.reason)


def _picture(one: Suggested) -> GridImage:
    taken = [] if one.confidence is None else [f"{(one.suggestion or 'no label')[:_LONGEST]}: {one.confidence:.0%}"]
    return GridImage(one.path, (Path(one.path).name, *taken, f"stands for {one.stands_for:,}"))
