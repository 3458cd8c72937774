"""The start of every stage: images read, features extracted, the split kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from featx.backbones import resolve
from featx.backbones.runtime import gpu_memory
from featx.backbones.tokens import choose_layers_of_tokens
from featx.bundle.bundle import Bundle
from featx.config import FeaturesOptions, Pipeline
from featx.dataset import (
    NONE,
    SPLITS,
    VAL,
    ImageSet,
    conflicts,
    digest_images,
    read_data,
    require_readable,
    require_usable,
)
from featx.errors import DataError
from featx.extraction.extraction import first_row_output
from featx.extraction.flow import Extraction, extract
from featx.extraction.sample import require_fittable
from featx.extraction.views import ViewPolicy, extract_views
from featx.images.augment import Augmenter
from featx.io.counting import agreeing, counted, counted_of, none_of
from featx.io.digest_arrays import NO_DIGEST, first_of_equal
from featx.io.progress import Progress, no_progress
from featx.metrics.digits import figure_text
from featx.quality.grouping import group_near_duplicates
from featx.runs.labels import read_labelled
from featx.runs.part_notes import describe_unlabelled
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.workflow.calibrate import calibrate, note_calibrated
from featx.workflow.tracking import require_tracker


def choose_images(pipeline: Pipeline, images: ImageSet, cache: Cache) -> ImageSet:
    """The images whose features are wanted: all of them, or with `max_train` those that are in a part of the split."""
    if pipeline.data.max_train is None or pipeline.data.group_duplicates is not None:  # groups come first, of all
        return images
    run = Run.of(pipeline, images)
    run.data.meet(images, cache.index, pipeline)
    digests = digest_images(images.paths, cache.index)
    split = run.split.assign(images, digests.digest, digests.usable, pipeline.data)
    return images.take(np.flatnonzero((split != NONE) | ~digests.usable))


def prepare(
    pipeline: Pipeline, cache: Cache, progress: Progress = no_progress, views: bool = True, fits: bool = True
) -> Prepared:
    """Extract, and split the images as the last run of this name did; new images join the parts.

    views : whether the views that the pipeline asks for are extracted, too, for a head to be fitted on
    fits : whether anything is fitted on them, which needs readable images of every class
    """
    require_tracker(pipeline.tracking)
    gpu_memory().limit(pipeline.finetune.gpu_memory.share)
    images = read_labelled(pipeline, cache.index)
    require_fittable(images)
    met = Run.of(pipeline, images).data.meet(images, cache.index, pipeline)
    wanted = choose_images(pipeline, images, cache)
    calibrate(pipeline, wanted, cache, progress)
    extraction = extract(wanted, pipeline.features, cache, progress)
    if fits:
        require_usable(wanted, extraction.readable)
    extraction, notes = _with_groups(extraction, pipeline)
    run = Run.of(pipeline, extraction.images)
    sample = run.split.sample(extraction.images, extraction.digests, extraction.readable, pipeline.data)
    sample = replace(sample, notes=(*met, *notes, *note_calibrated(extraction, sample), *sample.notes))
    run.data.remember(images, pipeline.data)
    if views and pipeline.augment.views:
        made = extract_views(extraction, sample.train_rows, policy_of(pipeline), cache, progress)
        sample = replace(sample, views=made)
    return Prepared(pipeline, cache, extraction, sample, run)


def prepare_head(pipeline: Pipeline, cache: Cache, progress: Progress = no_progress) -> Prepared:
    """`prepare` for a head to be fitted: of tokens, with all that is tried; see `widen_features`."""
    prepared = prepare(replace(pipeline, features=widen_features(pipeline, cache)), cache, progress)
    return replace(prepared, pipeline=pipeline)


def widen_features(pipeline: Pipeline, cache: Cache) -> FeaturesOptions:
    """The options of the features; with `--clf auto`, and no layer or pooling given, all that is tried of tokens."""
    features = pipeline.features
    if pipeline.head.clf != "auto" or features.layer or features.pooling:
        return features
    require_fittable(read_data(pipeline))  # before a network is built for nothing
    return replace(features, layer=choose_layers_of_tokens(resolve(features), cache.index))


def _with_groups(extraction: Extraction, pipeline: Pipeline) -> tuple[Extraction, tuple[str, ...]]:
    """The extraction whose images are grouped by their near-duplicates where the pipeline asks for it."""
    threshold = pipeline.data.group_duplicates
    if threshold is None:
        return extraction, ()
    rows = np.flatnonzero(extraction.readable)
    rows = rows[first_of_equal(extraction.digests[rows])]
    output = first_row_output(extraction.outputs)
    images, note = group_near_duplicates(extraction.images, rows, extraction.features(output, rows), threshold)
    return replace(extraction, request=replace(extraction.request, images=images)), (note,)


def augmenter_of(pipeline: Pipeline) -> Augmenter:
    """The pipeline's policy at work."""
    return Augmenter(pipeline.augment, pipeline.data.seed)


def policy_of(pipeline: Pipeline) -> ViewPolicy:
    """Which views of the training images the pipeline asks for."""
    return ViewPolicy(augmenter_of(pipeline), pipeline.augment.views)


def images_of_part(
    pipeline: Pipeline, bundle: Bundle, part: str, cache: Cache
) -> tuple[ImageSet, list[str], list[dict[str, str]]]:
    """The images of one part ("train", "val", "test", "all"), each different one once, and what is worth noting.

    The parts are the bundle's own, by content; images it has not seen belong to none but "all". Files without content
    belong to none: they come last, each {path, reason} once.

    Raises
    ------
    DataError
        No labels, no readable image of the part, or val images that a bundle with the option `refit` was trained on.
    """
    images = read_labelled(pipeline, cache.index)
    if images.labels is None:
        raise DataError(f"{images.source} has no labels to measure against. featx predict needs none.")
    digests = digest_images(images.paths, cache.index)
    require_readable(images, digests.usable)
    known, seen = bundle.split(), bundle.seen()
    codes = np.array([known.get(digest, NONE) for digest in digests.digest.tolist()], np.uint8)
    different = np.zeros(len(images), bool)
    different[first_of_equal(digests.digest)] = True
    torn = [row for rows in conflicts(images, np.where(digests.usable, digests.digest, NO_DIGEST)) for row in rows]
    different[torn] = False
    bad, notes = {images.paths[row]: reason for row, reason in sorted(digests.bad.items())}, []
    if pipeline.data.group_duplicates is not None:
        notes.append(
            "Intervals take every image as independent: --group-duplicates groups the images that are fitted on alone."
        )
    if torn:
        notes.append(
            f"{counted(len(torn), 'file has', 'files have')} the bytes of another under a different label: left out. "
            "See featx check."
        )
    wanted = different & (digests.usable if part == "all" else codes == SPLITS.index(part))
    trained = wanted & seen.trained_on(digests.digest)
    if part == "val" and trained.any():
        raise DataError(_describe_refitted(bundle))
    if trained.any():
        notes.append(
            f"{int(trained.sum()):,} of these images {agreeing(int(trained.sum()), 'was', 'were')} trained on: the "
            "figures flatter the model."
        )
    notes += describe_unlabelled(images.take(np.flatnonzero(wanted)))
    if part != "all" and wanted.any():
        notes += _describe_gone(
            known, part, len(np.unique(digests.digest[codes == SPLITS.index(part)])), bundle, images
        )
    if not wanted.any():
        if part == "all":
            source = images.source
            raise DataError(f"Every image of {source} is there under different labels: see featx check {source}")
        raise DataError(
            f"{none_of(len(images), 'image')} of {images.source} is in the part {part!r} of {bundle.shown}. "
            f"Choose another: --split {_other_part(codes, part)}."
        )
    return (
        images.take(np.flatnonzero(wanted)),
        notes,
        [{"path": path, "reason": reason} for path, reason in bad.items()],
    )


def _describe_gone(known: Mapping[bytes, int], part: str, present: int, bundle: Bundle, images: ImageSet) -> list[str]:
    """A sentence where images of the part that the bundle was made with are not in the data, or not as they were.

    known : digest -> part, of all images that it was made with; present : how many of the part are there
    """
    whole = sum(code == SPLITS.index(part) for code in known.values())
    gone = whole - present
    if not gone:
        return []
    what = f"{counted_of(gone, whole, f'{part} image')} of {bundle.shown} {agreeing(gone, 'is', 'are')} not in"
    return [f"{what} {images.source}, or {agreeing(gone, 'was', 'were')} changed: measured without."]


def _other_part(codes: np.ndarray, part: str) -> str:
    """The part to measure on instead: val, where it has images, or all."""
    return "val" if part != "val" and bool((codes == VAL).any()) else "all"


def _describe_refitted(bundle: Bundle) -> str:
    val, metric, before = bundle.manifest.metrics_on("val"), bundle.manifest.score.metric, ""
    if (recorded := val.chosen_by(metric)) is not None:
        before = f" Its {metric} on val before that was {figure_text(recorded, val.images)}."
    return (
        f"{bundle.shown} was trained on its val images, too (--refit), so they cannot be measured.{before} "
        "Choose --split test."
    )


def images_to_compare(
    images: ImageSet, part: str, bundles: tuple[Bundle, Bundle], cache: Cache
) -> tuple[ImageSet, list[str]]:
    """The images by which two bundles can be compared: none that either was trained on, and a note of their number.

    On test, none that either was chosen by.

    Raises
    ------
    DataError
        No image is left.
    """
    digests, notes = digest_images(images.paths, cache.index).digest, []
    fair = np.ones(len(images), bool)
    for bundle in bundles:
        seen = bundle.seen()
        used = seen.used(digests) if part == "test" else seen.trained_on(digests)
        if used.any():
            number = int(used.sum())
            chosen = f" or chosen by {agreeing(number, 'it', 'them')}" if part == "test" else ""
            notes.append(
                f"{counted_of(number, len(images), 'image')} {agreeing(number, 'is', 'are')} left out of the "
                f"comparison: {bundle.shown} was trained on {agreeing(number, 'it', 'them')}{chosen}."
            )
        fair &= ~used
    if not fair.any():
        raise DataError(
            f"The two bundles cannot be compared on these images. {' '.join(notes)} Give images that neither was "
            "trained on: --data."
        )
    return images.take(np.flatnonzero(fair)), notes
