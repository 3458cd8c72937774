"""Choose images so that every part of a pool has a labelled image near it.

A labelled image says much of images like it and little of others: of an image x it says k(x, s) = exp((cos - 1) / r),
and a set says what its nearest image does. Chosen is, one after the other, the image that adds most to

    sum over the pool of  worth(x) * max over the labelled and chosen s of k(x, s)

An image adds much where many images are like it (typical), which the model is unsure of (uncertain), and to which no
labelled or chosen image is near (different). The reach r is the distance that as many images as will be labelled keep
from the others, so that it shrinks while labels become more: from wide, where typical images count most, to narrow,
where single uncertain ones do. The sum is submodular, so that the greedy choice has at least 63 % of the best possible
one (Nemhauser, Wolsey and Fisher 1978); it is the maximum coverage of Bae, Wang and Sutherland ("Generalized coverage
for more robust low-budget active learning", ECCV 2024), with uncertainty as the worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_TILE = 512  # candidates of one product
_LEAST_REACH = 1e-3


@dataclass(frozen=True)
class Population:
    """A sample of the pool, which stands for all of it.

    directions : float32 (p, e), of length 1
    worth : float64 (p,), what an image near to each is worth, all of the images that it stands for together
    covered : float32 (p,), in [0, 1], what the labelled images say of it
    reach : how far a label reaches, as a cosine distance
    """

    directions: np.ndarray
    worth: np.ndarray
    covered: np.ndarray
    reach: float

    def nearness(self, directions: np.ndarray) -> np.ndarray:
        """What images (c, e) say of each of the population: float32 (c, p)."""
        return np.asarray(np.exp((directions @ self.directions.T - 1) / np.float32(self.reach)), np.float32)

    def cover(self, blocks: Iterator[np.ndarray]) -> Population:
        """The same with more labelled images, which pass by in blocks (n, e)."""
        covered = self.covered
        for block in blocks:
            for start in range(0, len(block), _TILE):
                covered = np.maximum(covered, self.nearness(block[start : start + _TILE]).max(axis=0, initial=0))
        return Population(self.directions, self.worth, covered, self.reach)


@dataclass(frozen=True)
class Choosing:
    """What was chosen, the best first.

    rows : int64 (m,), positions among the candidates
    gain : float64 (m,), the share of the pool's worth that each has added, in [0, 1]
    """

    rows: np.ndarray
    gain: np.ndarray


def spacing(directions: np.ndarray, count: int, generator: np.random.Generator) -> float:
    """The median cosine distance from an image to the nearest of `count` others that are drawn from them.

    directions : float32 (p, e); of more than half of them, half are drawn
    """
    drawn = generator.permutation(len(directions))
    some, others = np.split(drawn, [min(count, max(1, len(drawn) // 2))])
    if not len(others):
        return 1.0
    similarity = directions[others] @ directions[some].T
    return max(_LEAST_REACH, float(np.median(1 - similarity.max(axis=1))))


def choose(candidates: np.ndarray, population: Population, count: int, same: float) -> Choosing:
    """Choose greedily; of candidates at least as similar as `same`, one.

    candidates : float32 (c, e), directions
    count : how many; of fewer different candidates all
    """
    near = np.empty((len(candidates), len(population.directions)), np.float32)
    for start in range(0, len(candidates), _TILE):
        near[start : start + _TILE] = population.nearness(candidates[start : start + _TILE])
    worth = (population.worth / max(population.worth.sum(), np.finfo(float).tiny)).astype(np.float32)
    covered = population.covered
    bound = np.array([np.maximum(one - covered, 0) @ worth for one in near], np.float64)  # gains only become less
    rows, gains = list[int](), list[float]()
    while len(rows) < min(count, len(candidates)):
        best = int(bound.argmax())
        if np.isneginf(bound[best]):
            break
        bound[best] = np.maximum(near[best] - covered, 0) @ worth
        if bound.argmax() != best:
            continue
        rows.append(best)
        gains.append(float(bound[best]))
        covered = np.maximum(covered, near[best])
        bound[candidates @ candidates[best] >= same] = -np.inf
        bound[best] = -np.inf
    return Choosing(np.array(rows, np.int64), np.array(gains, np.float64))
