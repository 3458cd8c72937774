"""Ridge classification: least squares on +-1 targets, all strengths and folds from one Gram matrix.

One pass over the features sums the Gram matrix of each fold. What a fit that leaves a fold out needs is the total less
that fold's, so a strength costs one factorisation per fold and the features are never read again.

Where there are fewer rows than features, the rows are first turned into the space they span, which changes nothing but
the size of that matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from featx.features import width
from featx.heads.dual import is_wide, solve_dual
from featx.heads.lbfgs import Loss, sample_gram
from featx.heads.linear import Linear, LinearTask, Solver, squared_loss

_WIDEST = 3_000  # the Gram matrices of more features, one per fold, cost more than descending


@dataclass
class Ridge(Linear):
    """One-vs-rest ridge regression: the objective of scikit-learn's RidgeClassifier(1 / C) on standardised features."""

    _loss: ClassVar[Loss] = staticmethod(squared_loss)

    def _solver(self, task: LinearTask, tolerance: float) -> Solver:
        if task.index.ndim == 2 and (np.abs(task.index) != 1).any():  # every label weighs the rows in its own way
            return super()._solver(task, tolerance)
        if is_wide(task):
            return dual_solver(task)
        return (
            gram_solver(task)
            if width(task.features) <= _WIDEST
            else self._minimizer(task, sample_gram(task.features, task.scaling), tolerance)
        )


def dual_solver(task: LinearTask) -> Solver:
    """Return the closed form in the space that the rows span."""
    return solve_dual(task, lambda inside, _: gram_solver(inside))


def gram_solver(task: LinearTask) -> Solver:
    """Return the closed form for all strengths: (Gram + alpha) W = X'T, the intercept unpenalised."""
    gram, product = _sums(task)

    def solve(strength: float, start: np.ndarray) -> np.ndarray:
        points = np.empty_like(start)
        for f in range(task.fits):
            kept = gram[-1] - gram[f] if task.test_fold.max() >= 0 else gram[-1]
            targets = product[-1] - product[f] if task.test_fold.max() >= 0 else product[-1]
            points[f] = _regularised(kept, 1 / strength, targets).T
        return points

    return solve


def _regularised(gram: np.ndarray, alpha: float, targets: np.ndarray) -> np.ndarray:
    from scipy.linalg import cho_factor, cho_solve

    system = gram + alpha * np.diag(np.append(np.ones(len(gram) - 1), 0))
    return np.asarray(cho_solve(cho_factor(system, overwrite_a=True), targets))


def _sums(task: LinearTask) -> tuple[np.ndarray, np.ndarray]:
    """Sum the Gram matrices (folds + 1, d + 1, d + 1) and X'T (folds + 1, d + 1, columns) of each fold.

    The last is of all rows. A column of ones stands for the intercept. In float64: the difference of two sums of
    float32 need not be positive definite.
    """
    d = width(task.features)
    folds = int(task.test_fold.max()) + 1
    gram, product = np.zeros((folds + 1, d + 1, d + 1)), np.zeros((folds + 1, d + 1, task.columns))
    at = 0
    for block in task.features.blocks():
        rows = slice(at, at + len(block))
        x = np.ones((len(block), d + 1))
        x[:, :-1] = (block - task.scaling.mean) * task.scaling.inverse
        root = np.sqrt(task.weight[rows])[:, None]
        x, t = x * root, _signs(task.index[rows], task.columns) * root
        for f in np.unique(task.test_fold[rows]):  # -1, of rows in no fold, is the last place
            mine = task.test_fold[rows] == f
            gram[f] += x[mine].T @ x[mine]
            product[f] += x[mine].T @ t[mine]
        at += len(block)
    gram[-1] = gram.sum(axis=0)
    product[-1] = product.sum(axis=0)
    return gram, product


def _signs(index: np.ndarray, columns: int) -> np.ndarray:
    """Return +1 for the row's own class or labels and -1 for the others, (n, columns)."""
    if index.ndim == 2:
        return np.asarray(np.sign(index), np.float64)
    if columns == 1:
        return 2.0 * index[:, None] - 1
    return np.where(index[:, None] == np.arange(columns), 1.0, -1.0)
