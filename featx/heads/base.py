"""The base of all heads: the protocol, its parameters, and checks of the input of `fit`.

Labels are whole numbers, codes of the class list; `classes_` holds the codes that were seen in fitting, and the columns
of `logits` follow it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

import numpy as np

from featx.errors import HeadError
from featx.features import Features, width
from featx.io.counting import counted

Params = dict[str, Any]
"""What a head's constructor is given, by name; scikit-learn's own classifiers take values of any type"""


class Head(Protocol):
    """A classifier on features. Constructors store, `fit` checks, what is learned ends in an underscore."""

    classes_: np.ndarray  # int64 (k,), ascending: the codes seen in fitting
    n_features_in_: int

    def fit(self, features: Features | np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit on features (n, ...) and codes y (n,), with weights (n,) where given."""

    def logits(self, features: Features | np.ndarray) -> np.ndarray:
        """Return float32 (n, k), before the temperature, in the order of `classes_`."""

    def get_params(self, deep: bool = True) -> Params:
        """Return what the constructor was given."""

    def set_params(self, **params: Any) -> Self:
        """Change what the constructor was given; takes effect at the next `fit`."""


class DenseForm(Protocol):
    """A fitted head whose logits are one product."""

    def as_dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Return kernel float32 (d, k) and bias float32 (k,)."""


@dataclass(frozen=True)
class Trial:
    """One strength, tried.

    Attributes
    ----------
    strength : what was tried
    logits : float32 (n, k), of each row by the fit that left it out; NaN for rows that no fit left out
    start : what a linear head's `fit` can begin from
    heads : what was fitted, one per fit, where it is worth keeping
    gamma : of a radial kernel, as `KernelSVM` has it
    """

    strength: float
    logits: np.ndarray
    start: np.ndarray | None = None
    heads: tuple[Head, ...] = ()
    gamma: float | None = None


class Parameters:
    """scikit-learn's `get_params` and `set_params` for a dataclass, without importing scikit-learn."""

    def get_params(self, deep: bool = True) -> Params:  # noqa: ARG002 - no head holds another
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


def check_width(name: str, expected: int, features: Features) -> None:
    """Raise HeadError unless `features` have as many values per image as the head `name` was fitted on."""
    if width(features) != expected:
        raise HeadError(f"X has {counted(width(features), 'feature')}, but {name} is expecting {expected}.")


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
        Lengths that differ, negative weights or none above 0, fewer than two classes.
    """
    n = features.shape[0]
    if len(y) != n or y.ndim not in {1, 2}:
        raise HeadError(f"y has shape {y.shape}, but there are {counted(n, 'row')} of features.")
    if sample_weight is not None and (sample_weight.shape != (n,) or not np.all(sample_weight >= 0)):
        raise HeadError(f"sample_weight must be {n} numbers of at least 0.")
    if sample_weight is not None and n and not sample_weight.any():
        raise HeadError("Every training image has the weight 0. Give some a weight above 0 in the column of weights.")
    if y.ndim == 2:
        if y.dtype != bool or y.shape[1] < 2:
            raise HeadError(f"Several labels per image are bool (n, labels) of two labels or more, got {y.shape}.")
        return np.arange(y.shape[1]), y
    classes, index = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise HeadError(f"A head needs two classes or more, got {len(classes)}.")
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
