"""A bundle's predictions of labelled images: the basis of metrics and of comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featx.bundle.bundle import Bundle
from featx.dataset import ImageSet
from featx.errors import DataError
from featx.inference.predict import Average, iter_probabilities
from featx.io.counting import agreeing, counted_of, none_of
from featx.io.progress import Progress, no_progress
from featx.metrics.predictions import LabelledPredictions, align, align_labels, group_codes

_NAMED = 10  # classes that a sentence names


def judge(
    bundle: Bundle,
    images: ImageSet,
    part: str,
    progress: Progress = no_progress,
    average: Average | None = None,
) -> tuple[LabelledPredictions, list[dict[str, str]]]:
    """Predict labelled images; returns what is to be measured, and the images that could not be read.

    average : views over which the probabilities of an image are averaged
    """
    if images.labels is None or images.multilabel != bundle.multilabel:
        kind = "several labels" if bundle.multilabel else "one label"
        raise DataError(f"{images.source} must have {kind} per image to measure {bundle.shown} against.")
    labelled = images if images.multilabel else images.take(np.flatnonzero(images.labels >= 0))
    rows, probabilities, bad = probabilities_of(bundle, labelled.paths, progress, average)
    if len(labelled) and not len(rows):
        raise DataError(f"{none_of(len(labelled), 'image')} can be read. featx check says why.")
    labels, classes = _align(images, np.asarray(labelled.labels)[rows], bundle)
    thresholds = bundle.thresholds if bundle.multilabel else None
    paths = tuple(labelled.paths[row] for row in rows)
    groups = group_codes(labelled.groups, rows)
    emphasis = bundle.calibration.emphasis
    return LabelledPredictions(labels, probabilities, classes, thresholds, part, paths, groups, emphasis), bad


def describe_unknown(judged: LabelledPredictions, bundle: Bundle) -> list[str]:
    """A sentence where images are of classes that a bundle does not know, and so cannot be right.

    Raises
    ------
    DataError
        All of them are.
    """
    if judged.target == "labels":
        return []
    return _describe_unknown(judged.labels, list(judged.classes[len(bundle.classes) :]), bundle)


def describe_unknown_to_rival(images: ImageSet, bundle: Bundle) -> list[str]:
    """The same before any image is predicted: of labelled images by which a bundle is to be compared with another.

    Raises
    ------
    DataError
        All are of classes that it does not know, and whatever it is compared with would be better by far.
    """
    if images.labels is None or images.multilabel or bundle.multilabel:
        return []
    labels, classes = _align(images, images.labels[images.labels >= 0], bundle)
    return _describe_unknown(labels, list(classes[len(bundle.classes) :]), bundle)


def _describe_unknown(labels: np.ndarray, names: list[str], bundle: Bundle) -> list[str]:
    """The sentence. labels : positions in the classes of the bundle, past them for the others; names : of the others"""
    if not len(labels) or not (unknown := labels >= len(bundle.classes)).any():
        return []
    folded = {name.strip().casefold(): name for name in bundle.classes}
    pairs = [f"{name!r} is {folded[key]!r} there" for name in names if (key := name.strip().casefold()) in folded]
    alike = f" Rename classes that are the same: {', '.join(pairs[:_NAMED])}." if pairs else ""
    if unknown.all():
        raise DataError(
            f"{none_of(len(unknown), 'image')} is of a class that {bundle.shown} knows: they are of {_listed(names)}, "
            f"and it knows {_listed(bundle.classes)}.{alike or ' Choose a bundle of these classes.'}"
        )
    count = (
        f"{counted_of(int(unknown.sum()), len(unknown), 'image')} {agreeing(int(unknown.sum()), 'is', 'are')} of "
        f"classes that {bundle.shown} does not know"
    )
    return [f"{count}, and {agreeing(int(unknown.sum()), 'counts', 'count')} as wrong: {_listed(names)}.{alike}"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _align(images: ImageSet, labels: np.ndarray, bundle: Bundle) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of some images in the classes of a bundle, and those classes."""
    if bundle.multilabel:
        return align_labels(images.classes, labels, bundle.classes), bundle.classes
    aligned, classes = align(images.classes, labels, bundle.classes)
    return aligned, tuple(classes)


def probabilities_of(
    bundle: Bundle, paths: Sequence[str], progress: Progress = no_progress, average: Average | None = None
) -> tuple[np.ndarray, np.ndarray, list[dict[str, str]]]:
    """Positions in `paths` of the readable images, their probabilities (n, classes), and the unreadable ones."""
    rows, found = [np.empty(0, np.int64)], [np.empty((0, len(bundle.classes)))]
    unreadable: list[dict[str, str]] = []
    done = 0
    for some, probabilities, unread in iter_probabilities(bundle, paths, average=average):
        rows.append(some)
        found.append(probabilities)
        unreadable += [{"path": paths[row], "reason": reason} for row, reason in unread]
        done += len(some) + len(unread)
        progress("predict", done, len(paths), bad=len(unreadable))
    return np.concatenate(rows), np.concatenate(found), unreadable
