"""Logistic regression and the linear SVM: standardised, in float32, minimised by L-BFGS on blocks of features.

Both minimise the objective of their namesake in scikit-learn (`LogisticRegression`; `LinearSVC` with the squared hinge)
with its meaning of C, on standardised features and with an intercept that is not penalised. What is kept is the dense
form: a kernel and a bias on the features as they come, standardisation folded in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, Self

import numpy as np

from featx.config import HeadOptions
from featx.errors import HeadError
from featx.features import Features, as_features, width
from featx.heads.base import Parameters, Trial, check_targets, check_width, row_weights, signed_targets, two_columns
from featx.heads.dual import is_wide, solve_dual
from featx.heads.lbfgs import HessianGuess, Loss, Objectives, fold, minimize, null_gradients, sample_gram, unchanged
from featx.heads.passes import for_each_block, left_out_logits
from featx.heads.scaling import Standardization, standardize
from featx.heads.shares import class_shares

# Strengths are compared a little short of the minimum, which took a fifth off a search and changed no choice (the
# benchmark of heads); the one that is chosen goes on from there to the tolerance of the head.
_SEARCH_TOLERANCE = 1e-3
# How far a start goes on in the direction of the last two solutions. Another seventh less; at 1, starts pass for
# solutions that they are not.
_AHEAD = 0.5
_LEAST_SHARE = 1e-9  # of a class, where a fit has none of it


def softmax_loss(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """Cross-entropy of logits (k, n); replaces them by the gradient. One row of logits is of the second class.

    Signed targets (n, k) make k logistic regressions of it.
    """
    if target.ndim == 2:
        return _binary_losses(logits, target, weight)
    if len(logits) == 1:
        return _logistic_loss(logits[0], target, weight)
    rows = np.arange(len(target))
    logits -= logits.max(axis=0)
    true = logits[target, rows]
    np.exp(logits, out=logits)
    total = logits.sum(axis=0)
    logits *= weight / total
    logits[target, rows] -= weight
    return float(np.dot(np.log(total) - true, weight))


def _logistic_loss(logit: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    small = np.exp(-np.abs(logit))  # never overflows
    loss = np.log1p(small) + np.maximum(logit, 0) - target * logit
    probability = np.where(logit >= 0, 1, small) / (1 + small)
    logit[:] = weight * (probability - target)
    return float(np.dot(loss, weight))


def _binary_losses(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    sign, size = np.sign(target.T), np.abs(target.T) * weight
    logits *= -sign  # how wrong each is
    small = np.exp(-np.abs(logits))
    loss = np.log1p(small) + np.maximum(logits, 0)
    value = float(np.vdot(loss, size))
    np.divide(np.where(logits >= 0, 1, small), 1 + small, out=logits)
    logits *= -sign * size
    return value


def squared_hinge_loss(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """Sum over one-vs-rest problems of max(0, 1 - sign * logit)^2; replaces logits (k, n) by the gradient."""
    if target.ndim == 2:
        sign, size = np.sign(target.T), np.abs(target.T) * weight
        logits *= -sign
        logits += 1
        np.maximum(logits, 0, out=logits)
        value = float(np.vdot(np.square(logits), size))
        logits *= -2 * sign * size
        return value
    flip = _of_class(logits, target)
    logits[flip] *= -1
    logits += 1
    np.maximum(logits, 0, out=logits)
    value = float(np.dot(np.einsum("kn,kn->n", logits, logits), weight))
    logits *= 2 * weight
    logits[flip] *= -1
    return value


def squared_loss(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """Sum over one-vs-rest problems of (logit - sign)^2 / 2; replaces logits (k, n) by the gradient."""
    if target.ndim == 2:
        logits -= np.sign(target.T)
        size = np.abs(target.T) * weight
        value = float(np.vdot(np.square(logits), size)) / 2
        logits *= size
        return value
    logits += 1
    logits[_of_class(logits, target)] -= 2
    value = float(np.dot(np.einsum("kn,kn->n", logits, logits), weight)) / 2
    logits *= weight
    return value


def _of_class(logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index the logits whose own class the row is of."""
    rows = np.arange(len(target))
    return (target, rows) if len(logits) > 1 else (target[target == 1] - 1, rows[target == 1])


class Dense(Parameters):
    """What the linear heads have in common once they are fitted: logits are one product."""

    classes_: np.ndarray
    n_features_in_: int
    kernel_: np.ndarray
    bias_: np.ndarray

    def as_dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Return kernel float32 (d, k) and bias float32 (k,); two classes have the columns (0, z)."""
        return self.kernel_, self.bias_

    def logits(self, features: Features | np.ndarray) -> np.ndarray:
        """Return float32 (n, k)."""
        features = as_features(features)
        check_width(type(self).__name__, self.n_features_in_, features)
        out = np.empty((features.shape[0], len(self.classes_)), np.float32)

        def fill(rows: slice, block: np.ndarray) -> None:
            np.matmul(block, self.kernel_, out=out[rows])
            out[rows] += self.bias_

        for_each_block(features, fill)
        return out

    def _keep(self, classes: np.ndarray, point: np.ndarray, scaling: Standardization) -> Self:
        weights, intercept = fold(point, scaling)  # (columns, d), (columns,)
        if len(weights) == 1:
            weights, intercept = two_columns(weights), two_columns(intercept)
        self.classes_, self.n_features_in_ = classes, weights.shape[1]
        self.kernel_ = np.ascontiguousarray(weights.T)
        self.bias_ = intercept.astype(np.float32)
        return self


@dataclass(frozen=True)
class LinearTask:
    """What a linear head is fitted to: one problem, or one for each fold that is left out.

    Attributes
    ----------
    index : int64 (n,), position of each row's class; or, of several labels, `signed_targets` float32 (n, k)
    columns : logits per row: the number of classes or labels, 1 for two classes
    weight : float64 (n,)
    test_fold : int64 (n,), number of the fit that leaves the row out; -1: none does
    """

    features: Features
    scaling: Standardization
    index: np.ndarray
    columns: int
    weight: np.ndarray
    test_fold: np.ndarray

    @property
    def fits(self) -> int:
        """Number of problems."""
        return max(1, int(self.test_fold.max()) + 1)

    def weights(self) -> np.ndarray:
        """Return float64 (fits, n), 0 for the rows left out."""
        return np.stack([np.where(self.test_fold == f, 0.0, self.weight) for f in range(self.fits)])

    def zeros(self) -> np.ndarray:
        """Return the point (fits, columns, d + 1) at which all logits are 0."""
        return np.zeros((self.fits, self.columns, width(self.features) + 1))


class Solver(Protocol):
    """Solves all problems of a task at one strength."""

    def __call__(self, strength: float, start: np.ndarray) -> np.ndarray:
        """Return weights on standardised features and intercepts, float64 (fits, columns, d + 1)."""


@dataclass
class Linear(Dense):
    """A linear head: its solver is found by the class, the rest is common."""

    C: float = 0.01
    class_weight: str = "none"
    positive_weight: float = 1.0
    tolerance: float = 3e-4
    max_iter: int = 1000
    classes_: np.ndarray = field(init=False, repr=False)
    n_features_in_: int = field(init=False, repr=False)
    kernel_: np.ndarray = field(init=False, repr=False)
    bias_: np.ndarray = field(init=False, repr=False)

    _loss: ClassVar[Loss]

    @classmethod
    def from_options(cls, strength: float, options: HeadOptions, seed: int) -> Self:  # noqa: ARG003 - nothing is drawn
        """Build the head of `--clf`; `strength` is C."""
        return cls(C=strength, class_weight=options.class_weight, positive_weight=options.positive_weight)

    def fit(
        self,
        features: Features | np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        start: np.ndarray | None = None,
    ) -> Self:
        """Fit on features (n, ...) and codes y (n,), from `start` of a search's trial where there is one.

        With labels y bool (n, k), one head per label is fitted, all in one pass.
        """
        classes, task = self._task(features, y, np.full(len(y), -1), sample_weight)
        points = task.zeros() if start is None else start[None]
        (point,) = self._solver(task, self.tolerance)(self._positive(self.C), points)
        return self._keep(classes, point, task.scaling)

    def search(
        self,
        features: Features | np.ndarray,
        y: np.ndarray,
        test_fold: np.ndarray,
        strengths: Sequence[float],
        sample_weight: np.ndarray | None = None,
    ) -> Iterator[Trial]:
        """Try strengths, in the order given (strong regularisation first), each from the solutions before it.

        test_fold : int64 (n,), number of the fit that leaves the row out and is judged on it; -1: none does.
        """
        _, task = self._task(features, y, test_fold, sample_weight)
        solve = self._solver(task, max(self.tolerance, _SEARCH_TOLERANCE))
        before = points = task.zeros()
        for strength in strengths:
            start = points + _AHEAD * (points - before)
            before, points = points, solve(self._positive(strength), start)
            logits = left_out_logits(task.features, test_fold, *fold(points, task.scaling))
            yield Trial(strength, logits, points.mean(axis=0))

    def _task(
        self, features: Features | np.ndarray, y: np.ndarray, test_fold: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[np.ndarray, LinearTask]:
        features = as_features(features)
        classes, index = check_targets(features, y, sample_weight)
        weight = row_weights(index, sample_weight, self.class_weight)
        if index.ndim == 2:
            index, columns = signed_targets(index, self.class_weight, self.positive_weight), len(classes)
        else:
            columns = len(classes) if len(classes) > 2 else 1
        return classes, LinearTask(features, standardize(features), index, columns, weight, test_fold)

    def _curvature(self, classes: int) -> float:
        """Return the second derivative of the loss by a logit, at zero logits; `classes` does not matter to squares."""
        del classes
        return 1.0

    def _origin(self, share: np.ndarray, apart: bool) -> np.ndarray:
        """The intercepts that are best without any weight, of the shares of the rows that have each column's class.

        apart : whether every column is a problem of its own. Squared losses of the signs +1 and -1 have their mean
        """
        del apart
        return 2 * share - 1

    def _positive(self, strength: float) -> float:
        if not strength > 0:
            raise HeadError(f"The strength of {type(self).__name__} must be above 0, got {strength}.")
        return strength

    def _solver(self, task: LinearTask, tolerance: float) -> Solver:
        if is_wide(task):
            return solve_dual(
                task, lambda inside, squares: self._minimizer(inside, squares.astype(np.float32), tolerance)
            )
        return self._minimizer(task, sample_gram(task.features, task.scaling), tolerance)

    def _minimizer(self, task: LinearTask, gram: np.ndarray | None, tolerance: float) -> Solver:
        weights = task.weights()
        total = weights.sum(axis=1)
        shares = (weights / total[:, None]).astype(np.float32)
        curvature = self._curvature(2 if task.index.ndim == 2 else max(task.columns, 2))
        free = Objectives(
            task.features,
            task.scaling,
            type(self)._loss,
            task.index,
            task.columns,
            shares,
            np.zeros(len(total)),
            curvature,
            self._origin(class_shares(task.index, task.columns, weights), task.index.ndim == 2 or task.columns == 1),
        )
        reach = tolerance * null_gradients(free)
        guess = None if gram is None else HessianGuess(gram)

        def solve(strength: float, start: np.ndarray) -> np.ndarray:
            objectives = replace(free, penalty=1 / (strength * total))
            precondition = guess.at(objectives.penalty, curvature) if guess else unchanged
            return minimize(objectives, start, reach, self.max_iter, precondition)

        return solve


@dataclass
class LogisticRegression(Linear):
    """Softmax regression: the objective of scikit-learn's LogisticRegression(C) on standardised features."""

    _loss: ClassVar[Loss] = staticmethod(softmax_loss)

    def _curvature(self, classes: int) -> float:
        return (classes - 1) / classes**2  # p (1 - p)

    def _origin(self, share: np.ndarray, apart: bool) -> np.ndarray:
        inside = np.clip(share, _LEAST_SHARE, 1 - _LEAST_SHARE)
        return np.asarray(np.log(inside) - np.log1p(-inside) if apart else np.log(inside))


@dataclass
class LinearSVM(Linear):
    """One-vs-rest SVM with the squared hinge: the objective of scikit-learn's LinearSVC(C), intercept unpenalised."""

    _loss: ClassVar[Loss] = staticmethod(squared_hinge_loss)

    def _curvature(self, classes: int) -> float:
        del classes
        return 2.0  # the hinge is squared, not halved
