"""The public functions that study data and models: featx.check, look, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal, TypedDict, Unpack, overload

from featx.api.keywords import CompareModelsKeywords, ReadFeaturesKeywords
from featx.api.options import CHECK, COMPARE, LOOK, PathLike, call_text, read_options, takes
from featx.api.section_keywords import PreparedKeywords
from featx.comparing.flow import Compared
from featx.comparing.flow import compare as compare_models
from featx.comparing.forecast import forecast_compare
from featx.config import Keys, check_bounds
from featx.config.arguments import typed_arguments
from featx.config.bounds import Cosine, Count, Ge, Le
from featx.dataset import check_images
from featx.dataset.check import Check
from featx.dataset.columns import require_no_duplicate_groups
from featx.errors import UsageError
from featx.first_look.flow import FirstLook, Scope
from featx.first_look.flow import look as look_at
from featx.io.bars import shown_by
from featx.io.context import Context
from featx.io.progress import Progress
from featx.quality.near_duplicates import NEAR
from featx.runs.labels import count_judged, read_labelled
from featx.store.cache import Cache
from featx.workflow.forecast import DryRun
from featx.workflow.review import Review, prepare_review, review


class ScopeKeywords(TypedDict, total=False):
    """The scope of `featx.look`.

    show_classes, show_images : of the contact sheet: classes, and images of each
    sample : maximum number of images to run networks on; None: 500, or as many as fit into a minute
    imagenet : whether to find the ImageNet classes of the images; an error if the network has none
    advice : whether to try a few layers and recommend a head and layer
    """

    show_classes: int
    show_images: int
    sample: int | None
    imagenet: bool
    advice: bool


class LookAtKeywords(ReadFeaturesKeywords, ScopeKeywords, total=False):
    """The keywords of `featx.look`."""


class ComparedKeywords(CompareModelsKeywords, PreparedKeywords, total=False):
    """The keywords of `featx.compare`."""


@dataclass(frozen=True)
class _Near:
    near: Cosine


@dataclass(frozen=True)
class _Scope:
    show_classes: Count = 24
    show_images: Annotated[int, Ge(1), Le(40)] = 6
    sample: Annotated[int, Ge(10)] | None = None
    imagenet: bool = False
    advice: bool = True

    def as_scope(self) -> Scope:
        check_bounds(self)
        return Scope.asked(self.show_classes, self.show_images, self.sample, self.imagenet, self.advice)


@overload
def check(
    data: PathLike | None = None,
    *,
    features: Literal[False] = False,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ReadFeaturesKeywords],
) -> Check: ...


@overload
def check(
    data: PathLike | None = None,
    *,
    features: Literal[True],
    out: PathLike | None = None,
    near: float = NEAR,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ReadFeaturesKeywords],
) -> Review: ...


@takes(*CHECK)
def check(
    data: PathLike | None = None,
    *,
    features: bool = False,
    out: PathLike | None = None,
    near: float = NEAR,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ReadFeaturesKeywords],
) -> Check | Review:
    """Decode every file and compare contents, labels and parts, as `featx check` does.

    Parameters
    ----------
    data, pipeline, progress : as in `featx.extract`
    features : extract missing features and search them for label errors, near-duplicates and outliers instead;
        these are written as CSV files and pictures
    out : with features, the folder of the findings; by default `check` in the results folder
    near : with features, the cosine similarity in [-1, 1] from which two images are near-duplicates
    options : of the sections data, features and report, listed below

    Returns
    -------
    Check
        with `images` and `readable` (numbers of them), `unreadable` [{path, reason}], `duplicates`, `conflicts`,
        `straddling`, `classes` {label: readable images}, `notes`, `judged` {corrected, confirmed: images}
    Review
        with features: `quality` (rows of label errors, near-duplicates and outliers), `written` (the files of each),
        `across`, `report`

    Raises
    ------
    FeatxError
        No images, or an unsuitable option; with features also what `featx.extract` raises.

    Examples
    --------
    >>> import featx
    >>> found = featx.check("flowers")
    >>> found.images, found.unreadable, found.classes
    (36, [], {'daisy': 12, 'rose': 12, 'tulip': 12})
    >>> review = featx.check("flowers", features=True, html=False)
    >>> [one.csv.name for one in review.written]
    ['label_errors.csv', 'near_duplicates.csv', 'outliers.csv']
    """
    wanted = read_options(CHECK, options, "featx.check", data, pipeline)
    check_bounds(_Near(near))
    if features:
        text = call_text("featx.check", data, pipeline, {"features": True, **options})
        with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
            prepared = prepare_review(wanted, cache, show)
            return review(prepared, Path(out) if out is not None else prepared.run.check, near, text)
    if out is not None or near != NEAR:
        raise UsageError("out and near go with the findings of features: featx.check(data, features=True, ...).")
    require_no_duplicate_groups(wanted.data, "featx.check without features=True")
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        images = read_labelled(wanted, cache.index)
        found = check_images(
            images,
            cache.index,
            progress=lambda done: show("check", done, len(images)),
            levels=wanted.features.levels,
        )
        return replace(found, judged=count_judged(wanted, cache.index))


@takes(*LOOK, also=_Scope)
def look(
    data: PathLike | None = None,
    *,
    out: PathLike | None = None,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[LookAtKeywords],
) -> FirstLook:
    """Get a first look at a data set, as `featx look` does: pictures, what a network sees, advice.

    Parameters
    ----------
    data, pipeline, progress : as in `featx.extract`
    out : folder of the pictures and the page; by default `look` in the results folder
    show_classes, show_images : classes on the contact sheet [24], and images of each, 1 to 40 [6]
    sample : maximum number of images to run networks on, from 10 [500, or as many as fit into a minute]
    imagenet : whether to find the ImageNet classes of the images [False]
    advice : whether to try a few layers and recommend what to fit [True]
    options : of the sections data, features and report, listed below; the layers are those to try

    Returns
    -------
    FirstLook
        with `images`, `classes` {label: images}, `contact_sheet` (a file), `views` (the network's input),
        `imagenet`, `depths`, `recommendation` (`advice` and `commands`), `notes`, `report`

    Raises
    ------
    FeatxError
        No image can be read; with imagenet, a network without ImageNet's classes.

    Examples
    --------
    >>> import featx
    >>> found = featx.look("flowers", advice=False, html=False)
    >>> found.images, found.contact_sheet
    (36, 'runs/flowers/look/sheet.png')
    """
    scope, rest = _split(options)
    wanted, asked = read_options(LOOK, rest, "featx.look", data, pipeline), scope.as_scope()
    text = str(data) if data is not None else None
    arguments = typed_arguments(wanted, text, None if pipeline is None else Path(pipeline), LOOK)
    command, folder = call_text("featx.look", data, pipeline, options), None if out is None else Path(out)
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        return look_at(wanted, cache, folder, asked, arguments, Context(command, show))


def _split(options: LookAtKeywords) -> tuple[_Scope, Keys]:
    """How much is looked at, and the options of sections."""
    usual = _Scope()
    scope = _Scope(
        options.get("show_classes", usual.show_classes),
        options.get("show_images", usual.show_images),
        options.get("sample", usual.sample),
        options.get("imagenet", usual.imagenet),
        options.get("advice", usual.advice),
    )
    own = {one.name for one in fields(_Scope)}
    return scope, {name: value for name, value in options.items() if name not in own}


@overload
def compare(
    data: PathLike | Sequence[PathLike] = (),
    *,
    dry_run: Literal[False] = False,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ComparedKeywords],
) -> Compared: ...


@overload
def compare(
    data: PathLike | Sequence[PathLike] = (),
    *,
    dry_run: Literal[True],
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ComparedKeywords],
) -> DryRun: ...


@takes(*COMPARE, prepared=True)
def compare(
    data: PathLike | Sequence[PathLike] = (),
    *,
    dry_run: bool = False,
    pipeline: PathLike | None = None,
    progress: Progress | bool = False,
    **options: Unpack[ComparedKeywords],
) -> Compared | DryRun:
    """Fit every combination of data sets, backbones, layers, heads and stages, as `featx compare` does.

    Existing results are not repeated. A failure is a row with its reason, not an error.

    Parameters
    ----------
    data : one data set or several; without it that of the pipeline file
    dry_run : as in `featx.fit_head`
    pipeline, progress : as in `featx.extract`
    options : of the sections compare and report, and those of features about the input of networks, listed below

    Returns
    -------
    Compared
        with `rows` (`place`, `score`, `val_accuracy`, `test_accuracy`, `best`, `bundle`, `reason`), `failed`, and
        `files` {name: path} of the table
    DryRun
        with dry_run: as `featx.fit_head` returns it, with the steps of every combination

    Raises
    ------
    FeatxError
        A comparison that cannot be planned: an unknown network, layer or head.

    Examples
    --------
    >>> import featx
    >>> done = featx.compare("flowers", clf=["logreg", "ridge"], html=False)
    >>> [row.place.clf for row in done.rows], len(done.failed)
    (['logreg', 'ridge'], 0)
    """
    sets = [data] if isinstance(data, str | Path) else list(data)
    wanted = read_options(COMPARE, options, "featx.compare", sets[0] if sets else None, pipeline)
    if sets:
        wanted = replace(wanted, compare=replace(wanted.compare, data=tuple(map(str, sets))))
    command = call_text("featx.compare", sets[0] if sets else None, pipeline, options)
    with Cache(wanted.features.cache) as cache, shown_by(progress) as show:
        context = Context(command, show)
        return forecast_compare(wanted, cache, context) if dry_run else compare_models(wanted, cache, context)
