"""The page of explained mistakes: their maps, and the most similar training images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from featx.bundle.bundle import Bundle
from featx.config import Pipeline
from featx.config.pipeline import command_shown
from featx.dataset import digest_images
from featx.errors import BundleError, UsageError
from featx.io.commands import sentence_without_folders
from featx.io.context import Context
from featx.metrics.predictions import LabelledPredictions
from featx.quality.similar import Neighbour, search_with_bundle, why_unsearchable
from featx.report.explained import MistakesPage, Nearness, WrittenMistakes, worst_paths, write_explained
from featx.report.occasions import shows_links, verdict_again
from featx.runs.labels import read_labelled
from featx.store.cache import Cache

_NEAREST = 5  # training images beside each mistake
_ABSENT = "The nearest training images are not shown"


def require_unused(folder: Path, force: bool, forced: str = "--force", named: str = "--mistakes") -> None:
    """Refuse a folder that has something in it, before anything is measured.

    forced, named : how force is set and the folder named, for the message

    Raises
    ------
    UsageError
        There is something, and `force` is not set.
    """
    if force or not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, but a folder is needed. Name another one with {named}.")
    if any(folder.iterdir()):
        raise UsageError(
            f"{folder} is a folder with files in it. Add to it with {forced}, or name another with {named}."
        )


def explain_mistakes(
    folder: Path, bundle: Bundle, judged: LabelledPredictions, pipeline: Pipeline, context: Context
) -> WrittenMistakes:
    """Write the page of a bundle's mistakes and their table into a folder.

    pipeline : whose data has the training images

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    with Cache(pipeline.features.cache) as cache:
        nearness = _find_nearest(worst_paths(judged), bundle, pipeline, cache)
    if not pipeline.report.keep_paths:
        nearness = replace(nearness, notes=[sentence_without_folders(note) for note in nearness.notes])
    page = MistakesPage(
        title=f"Mistakes of {bundle.shown.resolve().parent.name} / {bundle.shown.name} on {judged.part}",
        command=command_shown(pipeline, context.command),
        verdict=verdict_again(bundle, judged, pipeline, context.command),
        keep_paths=pipeline.report.keep_paths,
        linked=shows_links(pipeline),
    )
    return write_explained(folder, bundle, judged, nearness, page, context.progress)


def _find_nearest(paths: list[str], bundle: Bundle, pipeline: Pipeline, cache: Cache) -> Nearness:
    """The training images that are most like some images; none, and why, where their features are not at hand."""
    if not paths:
        return Nearness()
    if why := why_unsearchable(bundle):
        return Nearness(notes=[f"{_ABSENT}: {bundle.name} {why}."])
    images = read_labelled(pipeline, cache.index)
    digests = digest_images(images.paths, cache.index)
    trained = np.flatnonzero(digests.usable & bundle.seen().trained_on(digests.digest))
    if not len(trained):
        advice = "Name the data that it was made of with --data, and the part to measure with --split."
        none = f"{bundle.name} was trained on none of the images of {images.source}"
        return Nearness(notes=[f"{_ABSENT}: {none}. {advice}"])
    try:
        done = search_with_bundle(paths, images.take(trained), bundle, cache, _NEAREST + 1)
    except BundleError as error:
        return Nearness(notes=[f"{_ABSENT}. {error}"])
    return Nearness({one.path: _others(one.path, one.similar) for one in done.found}, done.notes)


def _others(path: str, similar: tuple[Neighbour, ...]) -> tuple[Neighbour, ...]:
    """What is like an image, without itself, which may be a training image."""
    return tuple(one for one in similar if one.path != path)[:_NEAREST]
