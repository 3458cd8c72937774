"""How far confidence can be trusted: reliability by confidence, and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15  # as Guo et al. 2017 have it


@dataclass(frozen=True)
class Reliability:
    """What confidences are worth, by bins of equal width of the confidence.

    edges : float64 (bins + 1,); a bin holds confidences above its lower edge, up to its upper one
    images : int64 (bins,); confidence, accuracy : float64 (bins,), means over a bin's images, NaN where there are none
    """

    edges: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_calibration_error(self) -> float | None:
        """Mean gap between confidence and accuracy, by the images of each bin (Guo et al. 2017, equation 3)."""
        filled = self.images > 0
        if not filled.any():
            return None
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((gaps * self.images[filled]).sum() / self.images.sum())


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Reliability:
    """Compare confidence with accuracy.

    labels : int64 (n,), positions in the columns of `probabilities` (past them: always wrong), judged by the most
        likely class and its confidence; or bool (n, k) of a multi-label set, where every pair of image and class counts
        by its own probability
    probabilities : float64 (n, k)
    """
    if labels.ndim == 2:
        return _by_confidence(probabilities.ravel(), labels.ravel(), bins)
    predicted = probabilities.argmax(axis=1) if len(labels) else labels
    return _by_confidence(probabilities[np.arange(len(labels)), predicted], predicted == labels, bins)


def _by_confidence(confidence: np.ndarray, right: np.ndarray, bins: int) -> Reliability:
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights, bins) / images for weights in (confidence, right.astype(np.float64))]
    return Reliability(edges, images, *means)
