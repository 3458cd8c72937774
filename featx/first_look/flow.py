"""A first look at a data set: contact sheet, the backbone's view, ImageNet's classes, advice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from featx.backbones import resolve
from featx.config import Pipeline
from featx.config.pipeline import command_shown
from featx.dataset import ImageSet
from featx.dataset.check import count_classes
from featx.dataset.columns import require_no_duplicate_groups
from featx.first_look.backbone_view import draw_views
from featx.first_look.budget import limit_sample
from featx.first_look.contact_sheet import choose_contact_sheet, draw_contact_sheet
from featx.first_look.networks import ask_networks
from featx.first_look.page import write_page
from featx.first_look.result import FirstLook
from featx.first_look.study import USUAL, Scope, Study, declared_test
from featx.inference.predict import Unread
from featx.io.context import Context
from featx.io.counting import agreeing, counted
from featx.report.figure_folder import FigureFolder
from featx.report.plot_style import style
from featx.report.plots import draw_sizes
from featx.report.report import INDEX
from featx.runs.labels import read_labelled
from featx.runs.run import Run
from featx.store.cache import Cache

__all__ = ["FirstLook", "Scope", "look"]

_NAMED = 20  # classes, in the words for a figure
_FIGURES = ("sheet", "sizes", "seen", "imagenet", "depths")  # of which an earlier run may have had others


def look(
    pipeline: Pipeline,
    cache: Cache,
    out: Path | None = None,
    scope: Scope = USUAL,
    arguments: str = "",
    context: Context = Context(),
) -> FirstLook:
    """Look at the images of a pipeline; write figures and, unless it says not to, a page.

    What cannot be found out (without labels, of one class, of one image) is left out, and a note has the reason.

    out : the folder; None: `look` in that of the pipeline's results
    arguments : of the commands that are advised, the data first; context : its command is for the page

    Raises
    ------
    DataError
        None of the images that were looked at can be read.
    BackboneError
        With `scope.imagenet`: a network that cannot be had.
    """
    require_no_duplicate_groups(pipeline.data, "a look at a sample of the images")
    spec, images = resolve(pipeline.features), read_labelled(pipeline, cache.index)
    out = out or _own_folder(pipeline, images, cache)
    seed, folder = pipeline.data.seed, FigureFolder(out, pipeline.report.plots)
    context.progress("contact sheet", 0, 0)
    sheet = choose_contact_sheet(images, scope.classes, scope.images, seed, pipeline.features.levels)
    contact_sheet = draw_contact_sheet(sheet, images, folder)
    context.progress("what the network sees", 0, 0)
    views = draw_views(sheet, images, spec, folder)
    test = declared_test(images)
    study = Study(images, images, pipeline, cache, context.progress)
    context.progress("try the network", 0, 0)
    start = time.perf_counter()
    study, limited = limit_sample(study, scope, seed, {*sheet.unreadable, *test})
    found = ask_networks(study, scope.after(time.perf_counter() - start), folder, arguments)
    unreadable = {images.paths[row]: reason for row, reason in sheet.unreadable.items()} | dict(found.unreadable)
    classes = count_classes(images, np.array([path not in unreadable for path in images.paths], bool))
    result = FirstLook(
        out=out,
        images=len(images),
        classes=classes,
        shown=len(sheet.pixels),
        unreadable=tuple(Unread(path, reason) for path, reason in unreadable.items()),
        contact_sheet=contact_sheet,
        sizes=_draw_classes(classes, folder) if classes else None,
        views=views,
        imagenet=found.imagenet,
        depths=found.depths,
        recommendation=found.recommendation,
        precision=found.precision,
        notes=(
            *images.notes,
            *sheet.notes,
            *([views.warning] if views.warning else []),
            *_note_test(test),
            *limited,
            *_note_unreadable(unreadable, images),
            *found.notes,
        ),
        report=str(out / INDEX) if pipeline.report.html else None,
    )
    folder.remove_others(_FIGURES)
    if pipeline.report.html:
        context.progress("page", 0, 0)
        command = command_shown(pipeline, context.command)
        shown = result if pipeline.report.keep_paths else result.without_folders()
        write_page(out / INDEX, f"{images.name}: a first look", shown, folder.plots, command)
    else:
        (out / INDEX).unlink(missing_ok=True)  # of an earlier run
    return result


def _own_folder(pipeline: Pipeline, images: ImageSet, cache: Cache) -> Path:
    """The folder of a look in that of the results, which another data set of the same name does not share."""
    run = Run.of(pipeline, images)
    run.data.meet(images, cache.index, pipeline)
    run.data.remember(images, pipeline.data)
    return run.look


def _draw_classes(classes: Mapping[str, int], folder: FigureFolder) -> str:
    named = ", ".join(f"{label} {size:,}" for label, size in list(classes.items())[:_NAMED])
    with style(classes):
        return folder.draw(
            "sizes", draw_sizes({"images": classes}), f"Images of {counted(len(classes), 'class', 'classes')}: {named}."
        )


def _note_test(rows: Sequence[int]) -> list[str]:
    if not rows:
        return []
    aside = f"No network was run on the {counted(len(rows), 'image')} declared as test"
    return [f"{aside}, so that {agreeing(len(rows), 'it chooses', 'they choose')} nothing."]


def _note_unreadable(unreadable: Mapping[str, str], images: ImageSet) -> list[str]:
    if not unreadable:
        return []
    return [f"Only images that were needed here were decoded. All of them are by: featx check {images.source}"]
