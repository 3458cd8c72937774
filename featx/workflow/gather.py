"""Features that nothing is fitted on: labels, and images of every class, are not needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.config import Pipeline
from featx.dataset import NONE, SPLITS, TRAIN, ImageSet, note_empty_classes
from featx.dataset.columns import require_no_duplicate_groups
from featx.errors import UsageError
from featx.extraction.flow import Extraction, extract, plan
from featx.extraction.planning import ExtractionPlan
from featx.extraction.request import request_images
from featx.extraction.sample import Sample
from featx.extraction.views import Views, extract_views, plan_views
from featx.io.context import Context
from featx.io.digest_arrays import first_of_equal
from featx.io.jsontypes import Json
from featx.io.progress import Progress, no_progress
from featx.runs.labels import read_labelled
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.store.export import export_features
from featx.workflow.calibrate import calibrate
from featx.workflow.prepare import choose_images, policy_of, prepare


@dataclass(frozen=True)
class Gathered:
    """Features in the store and what is known of their images, not yet read.

    rows : of the extraction, of different images; labels : of those, -1 without one; None where no image has any
    split : uint8, of those; None without two classes, since there is nothing to split by
    views : of the rows in `training`, where the pipeline asks for some
    """

    extraction: Extraction
    rows: np.ndarray
    labels: np.ndarray | None
    split: np.ndarray | None
    views: Views | None

    @property
    def training(self) -> np.ndarray:
        """The rows in train; without a split, those that are not declared as val or test. Positions in `rows`."""
        if self.split is not None:
            return np.flatnonzero(self.split == TRAIN)
        return np.flatnonzero(_may_train(self.extraction.images)[self.rows])


def _may_train(images: ImageSet) -> np.ndarray:
    """Which images may be in train once there are labels: bool (n,)."""
    declared = images.declared
    return np.ones(len(images), bool) if declared is None else (declared == TRAIN) | (declared == NONE)


def gather(pipeline: Pipeline, cache: Cache, progress: Progress, views: bool = True) -> Gathered:
    """Extract what is missing; images of two classes or more are split as the last run of this name did.

    views : whether the views that the pipeline asks for are extracted, too
    """
    images = read_labelled(pipeline, cache.index)
    if images.can_be_split:
        prepared = prepare(pipeline, cache, progress, views, fits=False)
        sample = prepared.sample
        return Gathered(prepared.extraction, sample.rows, sample.y, sample.split, sample.views)
    images = choose_images(pipeline, images, cache)
    calibrate(pipeline, images, cache, progress)
    extraction = extract(images, pipeline.features, cache, progress)
    used = np.flatnonzero(extraction.readable)
    rows = used[first_of_equal(extraction.digests[used])]
    made = None
    if views and pipeline.augment.views:
        training = rows[_may_train(images)[rows]]
        made = extract_views(extraction, training, policy_of(pipeline), cache, progress)
    labels = images.labels[rows] if images.labels is not None and images.classes else None
    return Gathered(extraction, rows, labels, None, made)


def extract_all(pipeline: Pipeline, cache: Cache, context: Context) -> tuple[Extraction, Views | None]:
    """The features of the images, and of views where the pipeline asks for such: of images in train, or without labels.

    Classes without a readable image are shown.
    """
    images = _wanted_images(pipeline, cache, context)
    if pipeline.augment.views:
        gathered = gather(pipeline, cache, context.progress)
        extraction, views = gathered.extraction, gathered.views
    else:
        calibrate(pipeline, images, cache, context.progress)
        extraction, views = extract(images, pipeline.features, cache, context.progress), None
    for note in note_empty_classes(extraction.images, extraction.readable):
        context.notify(note)
    return extraction, views


def plan_all(pipeline: Pipeline, cache: Cache, context: Context) -> ExtractionPlan:
    """What `extract_all` would do; nothing is computed."""
    images = _wanted_images(pipeline, cache, context)
    calibrate(pipeline, images, cache, context.progress)
    planned = plan(images, pipeline.features, cache, context.progress)
    if not pipeline.augment.views:
        return ExtractionPlan(planned)
    request = request_images(images, cache.index, no_progress)
    readable, digests = np.ones(len(images), bool), request.digests
    readable[list(request.unreadable)] = False
    if images.can_be_split:
        require_no_duplicate_groups(pipeline.data, "a dry run of views")
        split = Run.of(pipeline, images).split.assign(images, digests, readable, pipeline.data, keep=False)
        rows = Sample.of(images, digests, split).train_rows
    else:
        used = np.flatnonzero(readable & _may_train(images))
        rows = used[first_of_equal(digests[used])]
    views = plan_views(images.take(rows), digests[rows], pipeline.features, policy_of(pipeline), cache)
    if ExtractionPlan(planned, views).is_most and len(
        views.rows
    ):  # whether all of these can be read shows when they are
        views = replace(views, reason=f"at most {views.reason}")
    return ExtractionPlan(planned, views)


def _wanted_images(pipeline: Pipeline, cache: Cache, context: Context) -> ImageSet:
    """The images whose features are wanted; what was left aside is shown."""
    images = choose_images(pipeline, read_labelled(pipeline, cache.index), cache)
    for note in images.notes:
        context.notify(note)
    return images


def export_gathered(gathered: Gathered, out: Path) -> tuple[int, ...]:
    """Write the features of the first layer and pooling with paths, classes and, if known, labels and split.

    Returns their shape.
    """
    extraction, rows, views = gathered.extraction, gathered.rows, gathered.views
    if len(extraction.outputs) > 1:
        names = ", ".join(output.name for output in extraction.outputs)
        raise UsageError(f"One file holds one layer and pooling, there are {names}. Choose with --layer and --pooling.")
    output, about = extraction.outputs[0], dict[str, Json]()
    features, fitted = extraction.features(output, rows), np.arange(len(rows))
    if views is not None:
        fitted = np.concatenate([fitted, gathered.training[views.of]])
    columns: dict[str, list[str] | np.ndarray] = {
        "paths": [extraction.images.paths[row] for row in rows[fitted]],
        "classes": list(extraction.images.classes),
    }
    if gathered.split is not None:
        columns["split"] = [SPLITS[code] for code in gathered.split[fitted]]
    about |= {"output": output.name, "key": extraction.store.key.as_json()}
    if views is not None:
        features = features.followed_by(views.features(output))
        numbers = views.extraction.views[views.rows]
        columns["view"] = np.concatenate([np.zeros(len(rows), numbers.dtype), numbers])
        about["augment"] = views.augmenter.as_json()
    export_features(out, features, None if gathered.labels is None else gathered.labels[fitted], columns, about)
    return features.shape
