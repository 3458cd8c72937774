"""The table of heads: their modules, and the strengths to search.

scikit-learn and Keras are imported by the heads that need them, when they are fitted or loaded: a linear head predicts
with NumPy alone.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from featx.config import HeadOptions
from featx.errors import HeadError
from featx.heads.base import Head
from featx.io.plugins import find_plugins


@dataclass(frozen=True)
class HeadKind:
    """A row of the table: where a head is, and the strengths to search, from strong to weak regularisation."""

    clf: str
    location: str  # module:class, imported when it is needed
    strengths: tuple[float, ...] = ()
    default: float = 0.0  # where nothing can be compared
    strength_name: str | None = None  # of the constructor's argument
    linear: bool = False
    most_rows: int | None = None  # above this, `auto` leaves it out: its cost grows with the square of the rows
    most_values: int | None = None  # of rows x features, above which `auto` leaves it out: it keeps them, as 8 bytes
    radial: bool = False  # has a gamma beside its strength
    stops_early: bool = False  # `fit` takes validation=(features, y), which it watches, and a recording
    one_label: bool = False  # predicts one class per image, not several labels
    in_auto: bool = True  # whether `auto` tries it
    weighs: bool = True  # whether weights of rows and classes change it
    margins: bool = False  # whether its logits are no log probabilities
    grid: bool = False  # whether its parameters are those of --grid

    @property
    def title(self) -> str:
        """What it is called beside the others: two kinds are `svm`."""
        return f"{self.clf} (rbf)" if self.radial else self.clf


def _decades(first: float, last: float, count: int) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in np.logspace(first, last, count))


HEADS: dict[str, HeadKind] = {
    "logreg": HeadKind("logreg", "featx.heads.linear:LogisticRegression", _decades(-5, 1, 10), 0.01, "C", linear=True),
    "svm": HeadKind("svm", "featx.heads.linear:LinearSVM", _decades(-6, 0, 10), 0.001, "C", linear=True, margins=True),
    "ridge": HeadKind("ridge", "featx.heads.ridge:Ridge", _decades(-6, -1, 11), 0.001, "C", linear=True, margins=True),
    "knn": HeadKind(
        "knn",
        "featx.heads.estimators:Neighbours",
        (25, 15, 9, 5, 3, 1),
        1,
        "neighbours",
        most_rows=50_000,
        weighs=False,
    ),
    "svm-rbf": HeadKind(
        "svm",
        "featx.heads.estimators:KernelSVM",
        (0.1, 1.0, 10.0, 100.0),
        10.0,
        "C",
        most_rows=5_000,
        most_values=10_000_000,
        radial=True,
        one_label=True,
        margins=True,
    ),
    "dense": HeadKind("dense", "featx.heads.dense:DenseHead", stops_early=True),
    "estimator": HeadKind("estimator", "featx.heads.classifiers:Estimator", in_auto=False, margins=True, grid=True),
}


def head_kind(clf: str, kernel: str = "linear") -> HeadKind:
    """Return the row of `HEADS` for the options --clf and --kernel."""
    name = "svm-rbf" if (clf, kernel) == ("svm", "rbf") else clf
    if name not in HEADS and name in find_plugins("featx.heads"):
        return replace(HEADS["estimator"], clf=clf)
    if name not in HEADS:
        raise HeadError(f"No head {clf!r}; there are {', '.join(dict.fromkeys(k.clf for k in HEADS.values()))}.")
    return HEADS[name]


def make_head(kind: HeadKind, strength: float | None, options: HeadOptions, seed: int) -> Head:
    """Build an unfitted head. `strength` is C of logreg and svm, 1/alpha of ridge, neighbours of knn."""
    module, name = kind.location.split(":")
    make = getattr(importlib.import_module(module), name).from_options
    return cast("Head", make(kind.default if strength is None else strength, options, seed))
