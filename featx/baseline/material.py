"""What a baseline is trained on: the images, labels and split that the heads of its run have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.config import Pipeline
from featx.dataset import TRAIN, VAL, check_images, digest_images, read_data, require_usable
from featx.errors import DataError
from featx.extraction.sample import Sample, require_fittable
from featx.heads.targets import Targets
from featx.images.augment import Augmenter
from featx.images.batches import iter_batches
from featx.inference.judge import align
from featx.io.index import StatIndex
from featx.io.progress import Progress, no_progress
from featx.runs.run import Run


@dataclass(frozen=True)
class Material:
    """Images with labels and parts.

    Attributes
    ----------
    sample : one row per different image
    classes : those with training images, which the network tells apart, and after them the others
    known : how many the network tells apart
    targets : of the rows of the sample; values are positions in `classes`, weights are 1 on average over train
    bad : {path, reason} of images that could not be read; duplicates : images that are copies of others
    run : where results go
    size, resize, workers : how images are read; augmenter : how they are altered in training
    """

    sample: Sample
    classes: tuple[str, ...]
    known: int
    targets: Targets
    bad: list[dict[str, str]]
    duplicates: int
    run: Run
    size: tuple[int, int]
    resize: str
    workers: int
    augmenter: Augmenter

    def rows(self, code: int) -> np.ndarray:
        """Positions in the sample of the images of one part."""
        return np.flatnonzero(self.sample.split == code)

    def known_rows(self, code: int) -> np.ndarray:
        """Positions of those whose class the network tells."""
        rows = self.rows(code)
        return np.asarray(rows[self.targets.values[rows] < self.known])

    def path(self, row: int) -> str:
        """Of the image in a row of the sample."""
        return str(self.sample.images.paths[self.sample.rows[row]])

    def batches(self, rows: np.ndarray, size: int, epoch: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows, images float32 (n, height, width, 3), RGB in [0, 255]) of the readable ones, in their order.

        epoch : from 0 on, in which they are trained on, each in a view of that epoch; None: as they are
        """
        paths = [self.path(row) for row in rows.tolist()]

        def alter(place: int, image: np.ndarray) -> np.ndarray:
            return self.augmenter(image, bytes(self.sample.digests[rows[place]]), 0 if epoch is None else epoch + 1)

        altered = epoch is not None and bool(self.augmenter.policy.operations)
        for batch in iter_batches(
            paths, range(len(paths)), self.size, self.resize, size, self.workers, alter if altered else None
        ):
            if len(batch.rows):
                yield rows[batch.rows], batch.images.astype(np.float32)


def read_material(pipeline: Pipeline, progress: Progress = no_progress) -> Material:
    """Read the images that the pipeline names, and split them as its run does; nothing is extracted.

    Raises
    ------
    DataError
        No labels, several per image, a single class, nothing that can be read, or no val part.
    """
    images = read_data(pipeline)
    require_fittable(images)
    if images.multilabel:
        raise DataError(f"{images.source} has several labels per image, and a baseline tells one. Leave it out.")
    index = StatIndex(Path(pipeline.features.cache) / "index.sqlite")
    workers = pipeline.features.workers
    bad = check_images(images, index, workers, lambda done: progress("check", done, len(images))).bad
    digests = digest_images(images.paths, index).digest
    readable = ~np.isin(images.paths, [one["path"] for one in bad])
    require_usable(images, readable)
    run = Run.of(pipeline, images)
    sample = Sample.of(images, digests, run.split.assign(images, digests, readable, pipeline.data))
    names = [images.classes[code] for code in np.unique(sample.y[sample.split == TRAIN])]
    if len(names) < 2:
        raise DataError(f"The training images of {images.source} are of {len(names)} class. See --split.")
    if not (sample.split == VAL).any():
        raise DataError("A baseline keeps its best epoch by validation, and there is no val part. See --split.")
    labels, classes = align(images.classes, sample.y, names)
    side = pipeline.baseline.input_size
    duplicates = int(readable.sum()) - len(np.unique(digests[readable]))
    targets = Targets(np.arange(len(names)), labels, _weights(sample))
    return Material(
        sample=sample,
        classes=tuple(classes),
        known=len(names),
        targets=targets,
        bad=bad,
        duplicates=duplicates,
        run=run,
        size=(side, side),
        resize=pipeline.features.resize,
        workers=workers,
        augmenter=Augmenter(pipeline.augment, pipeline.data.seed),
    )


def _weights(sample: Sample) -> Any:
    weight = np.ones(len(sample.y)) if sample.weight is None else np.asarray(sample.weight, np.float64)
    return (weight / weight[sample.split == TRAIN].mean()).astype(np.float32)
