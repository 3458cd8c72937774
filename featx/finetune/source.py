"""What a fine-tune sees: labelled examples, and what the network is given of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from featx.bundle import Bundle
from featx.dataset import TRAIN, VAL
from featx.errors import DataError
from featx.evaluate import align
from featx.heads.targets import Targets
from featx.images import iter_batches

if TYPE_CHECKING:
    from featx.run import Prepared


@dataclass(frozen=True)
class Examples:
    """The images of every part and what is true of them.

    Attributes
    ----------
    paths : of n images
    split : uint8 (n,)
    classes : the bundle's, and after them those that it does not know
    targets : of all n images; values are positions in `classes`, weights are 1 on average over the training images
    known : how many classes the bundle knows
    """

    paths: tuple[str, ...]
    split: np.ndarray
    classes: tuple[str, ...]
    targets: Targets
    known: int

    @classmethod
    def of(cls, bundle: Bundle, prepared: Prepared) -> Examples:
        """The examples of a run as a bundle sees them, weighed as its head was.

        Raises
        ------
        DataError
            No validation image of a class that the bundle knows.
        """
        sample, images = prepared.sample, prepared.sample.images
        labels, classes = align(images.classes, sample.y, bundle.classes)
        known = len(bundle.classes)
        trained = (sample.split == TRAIN) & (labels < known)
        weight = np.ones(len(labels)) if sample.weight is None else np.asarray(sample.weight, np.float64)
        if bundle.about["head"]["params"].get("class_weight") == "balanced":
            counts = np.bincount(labels[trained], minlength=len(classes))
            weight = weight / np.maximum(counts, 1)[labels]
        weight = weight / weight[trained].mean()
        targets = Targets(np.arange(known), labels, weight.astype(np.float32))
        paths = tuple(images.paths[row] for row in sample.rows)
        found = cls(paths, sample.split, tuple(classes), targets, known)
        if not len(found.known_rows(VAL)):
            raise DataError("Fine-tuning keeps the best epoch by validation, and there is no val part. See --split.")
        return found

    def rows(self, code: int) -> np.ndarray:
        """Positions of the images of one part."""
        return np.flatnonzero(self.split == code)

    def known_rows(self, code: int) -> np.ndarray:
        """Positions of those of a class that the bundle knows: the others can neither be trained nor be right."""
        return np.flatnonzero((self.split == code) & (self.targets.values < self.known))


class Source(Protocol):
    """Examples, and what the network is given of them: their images, or what a frozen part of it makes of them."""

    examples: Examples

    def batches(self, rows: np.ndarray, size: int, epoch: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions, inputs float32 (n, ...)) of the readable ones of `rows`, in their order.

        size : rows per batch; fewer where some cannot be read
        epoch : from 0 on, in which they are trained on, which any augmentation depends on; None: as they are
        """


class ImageSource:
    """Images, decoded as they are needed."""

    def __init__(self, bundle: Bundle, prepared: Prepared) -> None:
        self.examples = Examples.of(bundle, prepared)
        factor = prepared.pipeline.finetune.downscale
        self.size = (factor * bundle.input_size[0], factor * bundle.input_size[1])
        self.resize = str(bundle.about["backbone"]["resize"])
        self.workers = prepared.pipeline.features.workers

    def batches(self, rows: np.ndarray, size: int, epoch: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images (n, height, width, 3), RGB in [0, 255]; nothing is augmented."""
        del epoch
        for batch in iter_batches(self.examples.paths, rows.tolist(), self.size, self.resize, size, self.workers):
            if len(batch.rows):
                yield batch.rows, batch.images.astype(np.float32)
