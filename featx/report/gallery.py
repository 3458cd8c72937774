"""The image grids of a report: confident mistakes, and images that are right but unsure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from featx.images.grid import GridImage
from featx.metrics.digits import confidence_text
from featx.metrics.predictions import LabelledPredictions, indicators

MOST = 18


def confident_mistakes(judged: LabelledPredictions) -> list[GridImage]:
    """The mistakes of the highest confidence, the most confident first."""
    return _pictures(judged, lambda right, confidence: np.flatnonzero(~right)[np.argsort(-confidence[~right])])


def doubtful_hits(judged: LabelledPredictions) -> list[GridImage]:
    """The hits of the lowest confidence, the least confident first."""
    return _pictures(judged, lambda right, confidence: np.flatnonzero(right)[np.argsort(confidence[right])])


def _pictures(judged: LabelledPredictions, order: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[GridImage]:
    predicted = judged.predicted
    confidence = judged.probabilities[np.arange(len(predicted)), predicted]
    right = predicted == judged.labels
    return [
        GridImage(
            judged.paths[row],
            (
                Path(judged.paths[row]).name,
                f"labelled {judged.classes[judged.labels[row]]}",
                f"predicted {judged.classes[predicted[row]]}",
                confidence_text(confidence[row], len(judged)),
            ),
            bool(right[row]),
        )
        for row in order(right, confidence)[:MOST].tolist()
    ]


def worst_images(judged: LabelledPredictions) -> list[GridImage]:
    """The images of a multi-label set with the largest mean log loss over classes, the largest first."""
    labelled, predicted = indicators(judged), judged.predicted
    found = np.where(labelled, judged.probabilities, 1 - judged.probabilities)
    loss = -np.log(np.clip(found, np.finfo(np.float64).eps, 1)).mean(axis=1)
    return [
        GridImage(
            judged.paths[row],
            (
                Path(judged.paths[row]).name,
                f"labelled {_names(judged.classes, labelled[row])}",
                f"predicted {_names(judged.classes, predicted[row])}",
                f"log loss {loss[row]:.3f}",
            ),
            bool((labelled[row] == predicted[row]).all()),
        )
        for row in np.argsort(-loss)[:MOST].tolist()
    ]


def _names(classes: Sequence[str], marked: np.ndarray) -> str:
    return ", ".join(classes[code] for code in np.flatnonzero(marked).tolist()) or "nothing"
