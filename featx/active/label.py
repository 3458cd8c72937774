"""Labelling by hand: the images and their suggestions, and the fit-and-next round behind one button."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.active.label_kept import label_store
from featx.active.label_near import cached_near, search_near
from featx.active.label_sheet import LabelData, features_of, read_sheet, suggest
from featx.active.next import NextImages, choose_next
from featx.bundle.bundle import Bundle, load_bundle
from featx.config import DataOptions, Pipeline
from featx.dataset import ImageSet
from featx.dataset.columns import without_columns
from featx.errors import BundleError, DataError
from featx.io.compact import Coded, RowLookup
from featx.io.context import Context
from featx.io.counting import counted
from featx.io.progress import Progress
from featx.runs.choosing import choose_bundle
from featx.runs.run import Run
from featx.serve.label_desk import LabelDesk
from featx.serve.label_journal import LabelJournal
from featx.serve.label_types import LabelSheet
from featx.store.cache import Cache
from featx.workflow.prepare import prepare_head
from featx.workflow.publish import publish_head

LABELS = "labels.csv"


@dataclass(frozen=True)
class LabelPlan:
    """What `featx label` was asked for.

    bundle : that suggests; None for the list's own suggestions, or none
    labelled : a folder or CSV of images that have labels already; pool : what `featx next` chooses from, None: the data
    """

    pipeline: Pipeline
    bundle: Bundle | None
    out: Path
    labelled: str | None = None
    pool: str | None = None


def run_of(pipeline: Pipeline) -> Run:
    """The run that labels belong to: of the list of `featx next`, else of the data."""
    path = Path(pipeline.data.path or "")
    found = Run.of_list(path) if path.is_file() and pipeline.report.name is None else None
    name = pipeline.report.name or path.absolute().name.removesuffix(path.suffix if path.is_file() else "")
    return found or Run(Path(pipeline.report.runs) / name)


def best_here(run: Run) -> Path | None:
    """The best bundle of the run; None where it has none."""
    try:
        return choose_bundle(None, run.path.parent, run.name, only=True).path
    except BundleError:
        return None


def open_desk(plan: LabelPlan, cache: Cache, context: Context, at_once: int | None = None) -> LabelDesk:
    """Read the images, ask the model, and go on with the answers that there are.

    at_once : of more images than this the model is not asked yet (`ask_model`); None: of any number it is

    Raises
    ------
    DataError
        There are no images.
    StoreError
        A folder that cannot be written to.
    UsageError
        The run of that name has the results of other images.
    """
    data = read_sheet(plan.pipeline, plan.labelled)
    for note in data.notes:
        context.notify(note)
    several = data.separator or ("|" if plan.bundle is not None and plan.bundle.multilabel else None)
    data = replace(data, separator=several)
    classes = data.classes if plan.bundle is None else tuple(dict.fromkeys([*data.classes, *plan.bundle.classes]))
    journal = LabelJournal(plan.out.with_suffix(".journal.jsonl"))
    store = label_store(data.sheet, data.sets, plan.pipeline, cache)
    desk = LabelDesk(data.sheet, journal, plan.out, classes, several, store)
    if at_once is None or len(data.images) <= at_once:
        _suggest(plan, data, desk, cache, context.progress)
    return desk


def ask_model(plan: LabelPlan, desk: LabelDesk, say: Callable[[str], None]) -> str:
    """Ask the model about all images of a desk that is open already; returns what came of it."""
    data = _data_of(plan, desk, desk.sheet)
    with Cache(plan.pipeline.features.cache) as cache:
        _suggest(plan, data, desk, cache, _shown(say))
    return "" if plan.bundle is None else f"{plan.bundle.shown} suggests a class for every image now."


def _data_of(plan: LabelPlan, desk: LabelDesk, sheet: LabelSheet) -> LabelData:
    """What is on a desk, so that it need not be read again."""
    source = str(plan.pipeline.data.path)
    return LabelData(ImageSet(source, Path(source).name, sheet.paths), sheet, (), desk.separator, (), ())


def _suggest(plan: LabelPlan, data: LabelData, desk: LabelDesk, cache: Cache, progress: Progress) -> None:
    if plan.bundle is None:
        desk.renew(data.sheet, (), cached_near(data.images, plan.pipeline.features, cache))
        return
    pool = features_of(data, plan.pipeline.features, plan.bundle, cache, progress)
    sheet = suggest(data, data.sheet, plan.bundle, pool, progress)
    desk.renew(sheet, (), search_near(pool.rows, pool.features, len(sheet.paths)))


def _shown(say: Callable[[str], None]) -> Progress:
    def progress(stage: str, done: int, total: int, /, **_: int) -> None:
        say(f"{stage}: {done:,} of {total:,}")

    return progress


def next_round(plan: LabelPlan, desk: LabelDesk, say: Callable[[str], None]) -> str:
    """Fit a head on what is labelled, choose the next images with it, and put them first; returns what came of it.

    Raises
    ------
    DataError, HeadError
        Too few labels to fit a head on.
    """
    progress = _shown(say)
    context = Context("featx label", progress, lambda _: None)
    run = run_of(plan.pipeline)
    desk.write()
    with Cache(plan.pipeline.features.cache) as cache:
        say("Fitting a head on the labels")
        fitted = load_bundle(publish_head(prepare_head(_labelled(plan, desk, run), cache, progress), context).path)
        say("Choosing the next images")
        pool = plan.pipeline.data if plan.pool is None else DataOptions(path=plan.pool)
        asked = replace(_of_run(plan.pipeline, run), data=pool)
        try:
            found = choose_next(asked, fitted, cache, run.next, context)
        except DataError as error:  # all have labels now
            return f"Fitted {fitted.shown}. {error}"
        _put_first(plan, desk, fitted, found, (cache, progress))
    return f"Fitted {fitted.shown}; {counted(len(found.images), 'image')} to label next first."


def _labelled(plan: LabelPlan, desk: LabelDesk, run: Run) -> Pipeline:
    data = replace(without_columns(plan.pipeline.data), path=str(desk.out), relabel=None)
    return _of_run(replace(plan.pipeline, data=replace(data, label_separator=desk.separator)), run)


def _of_run(pipeline: Pipeline, run: Run) -> Pipeline:
    return replace(pipeline, report=replace(pipeline.report, runs=str(run.path.parent), name=run.name))


def _put_first(
    plan: LabelPlan, desk: LabelDesk, bundle: Bundle, found: NextImages, tools: tuple[Cache, Progress]
) -> None:
    """Ask the new model about all images, and add those of the pool that are not there yet."""
    sheet = desk.sheet
    here = RowLookup(sheet.paths)
    fresh = [one.path for one in found.images if here.find(one.path) is None]
    wider = sheet.followed_by(fresh)
    data = _data_of(plan, desk, wider)
    cache, progress = tools
    pool = features_of(data, plan.pipeline.features, bundle, cache, progress)
    asked = suggest(data, wider, bundle, pool, progress)
    place_of = {path: len(sheet.paths) + place for place, path in enumerate(fresh)}
    rows = [place_of.get(one.path, here.find(one.path) or 0) for one in found.images]
    reason = asked.reason.replaced(np.array(rows, np.int64), Coded.of(one.reason for one in found.images))
    asked = replace(asked, reason=reason, first=tuple(rows))
    desk.renew(asked, bundle.classes, search_near(pool.rows, pool.features, len(wider.paths)))
