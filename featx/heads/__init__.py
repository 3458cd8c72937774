"""Heads: classifiers that are fitted on cached features.

Every head takes `Features`, which is either an array or a stream from the store, so that one call serves both. The
table `HEADS` names them; `make_head` builds one from the options. Labels are whole numbers, codes of the class list;
`classes_` holds the codes that were seen in fitting, and the columns of `logits` follow it.

scikit-learn and Keras are imported by the heads that need them, when they are fitted or loaded: a linear head predicts
with NumPy alone.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

import numpy as np

from featx.errors import HeadError
from featx.options import HeadOptions

_BLOCK_VALUES = 1 << 21  # 8 MB of float32: a block stays in the cache between the two products of a gradient
_MIN_BLOCK_ROWS = 64


class Features(Protocol):
    """Features of n images, in memory or on disk, read in blocks of whole rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...): rows, then the shape of one image's features."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values: float16, float32 or float64."""

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        """Yield all rows in order as arrays (at most `rows`, d) of a float type; 0 lets the features choose."""

    def asarray(self) -> np.ndarray:
        """Return all rows as one float32 array (n, d)."""

    def take(self, rows: np.ndarray) -> Features:
        """Return the features of these rows (positions, in the order given)."""


@dataclass(frozen=True)
class ArrayFeatures:
    """Features in memory: an array (n, ...) of a float type, seen as (n, d)."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array as it was given."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array as it was given."""
        return self.array.dtype

    def blocks(self, rows: int = 0) -> Iterator[np.ndarray]:
        """Yield views (at most `rows`, d)."""
        flat = self._flat()
        rows = rows or block_rows(flat.shape[1])
        for start in range(0, len(flat), rows):
            yield flat[start : start + rows]

    def asarray(self) -> np.ndarray:
        """Return float32 (n, d), without a copy where that is what the array holds."""
        return np.ascontiguousarray(self._flat(), dtype=np.float32)

    def take(self, rows: np.ndarray) -> ArrayFeatures:
        """Return a copy of these rows; a view when they are consecutive."""
        rows = np.asarray(rows)
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return ArrayFeatures(self.array[rows[0] : rows[0] + len(rows)])
        return ArrayFeatures(self.array[rows])

    def _flat(self) -> np.ndarray:
        return self.array.reshape(len(self.array), width(self))


class Head(Protocol):
    """A classifier on features. Constructors store, `fit` checks, what is learned ends in an underscore."""

    classes_: np.ndarray  # int64 (k,), ascending: the codes seen in fitting
    n_features_in_: int

    def fit(self, features: Features | np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit on features (n, ...) and codes y (n,), with weights (n,) where given."""

    def logits(self, features: Features | np.ndarray) -> np.ndarray:
        """Return float32 (n, k), before the temperature, in the order of `classes_`."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what the constructor was given."""

    def set_params(self, **params: Any) -> Self:
        """Change what the constructor was given; takes effect at the next `fit`."""


class Parameters:
    """scikit-learn's `get_params` and `set_params` for a dataclass, without importing scikit-learn."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - no head holds another
        """Return the constructor's arguments."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(cast("Any", self)) if f.init}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments by name."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise HeadError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}.")
            setattr(self, name, value)
        return self


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
    stops_early: bool = False  # `fit` takes validation=(features, y), which it watches, and a journal
    one_label: bool = False  # tells one class per image, not several labels
    in_auto: bool = True  # whether `auto` tries it


def _decades(first: float, last: float, count: int) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in np.logspace(first, last, count))


HEADS: dict[str, HeadKind] = {
    "logreg": HeadKind("logreg", "featx.heads.linear:LogisticRegression", _decades(-5, 1, 10), 0.01, "C", linear=True),
    "svm": HeadKind("svm", "featx.heads.linear:LinearSVM", _decades(-6, 0, 10), 0.001, "C", linear=True),
    "ridge": HeadKind("ridge", "featx.heads.ridge:Ridge", _decades(-6, -1, 11), 0.001, "C", linear=True),
    "knn": HeadKind(
        "knn", "featx.heads.estimators:Neighbours", (25, 15, 9, 5, 3, 1), 1, "neighbours", most_rows=50_000
    ),
    "svm-rbf": HeadKind(
        "svm",
        "featx.heads.estimators:KernelSVM",
        (0.1, 1.0, 10.0, 100.0),
        10.0,
        "C",
        most_rows=5_000,
        one_label=True,
    ),
    "dense": HeadKind("dense", "featx.heads.dense:DenseHead", stops_early=True),
    "estimator": HeadKind("estimator", "featx.heads.estimators:Estimator", in_auto=False),
}


def head_kind(clf: str, kernel: str = "linear") -> HeadKind:
    """Return the row of `HEADS` for the options --clf and --kernel."""
    name = "svm-rbf" if (clf, kernel) == ("svm", "rbf") else clf
    if name not in HEADS:
        raise HeadError(f"No head {clf!r}; there are {', '.join(dict.fromkeys(k.clf for k in HEADS.values()))}.")
    return HEADS[name]


def make_head(kind: HeadKind, strength: float | None, options: HeadOptions, seed: int) -> Head:
    """Build an unfitted head. `strength` is C of logreg and svm, 1/alpha of ridge, neighbours of knn."""
    module, name = kind.location.split(":")
    make = getattr(importlib.import_module(module), name).from_options
    return cast("Head", make(kind.default if strength is None else strength, options, seed))


def as_features(features: Features | np.ndarray) -> Features:
    """Return features as they are, and wrap an array (n, ...)."""
    if not isinstance(features, np.ndarray):
        return features
    if features.ndim < 2:
        raise HeadError(f"Features have one row per image: shape (n, features), got {features.shape}.")
    return ArrayFeatures(features)


def width(features: Features) -> int:
    """Return the number of values per image."""
    return int(np.prod(features.shape[1:]))


def block_rows(d: int) -> int:
    """Return how many rows of `d` values make a block that stays in the processor's cache."""
    return max(_MIN_BLOCK_ROWS, _BLOCK_VALUES // max(d, 1))


def check_width(name: str, expected: int, features: Features) -> None:
    """Raise HeadError unless `features` have as many values per image as the head `name` was fitted on."""
    if width(features) != expected:
        raise HeadError(f"X has {width(features)} features, but {name} is expecting {expected}.")


class FeaturesError(HeadError):
    """Features that hold NaN or infinity. `rows` are their positions, for the caller to name the images."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        some = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        super().__init__(f"Features must be finite; {len(rows)} rows hold NaN or infinity: {some}.")


def check_targets(features: Features, y: np.ndarray, sample_weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Check what `fit` was given.

    y : int64 (n,), codes; or bool (n, k), which of k labels a row has

    Returns
    -------
    classes : int64 (k,)
        The codes in `y`, ascending; at least two.
    index : int64 (n,), or bool (n, k)
        Position of each row's code in `classes`; of labels, `y` itself.

    Raises
    ------
    HeadError
        Lengths that differ, negative weights, fewer than two classes.
    """
    n = features.shape[0]
    if len(y) != n or y.ndim not in {1, 2}:
        raise HeadError(f"y has shape {y.shape}, but there are {n} rows of features.")
    if sample_weight is not None and (sample_weight.shape != (n,) or not np.all(sample_weight >= 0)):
        raise HeadError(f"sample_weight has to be {n} numbers of at least 0.")
    if y.ndim == 2:
        if y.dtype != bool or y.shape[1] < 2:
            raise HeadError(f"Several labels per image are bool (n, labels) of two labels or more, got {y.shape}.")
        return np.arange(y.shape[1]), y
    classes, index = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise HeadError(f"A head needs two classes or more to tell apart, got {len(classes)}.")
    return classes.astype(np.int64), index.astype(np.int64)


def row_weights(index: np.ndarray, sample_weight: np.ndarray | None, class_weight: str) -> np.ndarray:
    """Return float64 (n,): the rows' weights times n / (classes * rows of the class) where that is `balanced`.

    Of rows with several labels the labels are balanced, not the rows: see `signed_targets`.
    """
    weight = np.ones(len(index)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if class_weight == "balanced" and index.ndim == 1:
        counts = np.bincount(index)
        weight = weight * (len(index) / (len(counts) * counts))[index]
    return weight


def signed_targets(y: np.ndarray, class_weight: str, positive_weight: float) -> np.ndarray:
    """Several labels per row as float32 (n, k): the sign says whether a row has the label, the size what that weighs.

    Parameters
    ----------
    y : bool (n, k)
    class_weight : `balanced` gives the rows with a label and those without it half of the weight each, label by label,
        as scikit-learn's OneVsRestClassifier of a balanced classifier does
    positive_weight : multiplies the weight of having a label
    """
    weight = np.ones((2, y.shape[1]))
    if class_weight == "balanced":
        counts = np.stack([(~y).sum(axis=0), y.sum(axis=0)])
        weight = len(y) / (2 * np.maximum(counts, 1))
    return np.asarray(np.where(y, positive_weight * weight[1], -weight[0]), np.float32)


def two_columns(one: np.ndarray) -> np.ndarray:
    """Put zeros in front of the single row (1, ...) of a binary head: classes have the logits (0, z)."""
    return np.concatenate([np.zeros_like(one), one])
