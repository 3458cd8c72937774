"""The page of a first look: contact sheet, the backbone's view, ImageNet's classes, advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from featx.first_look.answers import ClassShare
from featx.first_look.result import FirstLook
from featx.io.files import write_atomic
from featx.report.figure_folder import Plot
from featx.report.page import render

_MOST_ROWS = 200  # of a table


def write_page(index: Path, title: str, found: FirstLook, plots: Mapping[str, Plot], command: str) -> None:
    """Write the page to `index`; it holds its figures and loads nothing.

    plots : by name, those that were drawn; command : that wrote the page

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    classes = found.imagenet.classes[:_MOST_ROWS] if found.imagenet else ()
    page = render(
        "overview.html",
        title=title,
        found=found,
        taken=[(one, _in_words(one.commonest)) for one in classes],
        bad=found.unreadable[:_MOST_ROWS],
        command=command,
        plots=plots,
    )
    write_atomic(index, page)


def _in_words(commonest: Sequence[ClassShare]) -> str:
    return ", ".join(f"{one.label} {one.share:.0%}" for one in commonest)
