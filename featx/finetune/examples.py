"""The training data of a fine-tune: a run's images, with the labels and weights that a bundle gives them."""

from __future__ import annotations

import numpy as np

from featx.bundle.bundle import Bundle
from featx.dataset import TRAIN, VAL
from featx.errors import DataError, UsageError
from featx.images.augment import Augmenter
from featx.metrics.predictions import align, align_labels, group_codes
from featx.runs.prepared import Prepared
from featx.selection.weights import parse_class_weight
from featx.training.source import Examples, ImageSource
from featx.training.targets import Targets, label_emphasis, mean_one


def make_examples(bundle: Bundle, prepared: Prepared) -> Examples:
    """Return the examples of a run as a bundle sees them, weighed as its head was unless the options differ.

    Raises
    ------
    DataError
        No validation image of a class that the bundle knows; images of one class for a bundle that gives several.
    """
    sample, images = prepared.sample, prepared.sample.images
    if images.multilabel != bundle.multilabel:
        kind = "several labels" if bundle.multilabel else "one label"
        raise DataError(f"{images.source} must have {kind} per image, as {bundle.shown} gives. Name other images.")
    paths = tuple(images.paths[row] for row in sample.rows)
    weight = np.ones(len(paths)) if sample.weight is None else np.asarray(sample.weight, np.float64)
    options, trained = _weights(bundle, prepared.pipeline.finetune.class_weight), sample.split == TRAIN
    if bundle.multilabel:
        labels, classes = align_labels(images.classes, sample.y, bundle.classes), list(bundle.classes)
        targets = _label_targets(labels, trained, weight, options)
    else:
        labels, classes = align(images.classes, sample.y, bundle.classes)
        targets = _class_targets(labels, bundle.classes, trained, weight, options[0])
    found = Examples(
        paths, sample.split, tuple(classes), targets, len(bundle.classes), group_codes(images.groups, sample.rows)
    )
    if not len(found.known_rows(VAL)):
        raise DataError("Fine-tuning keeps the best epoch by validation, which needs a val part. See --split.")
    return found


def image_source(bundle: Bundle, prepared: Prepared) -> ImageSource:
    """Return the images of a run at the size that the network takes, with the augmentation of the pipeline."""
    pipeline = prepared.pipeline
    height, width = bundle.input_size
    return ImageSource(
        make_examples(bundle, prepared),
        prepared.sample.digests,
        size=(pipeline.finetune.downscale * height, pipeline.finetune.downscale * width),
        resize=bundle.manifest.backbone.resize,
        workers=pipeline.features.workers,
        augmenter=Augmenter(pipeline.augment, pipeline.data.seed),
    )


def _class_targets(
    labels: np.ndarray, classes: tuple[str, ...], trained: np.ndarray, weight: np.ndarray, class_weight: str
) -> Targets:
    """Return the targets of images with one class each, int64 (n,); those of other classes are not trained on."""
    known = len(classes)
    trained = trained & (labels < known)
    of_class = np.ones(max(known, int(labels.max(initial=0)) + 1))
    of_class[:known] = _weights_of_classes(labels[trained], classes, class_weight)
    return Targets(np.arange(known), labels, mean_one(weight * of_class[labels], trained))


def _weights_of_classes(labels: np.ndarray, classes: tuple[str, ...], class_weight: str) -> np.ndarray:
    """What each class weighs in training on images of these labels, float64 (classes,)."""
    if class_weight == "balanced":
        return np.asarray(1 / np.maximum(np.bincount(labels, minlength=len(classes)), 1))
    named = {} if class_weight == "none" else parse_class_weight(class_weight, classes)
    return np.array([named.get(name, 1.0) for name in classes])


def emphasis_in_training(bundle: Bundle, examples: Examples, class_weight: str | None) -> np.ndarray | None:
    """What classes weigh in a fine-tune, or having each label against not having it; None: all the same.

    class_weight : as the option, None being that of the head
    """
    wanted = _weights(bundle, class_weight)[0]
    if bundle.multilabel:
        found = np.asarray(examples.targets.emphasis, np.float64)
        return found if (found != 1).any() else None
    found = _weights_of_classes(examples.labels[examples.known_rows(TRAIN)], bundle.classes, wanted)
    found = np.where(found > 0, found / found.max(), 1.0)
    return found if len(np.unique(found)) > 1 else None


def _label_targets(labels: np.ndarray, trained: np.ndarray, weight: np.ndarray, options: tuple[str, float]) -> Targets:
    """Return the targets of images with several labels, bool (n, k), those that are present emphasised."""
    emphasis = label_emphasis(labels[trained], *options)
    return Targets(np.arange(labels.shape[1]), labels.astype(np.float32), mean_one(weight, trained), emphasis)


def _weights(bundle: Bundle, class_weight: str | None) -> tuple[str, float]:
    """Return --class-weight, unless it is given anew, and --positive-weight that the head was fitted with."""
    head = bundle.manifest.head
    if class_weight not in {None, "none", "balanced"} and bundle.multilabel:
        raise UsageError("--class-weight by name is for images of one class. Of several labels give none or balanced.")
    return head.class_weight if class_weight is None else class_weight, head.positive_weight
