"""The page of a first look at a data set: contact sheet, what the backbone sees, ImageNet's classes, advice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.io.files import write_atomic
from featx.report.album import Plot
from featx.report.page import render

_MOST_ROWS = 200  # of a table


def write_overview(
    index: Path, title: str, content: Mapping[str, Any], plots: Mapping[str, Plot], command: str
) -> Path:
    """Write the page to `index`; it holds its pictures and loads nothing.

    content : what `featx.look.flow.look` tells; plots : by name, those it drew; command : that wrote the page

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    imagenet = content["imagenet"]
    page = render(
        "overview.html",
        title=title,
        content=content,
        imagenet=imagenet,
        taken=[]
        if imagenet is None
        else [(one, _in_words(one["commonest"])) for one in imagenet["classes"]][:_MOST_ROWS],
        bad=content["bad"][:_MOST_ROWS],
        command=command,
        plots=plots,
    )
    write_atomic(index, page)
    return index


def _in_words(commonest: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['label']} {one['share']:.0%}" for one in commonest)
