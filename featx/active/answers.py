"""A model's answers for the images of a pool, as a few numbers per image so that memory stays flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.bundle.bundle import Bundle
from featx.bundle.novelty import FILE
from featx.errors import HeadError
from featx.features import Features, block_rows, width
from featx.io.progress import Progress
from featx.metrics.predictions import decide

_BATCH = 4096


@dataclass(frozen=True)
class PoolAnswers:
    """One model's answers to n images.

    first, second : int32 (n,), positions of the two likeliest classes; of a model of one class both are 0
    given : int32 (n,), the class that the model decides for, with weights of classes not always the likeliest
    confidence, rival : float32 (n,), the probabilities of the two likeliest
    labels : float32 (n, classes), of a model of several labels: the probability of those that it gives, -1 of others
    margin, entropy : float32 (n,), how unsure it is by either measure, in [0, 1]
    distance : float32 (n,), from the nearest training image, where the model keeps what that takes; else None
    """

    first: np.ndarray
    second: np.ndarray
    given: np.ndarray
    confidence: np.ndarray
    rival: np.ndarray
    labels: np.ndarray | None
    margin: np.ndarray
    entropy: np.ndarray
    distance: np.ndarray | None


def ask(bundle: Bundle, features: Features, progress: Progress, distances: bool = True) -> PoolAnswers:
    """Predict every row once, block by block.

    distances : whether those from the training images are wanted, which take longer than the rest

    Raises
    ------
    HeadError
        Features that are not finite.
    """
    n, classes = features.shape[0], len(bundle.classes)
    columns, given = np.empty((7, n), np.float32), np.empty(n, np.int32)
    labels = np.empty((n, classes), np.float32) if bundle.multilabel else None
    reference = bundle.reference() if distances and FILE in bundle.manifest.files else None
    at = 0
    for block in features.blocks(min(_BATCH, block_rows(width(features)))):
        if not np.isfinite(block).all():
            raise HeadError(
                "Features of the pool hold NaN or infinity. Extract them with another --layer or precision."
            )
        rows = slice(at, at + len(block))
        probabilities = bundle.probabilities(block)
        columns[:4, rows] = _likeliest(probabilities)
        given[rows] = decide(probabilities, bundle.calibration.emphasis)
        columns[4:6, rows] = (
            _doubt_of_labels(probabilities, bundle.thresholds) if bundle.multilabel else doubt(probabilities)
        )
        columns[6, rows] = 0 if reference is None else reference.distances(block)
        if labels is not None:
            labels[rows] = np.where(probabilities >= bundle.thresholds, probabilities, -1)
        at += len(block)
        progress("predict", at, n)
    first, second = columns[:2].astype(np.int32)
    distance = None if reference is None else columns[6]
    return PoolAnswers(first, second, given, columns[2], columns[3], labels, columns[4], columns[5], distance)


def probability_of(bundle: Bundle, features: Features, codes: np.ndarray) -> np.ndarray:
    """The probability of one class for each row: float64 (n,). codes : int64 (n,), positions of classes"""
    found, at = np.empty(len(codes)), 0
    for block in features.blocks(block_rows(width(features))):
        some = slice(at, at + len(block))
        found[some] = bundle.probabilities(block)[np.arange(len(block)), codes[some]]
        at += len(block)
    return found


def _likeliest(probabilities: np.ndarray) -> np.ndarray:
    """The two likeliest classes and their probabilities, (4, n)."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    values = np.take_along_axis(probabilities, order, axis=1)
    return np.stack([order[:, 0], order[:, -1], values[:, 0], values[:, -1]])


def doubt(probabilities: np.ndarray) -> np.ndarray:
    """How unsure probabilities (n, classes) are: 1 - margin and relative entropy, (2, n), in [0, 1]."""
    n, classes = probabilities.shape
    if classes < 2:
        return np.zeros((2, n))
    two = np.partition(probabilities, classes - 2, axis=1)[:, -2:]
    logs = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    return np.stack([1 - (two[:, 1] - two[:, 0]), -(probabilities * logs).sum(axis=1) / np.log(classes)])


def _doubt_of_labels(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The same where an image can have several labels: of the label that is nearest to its threshold; of all, the mean.

    A probability is as far from the threshold as its share of the way to 0 or to 1.
    """
    room = np.where(probabilities >= thresholds, 1 - thresholds, thresholds)
    nearest = (np.abs(probabilities - thresholds) / np.maximum(room, np.finfo(float).tiny)).min(axis=1)
    each = np.stack([probabilities, 1 - probabilities])
    entropy = -(each * np.log2(np.maximum(each, np.finfo(float).tiny))).sum(axis=0).mean(axis=1)
    return np.stack([np.clip(1 - nearest, 0, 1), entropy])
