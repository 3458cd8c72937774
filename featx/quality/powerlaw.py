"""How an error falls with more images: error(n) = rest + scale * n ** -slope, and how certain that is.

Learning curves follow such a law over a wide range (Hestness et al. 2017; Viering and Loog, "The shape of learning
curves", 2023), but a few noisy points leave it open how much of the error stays for ever. So there is no single fit:
all laws are weighed by how well they go through the points, and the band is that of the forecasts of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SLOPES = np.linspace(0.05, 1.5, 59)
_RESTS = np.linspace(0, 1, 41)  # of the least error there is
_BEND = 0.01  # how far, in parts of itself, a true curve strays from a law: by benchmarks/bench_enough.py
_DRAWS = 4000
_REACH = 16  # points of fewer images than the largest by this follow no law yet


@dataclass(frozen=True)
class Forecast:
    """An error at a number of images. interval : of 90 %"""

    images: int
    error: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class PowerLaws:
    """Laws drawn by how likely they are: rest, scale, slope, each float64 (draws,)."""

    rest: np.ndarray
    scale: np.ndarray
    slope: np.ndarray

    @classmethod
    def fit(cls, sizes: np.ndarray, errors: np.ndarray, seed: int = 0) -> PowerLaws:
        """Weigh all laws by errors (repeats, sizes), which were measured with so many images each; at least three."""
        sizes = np.asarray(sizes, np.float64)
        mean = np.maximum(errors.mean(axis=0), 1e-4)
        spread = errors.std(axis=0, ddof=1) if len(errors) > 1 else np.zeros(len(sizes))
        used = (sizes * _REACH >= sizes.max()) | (np.arange(len(sizes)) >= len(sizes) - 3)
        sizes, mean, spread = sizes[used], mean[used], spread[used]
        variance = spread**2 / len(errors) + (_BEND * mean) ** 2 + 1e-8
        slope, rest = (grid.ravel() for grid in np.meshgrid(_SLOPES, _RESTS * mean.min(), indexing="ij"))
        steps = (sizes / sizes[-1]) ** -slope[:, None]  # (laws, sizes)
        left = mean - rest[:, None]
        precision = (steps**2 / variance).sum(axis=1)
        scale = np.maximum((steps * left / variance).sum(axis=1) / precision, 0)
        misfit = ((left - scale[:, None] * steps) ** 2 / variance).sum(axis=1)
        weight = np.exp(-(misfit - misfit.min()) / 2)
        generator = np.random.default_rng(seed)
        drawn = generator.choice(len(slope), _DRAWS, p=weight / weight.sum())
        noisy = scale[drawn] + generator.normal(size=_DRAWS) / np.sqrt(precision[drawn])
        return cls(rest[drawn], np.maximum(noisy, 0) * sizes[-1] ** slope[drawn], slope[drawn])

    def errors(self, images: float) -> np.ndarray:
        """The error of each law with so many images: float64 (draws,)."""
        return np.clip(self.rest + self.scale * images**-self.slope, 0, 1)

    def forecast(self, images: int, seed: int = 1) -> Forecast:
        """The error with so many images, and the band in which a measured one lies nine times in ten."""
        found = self.errors(images)
        strayed = found * (1 + _BEND * np.random.default_rng(seed).normal(size=len(found)))
        low, high = np.quantile(np.clip(strayed, 0, 1), [0.05, 0.95])
        return Forecast(images, float(np.median(found)), (float(low), float(high)))

    def gain(self, now: int, then: int) -> tuple[float, float, float]:
        """How much less the error is with more images: the median, and the ends of a band of 90 %."""
        low, middle, high = np.quantile(self.errors(now) - self.errors(then), [0.05, 0.5, 0.95])
        return float(middle), float(low), float(high)
