"""The commands for a bundle's run that the next steps show for copying."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from featx.bundle.bundle import Bundle
from featx.config import Pipeline
from featx.config.arguments import arguments_again, file_of, typed_arguments
from featx.config.pipeline import command_shown, start_pipeline
from featx.dataset.folders import expand, is_folder
from featx.io.urls import is_url, plain
from featx.report.next_steps import Typed
from featx.runs.run import Run

_SECTIONS = ("data", "features", "report")  # of options that say of what a model is, and where its run is
_NEEDLESS = frozenset({"report.plots", "report.html"})
_NOT_OF_LABELS = frozenset({*_NEEDLESS, "data.relabel", "report.keep_paths"})  # which relabel does not take
_LAYERS = frozenset({"features.layer", "features.pooling"})


def typed_for(bundle: Bundle, pipeline: Pipeline, command: str) -> Typed:
    """What commands about the run of a bundle begin with. command : that was typed"""
    source = pipeline.data.path
    if source is None:
        return Typed(trainable=bundle.trainable)
    file = file_of(command)
    data = None if file is not None and start_pipeline(None, file).data.path == source else plain(source)
    needless = set(_NEEDLESS)
    if pipeline.report.name == _usual_name(source):
        needless.add("report.name")
    return Typed(
        typed_arguments(pipeline, data, file, _SECTIONS, without=needless),
        typed_arguments(pipeline, data, file, _SECTIONS, without=needless | {"data.split"}),
        bundle.trainable,
        typed_arguments(pipeline, data, file, _SECTIONS, without=needless | _LAYERS),
    )


def typed_to_relabel(pipeline: Pipeline, source: str, command: str) -> str:
    """The arguments by which `featx relabel` reads the images that a command has read. command : that was typed"""
    file = file_of(command)
    data = None if file is not None and start_pipeline(None, file).data.path == source else plain(source)
    return typed_arguments(pipeline, data, file, ("data", "report"), without=_NOT_OF_LABELS)


def _usual_name(source: str) -> str:
    """What the run of data is called where nothing else is said: as the folder, or the CSV without its ending."""
    path = Path(plain(source))
    return path.name if is_folder(expand(source)) else path.stem


def typed_again(bundle: Bundle, pipeline: Pipeline, command: str) -> Typed:
    """The same of a bundle that is measured again: what it was made by, and not what it is measured by.

    Those of a pipeline file that was named now, for that is the one of its run; else those of the command that made the
    bundle, with the data where its run has them. Without commands where that one cannot be typed again.
    """
    made, nothing = bundle.manifest.command, Typed(trainable=bundle.trainable)
    found = arguments_again(made, _SECTIONS, _NEEDLESS)
    unsplit = arguments_again(made, _SECTIONS, {*_NEEDLESS, "data.split"})
    unlayered = arguments_again(made, _SECTIONS, {*_NEEDLESS, *_LAYERS})
    without_data = found is not None and found[0] is None
    if file_of(command) is not None or (without_data and file_of(made) is None):  # or the default one
        return typed_for(bundle, pipeline, command)
    data = None if found is None or found[0] is None else _data_now(found[0], bundle)
    if found is None or unsplit is None or unlayered is None or (data is None and not without_data):
        return nothing
    words = [] if data is None else [data]
    texts = [shlex.join(words + typed[1]) for typed in (found, unsplit, unlayered)]
    return Typed(texts[0], texts[1], bundle.trainable, texts[2])


def _data_now(typed: str, bundle: Bundle) -> str | None:
    """Where the data is that was typed when a bundle was made; None where it is not known any more."""
    if is_url(typed):
        return typed
    known = Run(bundle.shown.resolve().parent).data
    if known.places and str(Path(expand(typed)).resolve()) not in known.places:  # another folder is the current one now
        typed = next(iter(known.present), known.places[-1])
    return typed if is_url(typed) or Path(expand(typed)).exists() else None


def typed_shown(found: Typed, pipeline: Pipeline) -> Typed:
    """The same, as a page shows it."""

    def shown(words: str) -> str:
        return command_shown(pipeline, f"featx {words}").removeprefix("featx ")

    unlayered = None if found.unlayered is None else shown(found.unlayered)
    return replace(found, data=shown(found.data), unsplit=shown(found.unsplit), unlayered=unlayered)
