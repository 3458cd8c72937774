"""Accuracy against the number of images in numbers and words: measurements and forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featx.dataset import TEST, TRAIN
from featx.errors import DataError
from featx.features import Features, width
from featx.io.counting import counted
from featx.io.progress import no_progress
from featx.quality.curve import LearningCurve, measure_curve
from featx.quality.powerlaw import PowerLaws

if TYPE_CHECKING:
    from featx.extraction.sample import Sample

ACCURACY, PRECISION = "an accuracy", "a mean average precision"


def measured_name(forecast: Sequence[ForecastPoint]) -> str:
    """What a curve and its forecast measure, as the heading of a column."""
    return (forecast[0].measure if forecast else ACCURACY).partition(" ")[2]


USUAL = (0.5, 1.0, 3.0)  # times as many images more
_QUICK_VALUES = 1_000_000  # of features of which a curve takes a second or two
_LEAST = 200  # images; of fewer a forecast says next to nothing
_QUICK_REPEATS = 4


@dataclass(frozen=True)
class CurvePoint:
    """A measured accuracy, or mean average precision.

    interval : of 95 %, over repeats; per_class : class -> share of its images that are right
    """

    images: int
    accuracy: float
    interval: tuple[float, float]
    per_class: dict[str, float]


@dataclass(frozen=True)
class ForecastPoint:
    """An accuracy with more images. interval, gain_interval : of 90 %; gain : over what there is now

    measure : what it is, in words
    """

    images: int
    more: int
    accuracy: float
    interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]
    measure: str = ACCURACY

    def sentence(self) -> str:
        """In words, in points of a percent."""
        low, high = (100 * end for end in self.gain_interval)
        return (
            f"{counted(self.more, 'more image')} would bring {100 * self.gain:+.1f} points ({low:.1f} to {high:.1f}), "
            f"{self.measure} of {100 * self.accuracy:.1f} %."
        )


@dataclass(frozen=True)
class Growth:
    """What the report of a fit says of more images. classes : that are recognised worst, with their shares"""

    curve: tuple[CurvePoint, ...]
    forecast: tuple[ForecastPoint, ...]
    classes: tuple[tuple[str, float], ...]


def usual_more(now: int) -> tuple[int, ...]:
    """Half as many images more, as many, and three times as many."""
    return tuple(sorted({max(1, round(now * times)) for times in USUAL}))


def growth_of(features: Features, sample: Sample, seed: int) -> Growth | None:
    """A curve of train and val where it takes a second or two; None of more images, or of so few that it says nothing.

    features : of all rows of the sample
    """
    rows, now = np.flatnonzero(sample.split != TEST), int((sample.split == TRAIN).sum())
    if not _LEAST <= len(rows) <= _QUICK_VALUES // max(1, width(features)):
        return None
    y, groups = sample.y[rows], None if sample.groups is None else sample.groups[rows]
    try:
        found = measure_curve(features.take(rows), y, groups, _QUICK_REPEATS, seed, no_progress)
    except DataError:  # too many classes for so few images
        return None
    codes = np.unique(y) if y.ndim == 1 else np.flatnonzero(y.any(axis=0))
    curve = tuple(curve_points(found, [sample.images.classes[code] for code in codes.tolist()]))
    measure = ACCURACY if y.ndim == 1 else PRECISION
    worst = sorted(curve[-1].per_class.items(), key=lambda one: one[1])[:3]
    return Growth(curve, tuple(forecast_points(found, now, usual_more(now), measure)), tuple(worst))


def curve_points(found: LearningCurve, classes: list[str]) -> list[CurvePoint]:
    """What was measured. classes : names of those of the curve"""
    from scipy.stats import t

    repeats = len(found.right)
    points = []
    for place, size in enumerate(found.sizes.tolist()):
        right = found.right[:, place]
        error = 0.0 if repeats < 2 else float(t.ppf(0.975, repeats - 1) * right.std(ddof=1) / np.sqrt(repeats))
        mean = float(right.mean())
        of_class = {
            name: round(float(np.nanmean(column)), 6)
            for name, column in zip(classes, found.recall[:, place].T, strict=True)
            if not np.isnan(column).all()
        }
        interval = (round(max(0.0, mean - error), 6), round(min(1.0, mean + error), 6))
        points.append(CurvePoint(size, round(mean, 6), interval, of_class))
    return points


def forecast_points(
    found: LearningCurve, now: int, more: Sequence[int], measure: str = ACCURACY
) -> list[ForecastPoint]:
    """What so many more images would bring. now : images that are fitted on at present"""
    laws = PowerLaws.fit(found.sizes, 1 - found.right)
    points = []
    for extra in more:
        error, gain = laws.forecast(now + extra), laws.gain(now, now + extra)
        points.append(
            ForecastPoint(
                images=now + extra,
                more=extra,
                accuracy=round(1 - error.error, 6),
                interval=(round(1 - error.interval[1], 6), round(1 - error.interval[0], 6)),
                gain=round(gain[0], 6),
                gain_interval=(round(gain[1], 6), round(gain[2], 6)),
                measure=measure,
            )
        )
    return points
