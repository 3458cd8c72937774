"""Whether two samples come from one distribution: permutation tests, valid for any statistic and sample size.

Under the hypothesis every division of the pooled rows into two parts of these sizes is as likely as the one that was
seen, so p is the share of divisions whose statistic is at least as large, the seen one counted (Phipson, Smyth 2010).
All statistics of one comparison are taken over the same divisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TILE = 64  # divisions at once


@dataclass(frozen=True)
class TwoSamples:
    """What one test found. statistic : at least 0, larger where the samples differ more; p : in (0, 1]"""

    statistic: float
    p: float


@dataclass(frozen=True)
class Divisions:
    """Divisions of pooled rows into a first and a second sample; the first of them is the one that was seen.

    first : bool (divisions, n), which rows are of the first sample
    """

    first: np.ndarray

    @classmethod
    def of(cls, first: int, second: int, count: int, generator: np.random.Generator) -> Divisions:
        """The seen division, in which the first rows are of the first sample, and random ones."""
        seen = np.arange(first + second) < first
        drawn = generator.permuted(np.repeat(seen[None], count, axis=0), axis=1)
        return cls(np.concatenate([seen[None], drawn]))

    def result(self, statistics: np.ndarray) -> TwoSamples:
        """The statistic seen and its p, by the statistics of all divisions, (divisions,)."""
        seen = statistics[0]
        tolerance = 1e-9 * max(1.0, float(np.abs(statistics).max()))  # sums in another order are no smaller
        return TwoSamples(float(max(0.0, seen)), float((statistics >= seen - tolerance).mean()))


def compare_rows(rows: np.ndarray, divisions: Divisions) -> TwoSamples:
    """The energy distance between rows float (n, d): 2 E|x - y| - E|x - x'| - E|y - y'| (Székely and Rizzo 2013)."""
    far = _distances(np.asarray(rows, np.float32))
    n, k = len(far), int(divisions.first[0].sum())
    all_sums, total = far.sum(axis=1, dtype=np.float64), float(far.sum(dtype=np.float64))
    found = []
    for start in range(0, len(divisions.first), _TILE):
        member = divisions.first[start : start + _TILE].T.astype(np.float32)
        within = np.einsum("ij,ij->j", far @ member, member, dtype=np.float64)
        across = all_sums @ member - within
        others = total - within - 2 * across
        found.append(2 * across / (k * (n - k)) - within / k**2 - others / (n - k) ** 2)
    return divisions.result(np.concatenate(found))


def compare_values(values: np.ndarray, divisions: Divisions) -> TwoSamples:
    """The greatest distance between the distribution functions of values (n,): Kolmogorov and Smirnov's."""
    order = np.argsort(values, kind="stable")
    ends = np.append(np.diff(values[order]) > 0, True)
    k = int(divisions.first[0].sum())
    upto = np.arange(1, len(values) + 1)
    found = []
    for start in range(0, len(divisions.first), _TILE):
        first = divisions.first[start : start + _TILE, order].cumsum(axis=1)
        gap = np.abs(first / k - (upto - first) / (len(values) - k))
        found.append(gap[:, ends].max(axis=1))
    return divisions.result(np.concatenate(found))


def compare_votes(votes: np.ndarray, divisions: Divisions) -> TwoSamples:
    """The difference in what is voted for, votes (n, classes) of 0 and 1: Pearson's sum, by each class' binomial."""
    mean = votes.mean(axis=0)
    used = (mean > 0) & (mean < 1)
    if not used.any():
        return TwoSamples(0.0, 1.0)
    k = int(divisions.first[0].sum())
    member = divisions.first.astype(np.float32)
    counts = (member @ votes[:, used].astype(np.float32)).astype(np.float64)
    others = votes[:, used].sum(axis=0) - counts
    gap = counts / k - others / (len(votes) - k)
    spread = mean[used] * (1 / k + 1 / (len(votes) - k))
    return divisions.result((gap**2 / spread).sum(axis=1))


def holm(p: np.ndarray) -> np.ndarray:
    """P-values (m,) of several tests, adjusted so that 5 % stays 5 % over all of them (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, stepped)
    return adjusted


def _distances(rows: np.ndarray) -> np.ndarray:
    """Euclidean distances between rows, float32 (n, n)."""
    squares = np.einsum("ij,ij->i", rows, rows)
    found = rows @ rows.T
    found *= -2
    found += squares[:, None]
    found += squares[None]
    np.maximum(found, 0, out=found)
    np.fill_diagonal(found, 0)
    return np.asarray(np.sqrt(found, out=found))
