"""Rank a pool: draw a representative sample, collect candidates, choose greedily."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featx.active.coverage import Population, choose, spacing
from featx.active.space import Space
from featx.errors import HeadError
from featx.features import Features, block_rows, width

_POPULATION = 2000  # images that stand for the pool
_SPACED = 1000  # of these, by which the reach is measured
_CANDIDATES = 10_000  # images that are compared with them
_REACH, _REACH_OF_MODEL = 4.0, 0.5  # times the distance that so many images keep; all of these by bench_next.py
_LEAST_REACH_OF_MODEL = 0.1
_FULL_TRUST = 10  # labels for each class
_NARROWER = 20  # labels for each class from which the reach shrinks further
_SHARED = 0.5  # worth of an image that a model is sure of, in units of the mean of all
_SHARPNESS = 8  # the tenth of the images that it is least sure of have 61 % of the rest, the half 99.8 %


@dataclass(frozen=True)
class Doubts:
    """How unsure a model is of each image of a pool, and how far that says anything.

    While it knows few images of a class, a model does not know what it is unsure of, and images that are typical of the
    pool teach it most (Hacohen, Dekel and Weinshall, "Active learning on a budget", ICML 2022).

    values : float (n,), at least 0; trust : in [0, 1]
    reach : how far a label reaches where they are trusted, in units of the distance that so many images keep
    """

    values: np.ndarray
    trust: float
    reach: float = _REACH_OF_MODEL

    @classmethod
    def of(cls, values: np.ndarray, labelled: int, classes: int) -> Doubts:
        """The doubts in [0, 1] of a model of so many classes that knows so many labels.

        In full from ten for a class on; next to none below three, and less where it is unsure on average. From twenty
        on single images that it is unsure of matter more and more, and whole regions less.
        """
        of_class = labelled / max(1, classes)
        known = min(1.0, of_class / _FULL_TRUST)
        sure = 1 - float(values.mean()) if len(values) else 1.0
        reach = _REACH_OF_MODEL * min(1.0, _NARROWER / max(1.0, of_class))
        return cls(values, known**2 * max(0.0, sure) ** 0.5, max(_LEAST_REACH_OF_MODEL, reach))

    def worth(self) -> np.ndarray:
        """What a label near each image is worth: float64 (n,), above 0.

        It depends on the order of the doubts alone: how far apart they are says more of how a head is calibrated.
        """
        ascending = np.sort(self.values)
        below, upto = (np.searchsorted(ascending, self.values, side) for side in ("left", "right"))
        order = (below + upto) / (2 * max(1, len(ascending)))
        return np.asarray(1 - self.trust + self.trust * (_SHARED + (1 + _SHARPNESS) * order**_SHARPNESS), np.float64)


@dataclass(frozen=True)
class Ranking:
    """The images to label, the best first.

    rows : int64 (m,), of the pool; gain : float64 (m,), the share of all that is worth knowing that each adds
    stands_for : int64 (m,), images of the pool, itself among them, that are nearer to it than to the others
    copies : int64 (m,), how many of these are nearly the same
    """

    rows: np.ndarray
    gain: np.ndarray
    stands_for: np.ndarray
    copies: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def rank(
    features: Features,
    doubts: Doubts | None,
    labelled: Features | None,
    count: int,
    same: float,
    seed: int = 0,
) -> Ranking:
    """Choose and rank; the pool is read twice, in blocks, and some thousand rows of it are in memory.

    Parameters
    ----------
    features : of n rows, no two of the same image
    doubts : how unsure a model is; None: all images count alike
    labelled : of images that have a label already
    count : how many to choose; of fewer different images all
    same : similarity from which images count as near-duplicates, of which one is chosen

    Raises
    ------
    HeadError
        Features that are not finite.
    """
    generator = np.random.default_rng(seed)
    n = features.shape[0]
    drawn = np.sort(generator.permutation(n)[:_POPULATION])
    space = Space.about(features.take(drawn), seed)
    worth = np.ones(n) if doubts is None else doubts.worth()
    population = _population(features, space, worth, generator)
    known = 0 if labelled is None else labelled.shape[0]
    apart = spacing(population.directions[:_SPACED], known + count, generator)
    reach = apart * (_REACH if doubts is None else _REACH ** (1 - doubts.trust) * doubts.reach**doubts.trust)
    population = Population(population.directions, population.worth, population.covered, reach)
    if labelled is not None:
        population = population.cover(_directions(labelled, space))
    rows = _candidates(n, None if doubts is None else doubts.values, count, generator)
    directions = _finite(space.read(features.take(rows)))
    chosen = choose(directions, population, count, same)
    stands_for, copies = _assign(_directions(features, space), directions[chosen.rows], same)
    return Ranking(rows[chosen.rows], chosen.gain, stands_for, copies)


def _population(features: Features, space: Space, worth: np.ndarray, generator: np.random.Generator) -> Population:
    """A sample that is drawn by what images are worth, each counting for as many as it stands for, in random order."""
    share = np.minimum(1, worth * (_POPULATION / worth.sum()))
    for _ in range(20):  # what is certain to be drawn leaves the rest for the others
        free = share < 1
        left = _POPULATION - (~free).sum()
        if not free.any() or left <= 0:
            break
        share[free] = np.minimum(1, worth[free] * (left / worth[free].sum()))
    ends = np.cumsum(share)
    start = generator.random()
    drawn = (
        np.flatnonzero(np.floor(ends + start) > np.floor(ends - share + start))
        if len(worth) > _POPULATION
        else (np.arange(len(worth)))
    )
    drawn = generator.permutation(drawn)
    weight = worth[drawn] / (share[drawn] if len(worth) > _POPULATION else 1)
    directions = _finite(space.read(features.take(drawn)))
    return Population(directions, weight, np.zeros(len(drawn), np.float32), 1.0)


def _candidates(n: int, doubts: np.ndarray | None, count: int, generator: np.random.Generator) -> np.ndarray:
    """The rows that are compared, ascending: of many half those that the model is least sure of, the rest at random."""
    most = max(_CANDIDATES, 2 * count)
    if n <= most:
        return np.arange(n)
    if doubts is None:
        return np.sort(generator.permutation(n)[:most])
    unsure = np.argpartition(-doubts, most // 2)[: most // 2]
    others = np.setdiff1d(np.arange(n), unsure, assume_unique=True)
    return np.sort(np.concatenate([unsure, generator.permutation(others)[: most - len(unsure)]]))


def _directions(features: Features, space: Space) -> Iterator[np.ndarray]:
    for block in features.blocks(block_rows(width(features))):
        yield _finite(space.directions(block))


def _assign(blocks: Iterator[np.ndarray], chosen: np.ndarray, same: float) -> tuple[np.ndarray, np.ndarray]:
    """How many rows are nearest to each of the chosen ones, and how many others are nearly the same as it."""
    stands_for, copies = np.zeros(len(chosen), np.int64), np.zeros(len(chosen), np.int64)
    for block in blocks:
        similarity = block @ chosen.T
        nearest = similarity.argmax(axis=1)
        close = similarity[np.arange(len(block)), nearest] >= same
        stands_for += np.bincount(nearest, minlength=len(chosen))
        copies += np.bincount(nearest[close], minlength=len(chosen))
    return stands_for, np.maximum(copies - 1, 0)


def _finite(directions: np.ndarray) -> np.ndarray:
    if not np.isfinite(directions).all():
        raise HeadError("Features of the pool hold NaN or infinity. Extract them with another --layer or precision.")
    return directions
