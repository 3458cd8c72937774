"""The images that a bundle was made from, for commands that need them again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import UsageError
from featx.io.urls import is_url

if TYPE_CHECKING:
    from featx.bundle.bundle import Bundle
    from featx.config import DataOptions, Pipeline


def own_data(bundle: Bundle, pipeline: Pipeline, advice: str) -> DataOptions:
    """How the images of a bundle are read, by what its run remembers or by the pipeline.

    advice : how to name them, where nothing says where they are

    Raises
    ------
    UsageError
        Nothing says where they are now.
    """
    source = bundle.manifest.data.source or "images without a name"
    remembered = _remembered(bundle, pipeline, source)
    if remembered is not None:
        return remembered
    if Path(pipeline.data.path or "").name != source:
        raise UsageError(
            f"{bundle.shown} was made from {source}, but it is not known where its images are now. {advice}"
        )
    return pipeline.data


def _remembered(bundle: Bundle, pipeline: Pipeline, source: str) -> DataOptions | None:
    """How the run of a bundle has read its images, in the newest place of their name that is there.

    One below the current folder is given by its path from here.
    """
    from featx.report.occasions import belongs_to_run
    from featx.runs.run import Run

    if not belongs_to_run(bundle.shown):
        return None
    found = Run(bundle.shown.resolve().parent).data.options(pipeline.data, source)
    if found is None or is_url(str(found.path)):
        return found
    path, here = Path(str(found.path)), Path.cwd()
    return replace(found, path=str(path.relative_to(here))) if path != here and path.is_relative_to(here) else found
