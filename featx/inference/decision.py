"""The output of a network trained on images: predictions, and the features that reveal unknown images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from featx.bundle import novelty
from featx.bundle.bundle import Bundle
from featx.config import HeadOptions
from featx.dataset import SPLITS, TEST, TRAIN, VAL
from featx.features import ArrayFeatures
from featx.heads.calibration import Calibration, fit_calibration
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.probabilities import Weighing
from featx.selection.thresholds import find_thresholds
from featx.training.trainee import ImageTrainee


@dataclass(frozen=True)
class DecisionRule:
    """How the logits of a network are read: as probabilities, and which class or from which one on a label is given.

    thresholds : float64 (k,) of several labels per image; None where an image has one
    """

    calibration: Calibration
    thresholds: np.ndarray | None

    @classmethod
    def of(cls, bundle: Bundle) -> DecisionRule:
        """As a bundle has it, the temperature applied to the logits."""
        return cls(bundle.calibration, bundle.thresholds if bundle.multilabel else None)

    @classmethod
    def fit(cls, trainee: ImageTrainee, options: HeadOptions, weights: np.ndarray | None = None) -> DecisionRule:
        """Found on val as it is for a head: the temperature, and the thresholds of the pipeline's head section.

        weights : float64 (k,), what classes weighed in training, or having each label against not having it
        """
        weighing = None if weights is None else Weighing(weights, margins=True)  # it may begin as a head of margins
        logits, rows = trainee.logits(VAL)
        labels = trainee.examples.labels[rows]
        if labels.ndim == 1:
            known = labels < trainee.examples.known
            return cls(fit_calibration("temperature", logits[known], labels[known], weighing), None)
        found = fit_calibration("temperature", logits, labels, weighing)
        return cls(found, find_thresholds(found, logits, labels, options))


def predict_parts(trainee: ImageTrainee, rule: DecisionRule) -> tuple[LabelledPredictions, ...]:
    """Return the predictions of val and test as the network stands."""
    found, examples = [], trainee.examples
    for code in (VAL, TEST):
        logits, rows = trainee.logits(code)
        paths = tuple(examples.paths[row] for row in rows)
        probabilities = rule.calibration.probabilities(logits)
        labels = examples.labels[rows]
        groups = None if examples.groups is None else examples.groups[rows]
        found.append(
            LabelledPredictions(
                labels,
                probabilities,
                examples.classes,
                rule.thresholds,
                SPLITS[code],
                paths,
                groups,
                rule.calibration.emphasis,
            )
        )
    return tuple(found)


def make_reference(trainee: ImageTrainee, compute: Callable[[np.ndarray], np.ndarray], width: int) -> novelty.Reference:
    """Return what unknown images are found by, in the features that the network gives before its head.

    compute : from what the network takes, (m, ...), to features float32 (m, width)
    """
    examples, seed = trainee.examples, trainee.seed

    def features(rows: np.ndarray) -> tuple[ArrayFeatures, np.ndarray]:
        found, read = trainee.infer(compute, rows, width)
        return ArrayFeatures(found), read

    train, labels = examples.known_rows(TRAIN), examples.labels
    if labels.ndim == 2:  # images with the same labels count as a class
        labels = np.unique(labels, axis=0, return_inverse=True)[1]
    val = np.random.default_rng(seed).permutation(examples.rows(VAL))[: novelty.MOST_ROWS]
    kept, read = features(train[novelty.choose_rows(labels[train], width, seed)])
    return novelty.fit_reference(kept, labels[read], features(val)[0], seed)
