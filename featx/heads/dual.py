"""Few images with many features: fit in the space spanned by the rows.

A penalised linear fit has no part outside of that space (the representer theorem, Kimeldorf and Wahba 1971), and an
orthonormal basis of it changes neither the penalty nor the logits. Along the principal axes the Gram matrix is
diagonal, too, which makes the guess of the Hessian free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featx.features import ArrayFeatures, width
from featx.heads.scaling import Standardization

if TYPE_CHECKING:
    from featx.heads.linear import LinearTask, Solver

_MOST_ROWS = 3_000  # factorising the Gram matrix of more takes longer than it saves
_MOST_VALUES = 64_000_000  # features are held once more, in float64


def is_wide(task: LinearTask) -> bool:
    """Whether the rows are fewer than the features, and few enough to factorise."""
    n, d = task.features.shape[0], width(task.features)
    return n < d and n <= _MOST_ROWS and n * d <= _MOST_VALUES


def solve_dual(task: LinearTask, make_solver: Callable[[LinearTask, np.ndarray], Solver]) -> Solver:
    """Solve in coordinates z of the space that the n rows span: x = z @ basis, where basis has orthonormal rows.

    make_solver : takes the task in those coordinates, and their mean squares (r,)
    """
    x = (task.features.asarray() - task.scaling.mean) * task.scaling.inverse  # float64 (n, d)
    squares, vectors = np.linalg.eigh(x @ x.T)
    spans = squares > len(x) * np.finfo(np.float64).eps * max(squares[-1], 1.0)
    spans[-1] |= not spans.any()  # all features are constant: one axis, along which nothing extends
    root = np.sqrt(np.maximum(squares[spans], 0))
    basis = (vectors[:, spans] / np.where(root > 0, root, 1)).T @ x  # (r, d)
    flat = Standardization(np.zeros(len(root)), np.ones(len(root)))
    coordinates = ArrayFeatures((vectors[:, spans] * root).astype(np.float32))
    solve_flat = make_solver(replace(task, features=coordinates, scaling=flat), squares[spans] / len(x))

    def solve(strength: float, start: np.ndarray) -> np.ndarray:
        inside = np.concatenate([start[..., :-1] @ basis.T, start[..., -1:]], axis=-1)
        points = solve_flat(strength, inside)
        return np.concatenate([points[..., :-1] @ basis, points[..., -1:]], axis=-1)

    return solve
