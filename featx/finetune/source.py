"""What a fine-tune sees: labelled examples, and what the network is given of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from featx.bundle.bundle import Bundle
from featx.dataset import TRAIN, VAL
from featx.errors import DataError, UsageError
from featx.heads.targets import Targets, label_emphasis
from featx.images.augment import Augmenter
from featx.images.batches import Alter, iter_batches
from featx.inference.judge import align, align_labels
from featx.selection.weights import parse_class_weight

if TYPE_CHECKING:
    from featx.runs.prepared import Prepared


@dataclass(frozen=True)
class Examples:
    """The images of every part and what is true of them.

    Attributes
    ----------
    paths : of n images
    split : uint8 (n,)
    classes : the bundle's, and after them those that it does not know
    targets : of all n images; values are positions in `classes`, or 1 where an image has the label; weights are 1 on
        average over the training images
    known : how many classes the bundle knows
    """

    paths: tuple[str, ...]
    split: np.ndarray
    classes: tuple[str, ...]
    targets: Targets
    known: int

    @classmethod
    def of(cls, bundle: Bundle, prepared: Prepared) -> Examples:
        """The examples of a run as a bundle sees them, weighed as its head was, or as the options say.

        Raises
        ------
        DataError
            No validation image of a class that the bundle knows; images of one class for a bundle that gives several.
        """
        sample, images = prepared.sample, prepared.sample.images
        if images.multilabel != bundle.multilabel:
            kind = "several labels" if bundle.multilabel else "one label"
            raise DataError(f"{images.source} must have {kind} per image, as {bundle.path} gives. Name other images.")
        paths = tuple(images.paths[row] for row in sample.rows)
        weights = _weights(bundle, prepared.pipeline.finetune.class_weight)
        if bundle.multilabel:
            truth, classes = align_labels(images.classes, sample.y, bundle.classes), list(bundle.classes)
            targets = _label_targets(weights, truth, sample.split == TRAIN, sample.weight)
        else:
            labels, classes = align(images.classes, sample.y, bundle.classes)
            targets = _class_targets(weights, bundle.classes, labels, sample.split == TRAIN, sample.weight)
        found = cls(paths, sample.split, tuple(classes), targets, len(bundle.classes))
        if not len(found.known_rows(VAL)):
            raise DataError("Fine-tuning keeps the best epoch by validation, and there is no val part. See --split.")
        return found

    @property
    def labels(self) -> np.ndarray:
        """int64 (n,), positions in `classes`; bool (n, known) where an image can have several."""
        return self.targets.values if self.targets.values.ndim == 1 else self.targets.values > 0

    def rows(self, code: int) -> np.ndarray:
        """Positions of the images of one part."""
        return np.flatnonzero(self.split == code)

    def known_rows(self, code: int) -> np.ndarray:
        """Positions of those of a class that the bundle knows: the others can neither be trained nor be right."""
        known = self.labels.ndim == 2 or self.targets.values < self.known
        return np.flatnonzero((self.split == code) & known)


def _class_targets(
    weights: tuple[str, float],
    classes: tuple[str, ...],
    labels: np.ndarray,
    trained: np.ndarray,
    weight: np.ndarray | None,
) -> Targets:
    """What is learned of images with one class."""
    known, (class_weight, _) = len(classes), weights
    weight = np.ones(len(labels)) if weight is None else np.asarray(weight, np.float64)
    trained = trained & (labels < known)
    of_class = np.ones(max(known, int(labels.max(initial=0)) + 1))
    if class_weight == "balanced":
        of_class[:known] = 1 / np.maximum(np.bincount(labels[trained], minlength=known), 1)
    elif class_weight != "none":
        named = parse_class_weight(class_weight, classes)
        of_class[:known] = [named.get(name, 1.0) for name in classes]
    return Targets(np.arange(known), labels, _of_mean_one(weight * of_class[labels], trained))


def _label_targets(
    weights: tuple[str, float], truth: np.ndarray, trained: np.ndarray, weight: np.ndarray | None
) -> Targets:
    """What is learned of images with several labels, those that are there emphasised."""
    weight = np.ones(len(truth)) if weight is None else np.asarray(weight, np.float64)
    emphasis = label_emphasis(truth[trained], *weights)
    return Targets(np.arange(truth.shape[1]), truth.astype(np.float32), _of_mean_one(weight, trained), emphasis)


def _weights(bundle: Bundle, class_weight: str | None) -> tuple[str, float]:
    """The options --class-weight, unless it is given anew, and --positive-weight that the head was fitted with."""
    head = {"class_weight": "none", "positive_weight": 1.0} | bundle.about["head"]["params"] | bundle.about["head"]
    if class_weight not in {None, "none", "balanced"} and bundle.multilabel:
        raise UsageError("--class-weight by name is for images of one class. Of several labels give none or balanced.")
    return str(head["class_weight"] if class_weight is None else class_weight), float(head["positive_weight"])


def _of_mean_one(weight: np.ndarray, trained: np.ndarray) -> np.ndarray:
    return np.asarray(weight / weight[trained].mean(), np.float32)


class Source(Protocol):
    """Examples, and what the network is given of them: their images, or what a frozen part of it makes of them."""

    examples: Examples

    def batches(self, rows: np.ndarray, size: int, epoch: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions, inputs float32 (n, ...)) of the readable ones of `rows`, in their order.

        size : rows per batch; fewer where some cannot be read
        epoch : from 0 on, in which they are trained on, which any augmentation depends on; None: as they are
        """


class ImageSource:
    """Images, decoded as they are needed, and augmented where they are trained on: each epoch sees another view."""

    def __init__(self, bundle: Bundle, prepared: Prepared) -> None:
        self.examples = Examples.of(bundle, prepared)
        factor = prepared.pipeline.finetune.downscale
        self.size = (factor * bundle.input_size[0], factor * bundle.input_size[1])
        self.resize = str(bundle.about["backbone"]["resize"])
        self.workers = prepared.pipeline.features.workers
        self.digests = prepared.sample.digests
        self.augmenter = Augmenter(prepared.pipeline.augment, prepared.pipeline.data.seed)

    def batches(self, rows: np.ndarray, size: int, epoch: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images (n, height, width, 3), RGB in [0, 255]: as they are, or the view 1 + `epoch` of each."""
        paths, alter = self.examples.paths, self._alter(epoch)
        for batch in iter_batches(paths, rows.tolist(), self.size, self.resize, size, self.workers, alter):
            if len(batch.rows):
                yield batch.rows, batch.images.astype(np.float32)

    def _alter(self, epoch: int | None) -> Alter | None:
        if epoch is None or not self.augmenter.policy.operations:
            return None
        return lambda row, image: self.augmenter(image, bytes(self.digests[row]), 1 + epoch)
