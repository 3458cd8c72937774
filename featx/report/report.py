"""The report: one HTML file that shows how good a model is, where it fails, and what made it.

`write_report` scores what was judged (`scores`, `curves`), draws the figures (`figures`, `plots`, `gallery`) and
writes the page (`page`). `report_model` and `report_evaluation` know what a report of theirs holds.
"""

from __future__ import annotations

from pathlib import Path

from featx.io.files import make_folder, write_atomic
from featx.metrics.predictions import LabelledPredictions
from featx.report.content import Content
from featx.report.figures import draw_figures
from featx.report.mistakes import list_mistakes, write_mistakes
from featx.report.page import render_page
from featx.report.scores import score_part

INDEX = "index.html"

__all__ = ["INDEX", "Content", "LabelledPredictions", "write_report"]


def write_report(directory: Path, content: Content) -> Path:
    """Write `index.html`, which holds everything, the same pictures as PNG files beside it, and `mistakes.csv`.

    The part that is shown in detail is the last of `content.judged` with images. An earlier report in the directory is
    replaced; other files in it are left alone.

    Returns
    -------
    Path
        of index.html

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    judged = [part for part in content.judged if len(part.labels)]
    scores = [score_part(part, curves=part is judged[-1]) for part in judged]
    make_folder(directory)
    plots = draw_figures(directory, content, judged[-1] if judged else None, scores)
    shown = judged[-1] if judged else None
    mistakes = [] if shown is None else list_mistakes(shown, directory, content.keep_paths, content.linked)
    write_mistakes(directory, shown, mistakes)
    index = directory / INDEX
    write_atomic(index, render_page(content, scores, plots, mistakes))
    return index
