"""How an error falls with more images: error(n) = rest + scale * n ** -slope, and how certain that is.

Learning curves follow such a law over a wide range (Hestness et al. 2017; Viering and Loog, "The shape of learning
curves", 2023), but a few noisy points leave it open how much of the error stays for ever. So there is no single fit:
all laws are weighed by how well they go through the points, and by how little of the error they take to stay; the band
is that of what would be measured by all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SLOPES = np.linspace(0.05, 1.5, 59)
_RESTS = np.linspace(0, 1, 41)  # of the least error there is
_PATIENCE = 6.0  # a law whose rest is all of the least error is less likely by exp(-6); by benchmarks/bench_enough.py
_BEND = 0.012  # how far a true curve strays from a law, in units of sqrt(error * (1 - error)); by the same
_DRAWS = 4000
_REACH = 4  # points of fewer images than the largest by this follow another law than the last ones; by the same


@dataclass(frozen=True)
class Forecast:
    """A measured error at a number of images. interval : of 90 %"""

    images: int
    error: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class PowerLaws:
    """Laws drawn by how likely they are: rest, scale, slope, each float64 (draws,).

    noise : of a measured mean, as its standard deviation
    """

    rest: np.ndarray
    scale: np.ndarray
    slope: np.ndarray
    noise: float

    @classmethod
    def fit(cls, sizes: np.ndarray, errors: np.ndarray, seed: int = 0) -> PowerLaws:
        """Weigh all laws by errors (repeats, sizes), which were measured with so many images each; at least three."""
        sizes = np.asarray(sizes, np.float64)
        used = (sizes * _REACH >= sizes.max()) | (np.arange(len(sizes)) >= len(sizes) - 3)
        sizes, errors = sizes[used], errors[:, used]
        mean, noise = np.maximum(errors.mean(axis=0), 1e-4), _noise(errors)
        variance = noise**2 + _strayed(mean) ** 2 + 1e-8
        slope, rest = (grid.ravel() for grid in np.meshgrid(_SLOPES, _RESTS * mean.min(), indexing="ij"))
        steps = (sizes / sizes[-1]) ** -slope[:, None]  # (laws, sizes)
        left = mean - rest[:, None]
        precision = (steps**2 / variance).sum(axis=1)
        scale = np.maximum((steps * left / variance).sum(axis=1) / precision, 0)
        misfit = ((left - scale[:, None] * steps) ** 2 / variance).sum(axis=1)
        likely = -misfit / 2 - _PATIENCE * rest / mean.min()
        weight = np.exp(likely - likely.max())
        generator = np.random.default_rng(seed)
        drawn = generator.choice(len(slope), _DRAWS, p=weight / weight.sum())
        noisy = scale[drawn] + generator.normal(size=_DRAWS) / np.sqrt(precision[drawn])
        scale = np.maximum(noisy, 0) * sizes[-1] ** slope[drawn]
        return cls(rest[drawn], scale, slope[drawn], float(noise[-1]))

    def errors(self, images: float) -> np.ndarray:
        """The error of each law with so many images: float64 (draws,)."""
        return np.clip(self.rest + self.scale * images**-self.slope, 0, 1)

    def measured(self, images: float, generator: np.random.Generator) -> np.ndarray:
        """What would be measured of each law: curves stray from it, and no measured one is exact."""
        found = self.errors(images)
        noise = np.hypot(_strayed(found), self.noise)
        return np.asarray(np.clip(found + noise * generator.normal(size=len(found)), 0, 1))

    def forecast(self, images: int, seed: int = 1) -> Forecast:
        """The error with so many images, and the band in which a measured one lies nine times in ten."""
        low, high = np.quantile(self.measured(images, np.random.default_rng(seed)), [0.05, 0.95])
        return Forecast(images, float(np.median(self.errors(images))), (float(low), float(high)))

    def gain(self, now: int, then: int, seed: int = 1) -> tuple[float, float, float]:
        """How much less the error is with more images: the median, and the band of 90 % of what would be measured."""
        generator = np.random.default_rng(seed)
        middle = np.median(self.errors(now) - self.errors(then))
        low, high = np.quantile(self.measured(now, generator) - self.measured(then, generator), [0.05, 0.95])
        return float(middle), float(low), float(high)


def _strayed(error: np.ndarray) -> np.ndarray:
    return np.asarray(_BEND * np.sqrt(error * (1 - error)))


def _noise(errors: np.ndarray) -> np.ndarray:
    """The standard deviation of each mean of errors (repeats, sizes), but for what a repeat has in common at all sizes.

    Each repeat measures all its sizes on the same images: how hard these are moves a curve, and bends none. The rest is
    pooled, as the noise of a share: a few repeats say too little of each size alone.
    """
    repeats, sizes = errors.shape
    if repeats < 2:
        return np.zeros(sizes)
    left = errors - errors.mean(axis=1, keepdims=True)
    left = left - left.mean(axis=0)
    mean = np.clip(errors.mean(axis=0), 1e-4, 1 - 1e-4)
    share = mean * (1 - mean)
    pooled = (left**2).sum() / ((repeats - 1) * (sizes - 1))
    return np.asarray(np.sqrt(pooled * share / share.mean() / repeats))
