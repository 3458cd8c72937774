"""Similar images: featx.similar, and the parts that Model.similar shares with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from featx.api.keywords import ReadFeaturesKeywords
from featx.api.options import SIMILAR, PathLike, Writing, WritingKeywords, read_options, takes
from featx.bundle.bundle import Bundle
from featx.config import SECTIONS, Pipeline, check_bounds, types_of
from featx.dataset.memory import several
from featx.images.resize import ResizeRule
from featx.inference.predict import AnswerOptions, find_files
from featx.io.bars import shown_by
from featx.io.outputs import require_new_in_python
from featx.io.progress import Progress
from featx.io.suffixes import suffix_of
from featx.quality.similar import Search, best_to_search_with, search, search_with_bundle
from featx.report.neighbours import draw_similar
from featx.runs.labels import read_labelled
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.prepare import choose_images


class SimilarKeywords(ReadFeaturesKeywords, WritingKeywords, total=False):
    """The keywords of `featx.similar`."""


@takes(*SIMILAR, also=Writing)
def similar(
    images: PathLike | Sequence[PathLike],
    data: PathLike | None = None,
    *,
    top: int = 5,
    out: PathLike | None = None,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[SimilarKeywords],
) -> Search:
    """Find the images of a set most similar to these, as `featx similar` does; `Model.similar` uses a model.

    They are compared by the features of the best model of the data's run, if all images have them. If options or a
    pipeline file describe the features, or there is no such model, missing features are computed first.

    Parameters
    ----------
    images : a file or folder, or several
    data, pipeline, progress : as in `featx.extract`; the images to search
    top : number of images to find for each
    out : a PNG file to show them in
    force : whether to replace an existing one [False]
    options : of the sections data, features and report, listed below

    Returns
    -------
    Search
        with `found`, each with `path` and `similar` (`path`, `label`, `similarity` in [-1, 1], the most similar
        first), `unread` (`path`, `reason`) and `notes`

    Raises
    ------
    FeatxError
        No images, or features of several layers.

    Examples
    --------
    >>> import featx
    >>> found = featx.similar("flowers/rose/00.png", "flowers", top=3)
    >>> [near.label for near in found.found[0].similar]
    ['rose', 'rose', 'rose']
    """
    picture = require_picture(out, options.pop("force", False))
    wanted = read_options(SIMILAR, options, "featx.similar", data, pipeline)
    named = set(types_of(SECTIONS["features"])) - {"cache"}
    asked = Asked(top, picture, by_run=pipeline is None and not named & set(options))
    with shown_by(progress) as show:
        return find_similar(images, wanted, None, asked, show)


def require_picture(out: PathLike | None, force: bool) -> Path | None:
    """Return the path of a picture that may be written.

    Raises
    ------
    UsageError
        The suffix is not `.png`, or the file exists and `force` is not set.
    """
    if out is not None:
        suffix_of(Path(out), (".png",), "A picture")
    return require_new_in_python(out, force)


@dataclass(frozen=True)
class Asked:
    """The request of a search: how many, where to show them, whether the best model of the run chooses the features."""

    top: int = 5
    out: Path | None = None
    by_run: bool = False


def find_similar(
    images: PathLike | Sequence[PathLike], wanted: Pipeline, bundle: Bundle | None, asked: Asked, progress: Progress
) -> Search:
    """Search the images of a pipeline by the features of a bundle, or else by those that the pipeline describes."""
    check_bounds(AnswerOptions(asked.top))
    given: Any = [images] if isinstance(images, str | Path) else several(images)
    queries, levels = find_files(given), str(wanted.features.levels)
    with Cache(wanted.features.cache) as cache:
        searched = choose_images(wanted, read_labelled(wanted, cache.index), cache)
        if bundle is None and asked.by_run:
            bundle = best_to_search_with(Run.of(wanted, searched), searched, cache)
        if bundle is None:
            done = search(queries, searched, wanted.features, asked.top, cache, progress)
        else:
            done = search_with_bundle(queries, searched, bundle, cache, asked.top)
            levels = ResizeRule.parse(bundle.manifest.backbone.resize).levels
    if asked.out is not None and done.found:
        draw_similar(done.found, asked.out, levels)
    return replace(done, notes=(*searched.notes, *done.notes))
