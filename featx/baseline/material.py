"""The training data of a baseline: the images, labels and split of its run's heads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from featx.backbones.spec import resize_rule
from featx.config import Pipeline
from featx.dataset import TRAIN, VAL, check_images, digest_images, require_usable
from featx.dataset.columns import require_no_duplicate_groups
from featx.errors import DataError
from featx.extraction.sample import Sample, require_fittable
from featx.images.augment import Augmenter
from featx.io.counting import counted
from featx.io.progress import Progress, no_progress
from featx.metrics.predictions import align, group_codes
from featx.runs.labels import read_labelled
from featx.runs.origin import Intake
from featx.runs.run import Run
from featx.store.cache import Cache
from featx.training.source import Examples, ImageSource
from featx.training.targets import Targets, mean_one


@dataclass(frozen=True)
class Material:
    """Images with labels and parts.

    Attributes
    ----------
    intake : the sample, one row per different image, and what was left aside
    source : the rows of the sample as the network is given them; it knows the classes with training images
    run : where results go
    """

    intake: Intake
    source: ImageSource
    run: Run

    @property
    def examples(self) -> Examples:
        """The images of every part and their labels."""
        return self.source.examples


def read_material(pipeline: Pipeline, cache: Cache, progress: Progress = no_progress) -> Material:
    """Read the images that the pipeline names, and split them as its run does; nothing is extracted.

    Raises
    ------
    DataError
        No labels, several per image, a single class, nothing that can be read, or no val part.
    """
    require_no_duplicate_groups(pipeline.data, "a baseline")
    images = read_labelled(pipeline, cache.index)
    require_fittable(images)
    run = Run.of(pipeline, images)
    notes = run.data.meet(images, cache.index, pipeline)
    if images.multilabel:
        raise DataError(f"{images.source} has several labels per image, and a baseline predicts one. Leave it out.")
    workers = pipeline.features.workers
    bad = check_images(images, cache.index, workers, lambda done: progress("check", done, len(images))).unreadable
    digests = digest_images(images.paths, cache.index).digest
    readable = ~np.isin(images.paths, [one["path"] for one in bad])
    require_usable(images, readable)
    sample = run.split.sample(images, digests, readable, pipeline.data)
    sample = replace(sample, notes=(*notes, *sample.notes))
    run.data.remember(images, pipeline.data)
    duplicates = int(readable.sum()) - len(np.unique(digests[readable]))
    side = pipeline.baseline.input_size
    source = ImageSource(
        _examples(sample),
        sample.digests,
        size=(side, side),
        resize=resize_rule(pipeline.features),
        workers=workers,
        augmenter=Augmenter(pipeline.augment, pipeline.data.seed),
    )
    return Material(Intake(sample, bad, duplicates, {}), source, run)


def _examples(sample: Sample) -> Examples:
    images, trained = sample.images, sample.split == TRAIN
    names = [images.classes[code] for code in np.unique(sample.y[trained])]
    if len(names) < 2:
        raise DataError(
            f"The training images of {images.source} are of {counted(len(names), 'class', 'classes')}. See --split."
        )
    if not (sample.split == VAL).any():
        raise DataError("A baseline keeps its best epoch by validation, which needs a val part. See --split.")
    labels, classes = align(images.classes, sample.y, names)
    weight = np.ones(len(sample.y)) if sample.weight is None else np.asarray(sample.weight, np.float64)
    targets = Targets(np.arange(len(names)), labels, mean_one(weight, trained))
    paths = tuple(images.paths[row] for row in sample.rows)
    return Examples(paths, sample.split, tuple(classes), targets, len(names), group_codes(images.groups, sample.rows))
