"""Compare new images with those a model was not fitted on: four tests, corrected for being four, and the class mix.

features    do the images look the same to the network: energy distance
distance    are they as far from the training images
confidence  is the model as sure of them
classes     does it answer the same classes as often

Of the four the first also sees what the model does not react to, and the others say what a difference means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from featx.active.answers import doubt
from featx.bundle.bundle import Bundle
from featx.bundle.novelty import Reference
from featx.metrics.predictions import decide
from featx.metrics.similarity import unit_rows
from featx.metrics.twosample import Divisions, TwoSamples, compare_rows, compare_values, compare_votes, holm

DIVISIONS = 999
_AXES = 128  # principal components that are compared, by bench_drift.py: 32 see less of blur and JPEG


@dataclass(frozen=True)
class Side:
    """What is compared of the images of one side.

    rows : float32 (n, d), their features
    probabilities : float64 (n, classes); votes : of 0 and 1, (n, classes), the classes that the model answers
    sureness : float64 (n,), one minus the margin's doubt; distance : float64 (n,), None of models that keep no rows
    """

    rows: np.ndarray
    probabilities: np.ndarray
    votes: np.ndarray
    sureness: np.ndarray
    distance: np.ndarray | None

    @classmethod
    def of(cls, bundle: Bundle, rows: np.ndarray, reference: Reference | None) -> Side:
        """The answers of a model to rows of features (n, d)."""
        probabilities = bundle.probabilities(rows)
        if bundle.multilabel:
            votes = probabilities >= bundle.thresholds
            sureness = np.abs(probabilities - 0.5).mean(axis=1)
        else:
            votes = np.zeros(probabilities.shape, bool)
            votes[np.arange(len(rows)), decide(probabilities, bundle.calibration.emphasis)] = True
            sureness = 1 - doubt(probabilities)[0]
        return cls(rows, probabilities, votes, sureness, None if reference is None else reference.distances(rows))


@dataclass(frozen=True)
class TestOutcome:
    """One test. statistic : larger where the sides differ more; p : of this test alone; adjusted : with the others"""

    statistic: float
    p: float
    adjusted: float


def compare_sides(new: Side, held: Side, *, answers: bool, seed: int) -> dict[str, TestOutcome]:
    """All tests, by name.

    answers : whether what the model answers to the held images can be compared: it was not fitted on them
    """
    generator = np.random.default_rng(seed)
    divisions = Divisions.of(len(new.rows), len(held.rows), DIVISIONS, generator)
    found = {"features": compare_rows(components(np.concatenate([new.rows, held.rows])), divisions)}
    if new.distance is not None and held.distance is not None:
        found["distance"] = compare_values(np.concatenate([new.distance, held.distance]), divisions)
    if answers:
        found["confidence"] = compare_values(np.concatenate([new.sureness, held.sureness]), divisions)
        found["classes"] = compare_votes(np.concatenate([new.votes, held.votes]), divisions)
    return _adjusted(found)


def _adjusted(found: Mapping[str, TwoSamples]) -> dict[str, TestOutcome]:
    adjusted = holm(np.array([one.p for one in found.values()]))
    return {
        name: TestOutcome(one.statistic, one.p, float(p))
        for (name, one), p in zip(found.items(), adjusted.tolist(), strict=True)
    }


def components(rows: np.ndarray) -> np.ndarray:
    """Directions of pooled rows (n, d) and their length, as standardised components float32 (n, e).

    They are of the pooled rows, so that no division into two sides is favoured.
    """
    length = np.log(np.maximum(np.linalg.norm(rows.astype(np.float32), axis=1), 1e-12))
    directions = sketch(unit_rows(rows))
    directions -= directions.mean(axis=0)
    parts = np.column_stack([_scores(directions), length])
    return np.asarray((parts - parts.mean(axis=0)) / np.maximum(parts.std(axis=0), 1e-12), np.float32)


def _scores(centred: np.ndarray) -> np.ndarray:
    """The first principal components of rows (n, e) whose mean is zero: of few rows few."""
    from scipy.linalg import eigh

    n, e = centred.shape
    gram = (centred @ centred.T if n < e else centred.T @ centred).astype(np.float64)
    axes = min(_AXES, max(1, n // 4), len(gram))
    values, vectors = eigh(gram, subset_by_index=(len(gram) - axes, len(gram) - 1))
    used = values > 1e-9 * max(values[-1], 1e-30)
    if n < e:
        return np.asarray(vectors[:, used] * np.sqrt(values[used]))
    return np.asarray(centred @ vectors[:, used].astype(np.float32))


def sketch(rows: np.ndarray) -> np.ndarray:
    """Rows as they are; of more than 2,048 values sums of random signs, by which they are as far from each other."""
    d, most = rows.shape[1], 2048
    if d <= most:
        return np.array(rows, np.float32)
    generator = np.random.default_rng(0)
    order = generator.permutation(d)
    signed = rows * generator.choice(np.array([-1, 1], np.float32), d)
    starts = np.arange(most) * d // most
    return np.asarray(np.add.reduceat(signed[:, order], starts, axis=1), np.float32)
