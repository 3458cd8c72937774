"""How far confidence can be trusted: reliability by confidence, and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15  # as Guo et al. 2017 have it
_DRAWS = 2_000
_MOST_DRAWN = 2_000  # images that are drawn one by one


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


def chance_range(
    labels: np.ndarray,
    probabilities: np.ndarray,
    seed: int = 0,
    predicted: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[float, float] | None:
    """The expected calibration error that these confidences give if they are all true: 95 % of draws lie within.

    It is not 0: with 100 images, a bin has seven or so, whose share of right ones is seldom what it should be. Draws of
    many images take each bin's number of right ones from the normal distribution of its mean and variance.

    Images of a group are right or wrong together, and so are labels of an image: how much they are is taken from what
    was seen, each group (or image) as a whole, by draws of the normal distribution.

    labels, probabilities, predicted : as in `reliability`; None without an image
    groups : int64 (n,), of images that are no independent examples
    """
    if labels.ndim == 2:
        confidence, right = probabilities.ravel(), labels.ravel()
        units: np.ndarray | None = np.repeat(np.arange(len(labels)) if groups is None else groups, labels.shape[1])
    else:
        given = predicted
        if given is None:
            given = probabilities.argmax(axis=1) if len(labels) else labels
        confidence, right = probabilities[np.arange(len(labels)), given], given == labels
        units = groups
    total = len(confidence)
    if not total:
        return None
    place, random = _bins(confidence, BINS)[1], np.random.default_rng(seed)
    if units is not None:
        gaps = _gaps_by_chance(right - confidence, place, units, random)
    elif total <= _MOST_DRAWN:
        hits = random.random((_DRAWS, total)) < confidence
        gaps = np.stack([hits[:, place == one].sum(axis=1) for one in range(BINS)], axis=1)
        gaps = gaps - np.bincount(place, confidence, BINS)
    else:
        spread = np.sqrt(np.bincount(place, confidence * (1 - confidence), BINS).clip(0))
        gaps = spread * random.standard_normal((_DRAWS, BINS))
    low, high = np.quantile(np.abs(gaps).sum(axis=1) / total, [0.025, 0.975])
    return float(low), float(high)


def _gaps_by_chance(gap: np.ndarray, place: np.ndarray, units: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draws of each bin's sum of gaps between right and confidence, if their mean is 0: float64 (draws, bins)."""
    names, unit = np.unique(units, return_inverse=True)
    sums = np.bincount(unit * BINS + place, gap, len(names) * BINS).reshape(-1, BINS)
    factor = np.linalg.qr(sums, mode="r")  # of their covariance, which the groups' own sums have
    return np.asarray(random.standard_normal((_DRAWS, len(factor))) @ factor)


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS, predicted: np.ndarray | None = None
) -> Reliability:
    """Compare confidence with accuracy.

    labels : int64 (n,), positions in the columns of `probabilities` (past them: always wrong), judged by the
        class that was given and its confidence; or bool (n, k) of a multi-label set, where every pair of image and
        class counts by its own probability
    probabilities : float64 (n, k)
    predicted : int64 (n,), the classes that were given; None: the most likely ones
    """
    if labels.ndim == 2:
        return _by_confidence(probabilities.ravel(), labels.ravel(), bins)
    if predicted is None:
        predicted = probabilities.argmax(axis=1) if len(labels) else labels
    return _by_confidence(probabilities[np.arange(len(labels)), predicted], predicted == labels, bins)


def _by_confidence(confidence: np.ndarray, right: np.ndarray, bins: int) -> Reliability:
    edges, place = _bins(confidence, bins)
    images = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights, bins) / images for weights in (confidence, right.astype(np.float64))]
    return Reliability(edges, images, *means)


def _bins(confidence: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges of the bins, and which of them each confidence is in."""
    edges = np.linspace(0, 1, bins + 1)
    return edges, np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
