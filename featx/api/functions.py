"""The public functions: featx.enough, extract, fit_head, map, models, next."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Unpack, overload

from featx.active.enough import Enough, find_enough
from featx.active.map import FeatureMap, draw_map
from featx.active.next import NextImages, choose_next
from featx.api.checked import checked
from featx.api.keywords import DrawMapKeywords, ExtractKeywords, FindEnoughKeywords, FitHeadKeywords, NextImagesKeywords
from featx.api.model import Model
from featx.api.options import ENOUGH, EXTRACT, FIT_HEAD, MAP, NEXT, PathLike, call_text, read_options, takes
from featx.extraction.flow import Extraction
from featx.extraction.planning import ExtractionPlan
from featx.io.bars import shown_by
from featx.io.context import Context
from featx.io.progress import Progress
from featx.runs.catalogue import Catalogue, list_models
from featx.store.cache import Cache
from featx.workflow.forecast import DryRun, forecast_head
from featx.workflow.gather import extract_all, plan_all
from featx.workflow.prepare import prepare_head
from featx.workflow.publish import publish_head


@overload
def extract(
    data: PathLike | None = None,
    *,
    dry_run: Literal[False] = False,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ExtractKeywords],
) -> Extraction: ...


@overload
def extract(
    data: PathLike | None = None,
    *,
    dry_run: Literal[True],
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ExtractKeywords],
) -> ExtractionPlan: ...


@takes(*EXTRACT)
def extract(
    data: PathLike | None = None,
    *,
    dry_run: bool = False,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ExtractKeywords],
) -> Extraction | ExtractionPlan:
    """Compute missing features, as `featx extract` does.

    Parameters
    ----------
    data : a folder per class, train/val/test folders, a CSV, or a folder of images without labels; by default that
        of the pipeline file
    dry_run : whether to only return what would be computed, as `--dry-run` does
    pipeline : a pipeline file, overridden by options; the default one if data is not given either
    progress : True shows progress bars; a function is called with (stage, done, total)
    options : of the sections data, features and augment, listed below; with views, those of the training images are
        computed as well

    Returns
    -------
    Extraction
        with `images` (an `ImageSet`: `paths`, `labels`, `classes`), `computed`, `reused`, `duplicates`, `bad`
        [{path, reason}], `seconds`
    ExtractionPlan
        with dry_run: `images` (`rows` to compute, `reason`, `seconds`, `bytes`, `free_bytes`), and the same of `views`

    Raises
    ------
    FeatxError
        Invalid input, in one sentence that says what to do.

    Examples
    --------
    >>> import featx
    >>> done = featx.extract("flowers")
    >>> done.computed + done.reused, done.bad
    (36, [])
    """
    wanted = read_options(EXTRACT, options, "featx.extract", data, pipeline)
    command = call_text("featx.extract", data, pipeline, options)
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        context = Context(command, show)
        return plan_all(wanted, cache, context) if dry_run else extract_all(wanted, cache, context)[0]


@overload
def fit_head(
    data: PathLike | None = None,
    *,
    dry_run: Literal[False] = False,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[FitHeadKeywords],
) -> Model: ...


@overload
def fit_head(
    data: PathLike | None = None,
    *,
    dry_run: Literal[True],
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[FitHeadKeywords],
) -> DryRun: ...


@takes(*FIT_HEAD)
def fit_head(
    data: PathLike | None = None,
    *,
    dry_run: bool = False,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[FitHeadKeywords],
) -> Model | DryRun:
    """Fit a head on cached features, measure it and save it as a bundle, as `featx fit-head` does.

    Missing features are computed first.

    Parameters
    ----------
    data, pipeline, progress : as in `featx.extract`
    dry_run : whether to only return what would be done, as `--dry-run` does
    options : of the sections data, features, augment, head, report and tracking, listed below

    Returns
    -------
    Model
        with `metrics`, `classes`, `path`, `predict`
    DryRun
        with dry_run: `steps` (`stage`, `what`, `seconds`, `bytes`), the sums `seconds` and `bytes` (None: not known
        before a first run), `free_bytes` of the disk, `folder` of the results

    Raises
    ------
    FeatxError
        Invalid input, in one sentence that says what to do.

    Examples
    --------
    >>> import featx
    >>> model = featx.fit_head("flowers", clf="ridge", html=False)
    >>> model.classes
    ('daisy', 'rose', 'tulip')
    >>> model.metrics["test"]["accuracy"]
    1.0
    >>> [step.stage for step in featx.fit_head("flowers", clf="knn", dry_run=True).steps]
    ['extract', 'fit-head']
    """
    wanted = read_options(FIT_HEAD, options, "featx.fit_head", data, pipeline)
    command = call_text("featx.fit_head", data, pipeline, options)
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        context = Context(command, show)
        if dry_run:
            return forecast_head(wanted, cache, context)
        return Model(publish_head(prepare_head(wanted, cache, show), context))


@checked
def models(runs: PathLike = "runs") -> Catalogue:
    """List every model in a results folder, as `featx models` does; only small files are read.

    Parameters
    ----------
    runs : the results folder, or that of one run

    Returns
    -------
    Catalogue
        iterates over `ListedModel` (`path`, `run`, `data`, `head`, `backbone`, `layer`, `metric`, `score`, `val` and
        `test` with `value` and `interval`, `created`, `bytes`, `best`, `newest`); `broken` has those that cannot be
        read, each with the `reason`

    Examples
    --------
    >>> import featx
    >>> [(one.run.name, one.best) for one in featx.models()]
    [('flowers', True)]
    """
    return list_models(Path(runs))


@takes(*NEXT)
def next(  # noqa: A001 - the command's name
    pool: PathLike | None = None,
    *,
    out: PathLike | None = None,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[NextImagesKeywords],
) -> NextImages:
    """Choose the images of a pool to label first, as `featx next` does; `Model.next` uses a model.

    Parameters
    ----------
    pool : a folder or CSV of images, whose labels do not matter
    out : folder of the lists; by default `next` in the results folder
    pipeline, progress : as in `featx.extract`
    options : of the sections data, features, next and report, listed below

    Returns
    -------
    NextImages
        with `images`, the best first, each with `path`, `score`, `reason`; `csv`, `report`

    Raises
    ------
    FeatxError
        Invalid input, in one sentence that says what to do.

    Examples
    --------
    >>> import featx
    >>> found = featx.next("flowers", count=3, html=False)
    >>> len(found.images), found.pool
    (3, 36)
    """
    wanted = read_options(NEXT, options, "featx.next", pool, pipeline)
    command, folder = call_text("featx.next", pool, pipeline, options), None if out is None else Path(out)
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        return choose_next(wanted, None, cache, folder, Context(command, show))


@takes(*ENOUGH)
def enough(
    data: PathLike | None = None,
    *,
    out: PathLike | None = None,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[FindEnoughKeywords],
) -> Enough:
    """Measure accuracy against the number of images and forecast what more would bring, as `featx enough` does.

    Parameters
    ----------
    data, pipeline, progress : as in `featx.extract`
    out : folder of the files; by default `enough` in the results folder
    options : of the sections data, features, enough and report, listed below

    Returns
    -------
    Enough
        with `curve` (`images`, `accuracy`, `interval`, `per_class`), `forecast` (`images`, `more`, `accuracy`,
        `interval`, `gain`, `gain_interval`), `now`

    Raises
    ------
    FeatxError
        Invalid input, in one sentence that says what to do.

    Examples
    --------
    >>> import featx
    >>> found = featx.enough("flowers", repeats=2, more=50, html=False)
    >>> found.now, [one.more for one in found.forecast]
    (29, [50])
    """
    wanted = read_options(ENOUGH, options, "featx.enough", data, pipeline)
    command, folder = call_text("featx.enough", data, pipeline, options), None if out is None else Path(out)
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        return find_enough(wanted, cache, folder, Context(command, show))


@takes(*MAP)
def map(  # noqa: A001 - the command's name
    data: PathLike | None = None,
    *,
    model: Model | None = None,
    out: PathLike | None = None,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[DrawMapKeywords],
) -> FeatureMap:
    """Show features in two dimensions, as one page to move, zoom and select in, as `featx map` does.

    Parameters
    ----------
    data, pipeline, progress : as in `featx.extract`
    model : the model whose features are shown and whose predictions colour them
    out : file of the page; by default `map.html` in the results folder
    options : of the sections data, features, map and report, listed below

    Returns
    -------
    FeatureMap
        with `page`, `points`, `trustworthiness`

    Raises
    ------
    FeatxError
        Invalid input, in one sentence that says what to do.

    Examples
    --------
    >>> import featx
    >>> found = featx.map("flowers", method="pca")
    >>> found.points, found.page.name
    (36, 'map.html')
    """
    wanted = read_options(MAP, options, "featx.map", data, pipeline)
    command, place = call_text("featx.map", data, pipeline, options), None if out is None else Path(out)
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        return draw_map(wanted, None if model is None else model.bundle, cache, place, Context(command, show))
