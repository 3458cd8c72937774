"""A first look at a data set: a contact sheet, what the backbone sees, what ImageNet makes of it, and advice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones import resolve
from featx.config import Pipeline
from featx.dataset import ImageSet, read_data
from featx.dataset.check import count_classes
from featx.io.progress import Progress, no_progress
from featx.look.album import Album
from featx.look.seen import show_seen
from featx.look.sheet import choose_sheet, draw_sheet
from featx.look.study import Study, draw_sample, tell
from featx.report.overview import write_overview
from featx.report.plots import draw_sizes, style
from featx.report.report import INDEX
from featx.runs.run import Run

__all__ = ["Scope", "look"]

_NAMED = 20  # classes, in the words for a picture


@dataclass(frozen=True)
class Scope:
    """How much is looked at.

    classes, images : of a contact sheet: classes at most, and images of each
    sample : images at most that a network is run on
    imagenet : whether to tell what ImageNet's classes make of them; advice : whether to advise
    """

    classes: int = 24
    images: int = 6
    sample: int = 500
    imagenet: bool = False
    advice: bool = True


def look(
    pipeline: Pipeline,
    out: Path | None = None,
    scope: Scope = Scope(),
    command: str = "",
    arguments: str = "",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Look at the images of a pipeline; write pictures and, unless it says not to, a page.

    What cannot be told (without labels, of one class, of one image) is left out, and a note says why.

    out : the folder; None: `look` in that of the pipeline's results
    command : for the page; arguments : of the commands that the advice tells, data first

    Returns
    -------
    dict
        out; images; classes {label: images}, without those found to be bad; shown: images on the contact sheet; bad
        [{path, reason}] among the images that were decoded; sheet, sizes: pictures; seen {picture, backbone,
        input_size, resize, preprocessing, own, mean_difference, warning}; imagenet {picture, backbone, preprocessing,
        images, separation, classes, predictions}; depths {picture, metric, images, probes}; advice {case, size,
        similarity, output, clf, tune, summary, reasons, commands, numbers}; notes; report: the page. What was not told
        or not drawn is None.

    Raises
    ------
    DataError
        None of the images that were looked at can be read.
    BackboneError
        With `scope.imagenet`: a network that cannot be had.
    """
    spec, images = resolve(pipeline.features), read_data(pipeline)
    out = out or Run.of(pipeline, images).look
    seed, album = pipeline.data.seed, Album(out)
    sheet = choose_sheet(images, scope.classes, scope.images, seed)
    draw_sheet(sheet, images, album)
    seen = show_seen(sheet, images, spec, pipeline.features.resize, album)
    study = Study(images, images.take(draw_sample(images, scope.sample, seed, sheet.bad)), pipeline, progress)
    told = tell(study, scope.imagenet, scope.advice, album, arguments)
    bad = {images.paths[row]: reason for row, reason in sheet.bad.items()} | study.bad
    classes = count_classes(images, np.array([path not in bad for path in images.paths], bool))
    if classes:
        _draw_classes(classes, album)
    album.forget_others()
    content = {
        "out": str(out),
        "images": len(images),
        "classes": classes,
        "shown": len(sheet.pixels),
        "bad": [{"path": path, "reason": reason} for path, reason in bad.items()],
        "sheet": album.path_of("sheet"),
        "sizes": album.path_of("sizes"),
        "seen": seen,
        **{key: told.get(key) for key in ("imagenet", "depths", "advice")},
        "notes": [*images.notes, *sheet.notes, *filter(None, [seen["warning"]]), *_note_bad(bad, images), *study.notes],
        "report": str(out / INDEX) if pipeline.report.html else None,
    }
    if pipeline.report.html:
        write_overview(out / INDEX, f"{images.name}: a first look", content, album.plots, command)
    else:
        (out / INDEX).unlink(missing_ok=True)  # of an earlier run
    return content


def _draw_classes(classes: dict[str, int], album: Album) -> None:
    named = ", ".join(f"{label} {size:,}" for label, size in list(classes.items())[:_NAMED])
    with style(classes):
        album.figure("sizes", draw_sizes({"images": classes}), f"Images of {len(classes):,} classes: {named}.")


def _note_bad(bad: dict[str, str], images: ImageSet) -> list[str]:
    if not bad:
        return []
    return [f"Only images that were needed here were decoded. All of them are by: featx check {images.source}"]
