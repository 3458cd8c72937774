"""What the least spread of a network's features gains with few images: accuracy on images that were not fitted on.

    python benchmarks/bench_few.py NAME=FEATURES.npz ... [--draws 20] [--classes 4 10] > benchmarks/results/few.json

FEATURES.npz is what `featx cache export` writes for one output. In every draw some classes, some images of each of them
and 100 others of each are drawn; the heads are fitted at three strengths, once on features that say that they are one
output of a network, and once on the bare array, standardised as scikit-learn's StandardScaler does. Both get the same
images, and the best of the three strengths on average is compared. The interval is of the mean difference over draws.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.features import ArrayFeatures
from featx.heads.estimators import KernelSVM
from featx.heads.linear import LinearSVM, LogisticRegression
from featx.heads.ridge import Ridge

SIZES = (3, 5, 10, 20, 40, 100)  # images of a class
MEASURED = 100  # others of each class, at most
HEADS: dict[str, list[Any]] = {
    "logreg": [LogisticRegression(C=strength) for strength in (0.001, 0.01, 0.1)],
    "svm": [LinearSVM(C=strength) for strength in (0.0001, 0.001, 0.01)],
    "ridge": [Ridge(C=strength) for strength in (0.0001, 0.001, 0.01)],
    "svm (rbf)": [KernelSVM(C=strength) for strength in (1, 10, 100)],
}


@dataclass(frozen=True)
class Draw:
    """Images to fit on and images to measure on, as positions."""

    fitted: np.ndarray
    measured: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", nargs="+")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--classes", type=int, nargs="+", default=[4, 10])
    parser.add_argument("--heads", nargs="+", default=list(HEADS))
    arguments = parser.parse_args()
    found = []
    for given in arguments.features:
        name, path = given.split("=", 1)
        with np.load(path) as arrays:
            x, y = arrays["features"].astype(np.float32), np.unique(arrays["labels"], return_inverse=True)[1]
        for classes in arguments.classes:
            for size in SIZES:
                seeds = range(arguments.first_seed, arguments.first_seed + arguments.draws)
                draws = [draw(y, classes, size, np.random.default_rng(seed)) for seed in seeds]
                for head in arguments.heads:
                    compared = {"images": name, "classes": classes, "of a class": size, "head": head}
                    found.append(compared | compare(x, y, draws, head))
                    print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    print(json.dumps(found, indent=2))


def draw(y: np.ndarray, classes: int, size: int, random: np.random.Generator) -> Draw:
    """Some classes, and of each `size` images to fit on and others to measure on."""
    chosen = [random.permutation(np.flatnonzero(y == code)) for code in random.permutation(np.unique(y))[:classes]]
    return Draw(
        np.concatenate([rows[:size] for rows in chosen]),
        np.concatenate([rows[size : size + MEASURED] for rows in chosen]),
    )


def compare(x: np.ndarray, y: np.ndarray, draws: list[Draw], head: str) -> dict[str, object]:
    """Mean accuracy with the least spread and without, the mean difference and its standard error times 1.96."""
    bare, known = (
        np.array([list(accuracies(x, y, one, head, outputs)) for one in draws]) for outputs in ((), x.shape[1:])
    )
    best = [accuracy[:, accuracy.mean(axis=0).argmax()] for accuracy in (bare, known)]
    gain = best[1] - best[0]
    return {
        "as StandardScaler": round(float(best[0].mean()), 4),
        "with the least spread": round(float(best[1].mean()), 4),
        "gain": round(float(gain.mean()), 4),
        "interval": round(float(1.96 * gain.std(ddof=1) / np.sqrt(len(gain))), 4),
    }


def accuracies(x: np.ndarray, y: np.ndarray, one: Draw, head: str, outputs: tuple[int, ...]) -> Iterator[float]:
    """The accuracy at each strength."""
    for model in HEADS[head]:
        fitted = model.fit(ArrayFeatures(x[one.fitted], outputs), y[one.fitted])
        logits = fitted.logits(x[one.measured])
        yield float((fitted.classes_[logits.argmax(axis=1)] == y[one.measured]).mean())


if __name__ == "__main__":
    main()
