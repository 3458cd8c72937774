"""L-BFGS on blocks of features, for several problems at once.

The folds of a cross-validation differ only in which rows they leave out. So all of them are minimised in lockstep: one
pass over the features serves every fold, as one matrix product forward and one back for each block. That is one reading
of the disk where features are streamed, and well-shaped products where there are few classes.

Standardisation is folded into the weights of each step, never applied to the features: no second copy of them exists.

Features of a network are strongly correlated, which makes plain L-BFGS slow. Its first guess of the Hessian is
therefore the Gram matrix of some rows, times the curvature of the loss at zero, plus the penalty: that halves the
passes. Only directions of more than average variance are trusted to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from featx.features import Features
from featx.heads.passes import map_blocks, single_threaded_blas
from featx.heads.scaling import Standardization, float_blocks

Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
Precondition = Callable[[np.ndarray], np.ndarray]
_Run = Generator[np.ndarray, tuple[float, np.ndarray], np.ndarray]

_HISTORY = 10  # steps that the inverse Hessian is made of
_HISTORY_BYTES = 512 << 20  # of all problems: wide features with many classes get a shorter one, never below 3
_ARMIJO, _CURVATURE = 1e-4, 0.9
_MOST_TRIALS = 20
_WIDEST_GRAM = 5_000  # features; above, factorising the matrix takes longer than it saves
_GRAM_ROWS, _LEAST_GRAM_ROWS = 2, 2_000  # rows per feature, and in all: more did not make a better guess
_LEAST_RIDGE = 1.0  # the mean eigenvalue: below it, the loss near a solution is not like the loss at zero


@dataclass(frozen=True)
class Objectives:
    """Minimise, for each p, sum_i weights[p, i] * loss(logits_i, target_i) + penalty[p] / 2 * |W_p|^2.

    Attributes
    ----------
    features : of n rows; scaling : what W is a weight on, folded in
    loss : replaces logits (columns, rows) by their gradient, returns the weighted sum
    target : of each row, as `loss` takes it: int64 (n,), or float32 (n, columns)
    columns : number of logits per row
    weights : float32 (problems, n), each row summing to 1; 0 leaves an image out
    penalty : float64 (problems,); the intercept is not penalised
    curvature : second derivative of the loss by a logit, at zero logits
    origin : float64 (problems, columns), the best intercepts where all weights are 0
    """

    features: Features
    scaling: Standardization
    loss: Loss
    target: np.ndarray
    columns: int
    weights: np.ndarray
    penalty: np.ndarray
    curvature: float
    origin: np.ndarray


@single_threaded_blas()  # one limit for all passes and what lies between them
def minimize(
    objectives: Objectives, start: np.ndarray, reach: np.ndarray, max_iter: int, precondition: Precondition
) -> np.ndarray:
    """Solve all problems from `start`, float64 (problems, columns, d + 1): weights, then the intercept.

    reach : (problems,), the length of the gradient at which a problem is solved
    precondition : the inverse of a guessed Hessian, applied to gradients float32 (columns, d + 1)
    """
    history = int(np.clip(_HISTORY_BYTES // (8 * start.size), 3, _HISTORY))
    runs = [_lbfgs(x, limit, max_iter, history, precondition) for x, limit in zip(start, reach, strict=True)]
    points = {p: next(run) for p, run in enumerate(runs)}
    solutions = np.empty_like(start)
    while points:
        active = list(points)
        values, gradients = _evaluate(objectives, active, np.stack([points[p] for p in active]))
        for p, value, gradient in zip(active, values, gradients, strict=True):
            try:
                points[p] = runs[p].send((value, gradient))
            except StopIteration as done:
                solutions[p] = done.value
                del points[p]
    return solutions


def sample_gram(features: Features, scaling: Standardization) -> np.ndarray | None:
    """Return the Gram matrix float32 (d, d) of evenly spaced rows, standardised; None if too wide."""
    n, d = features.shape[0], len(scaling.mean)
    if d > _WIDEST_GRAM:
        return None
    rows = np.arange(0, n, max(1, n // max(_GRAM_ROWS * d, _LEAST_GRAM_ROWS)))
    gram = np.zeros((d, d), np.float32)
    for block in float_blocks(features.take(rows) if len(rows) < n else features):
        x = (block - scaling.mean.astype(np.float32)) * scaling.inverse.astype(np.float32)
        gram += x.T @ x
    gram /= len(rows)
    return gram


def unchanged(gradient: np.ndarray) -> np.ndarray:
    """Guess that the Hessian is the identity."""
    return gradient


class HessianGuess:
    """The inverse of a guessed Hessian, Gram matrix + ridge, to be applied to gradients.

    gram : float32 (d, d), or (d,) where the matrix is diagonal
    """

    def __init__(self, gram: np.ndarray) -> None:
        self._gram = gram
        self._ridge = -1.0
        self._inverse = np.empty(0)

    def at(self, penalty: np.ndarray, curvature: float) -> Precondition:
        """Return the function that takes a gradient (columns, d + 1) to a step, for these penalties (problems,)."""
        ridge = max(float(penalty.mean()) / curvature, _LEAST_RIDGE)
        if ridge != self._ridge:
            self._ridge, self._inverse = ridge, _invert(self._gram, np.float32(ridge))
        inverse = self._inverse

        def apply(gradient: np.ndarray) -> np.ndarray:
            out = np.empty_like(gradient)
            inner = gradient[:, :-1]
            out[:, :-1] = inner * inverse if inverse.ndim == 1 else inner @ inverse
            out[:, -1] = gradient[:, -1]  # the features are centred: the intercept goes its own way
            out /= np.float32(curvature)
            return out

        return apply


def _invert(gram: np.ndarray, ridge: np.float32) -> np.ndarray:
    """Return the inverse of gram + ridge. As one matrix: a product with it is many times as fast as two solves."""
    if gram.ndim == 1:
        return 1 / (gram + ridge)
    from scipy.linalg import cho_factor, get_lapack_funcs

    system = gram.copy()
    system[np.diag_indices(len(gram))] += ridge
    factor, lower = cho_factor(system, overwrite_a=True, check_finite=False)
    inverse, _ = get_lapack_funcs(("potri",), (factor,))[0](factor, lower=lower, overwrite_c=True)
    upper = np.triu(inverse) if not lower else np.tril(inverse).T
    upper += np.triu(upper, 1).T
    return np.ascontiguousarray(upper)


def null_gradients(objectives: Objectives) -> np.ndarray:
    """Return the length of each problem's gradient at zero weights, (problems,); the penalty has no part in it.

    It is the yardstick of convergence: it does not depend on the start, so a warm start is not taken for a solution.
    Intercepts are at their origin: at 0, the gradient of a class of five images in 20,000 is nearly all the
    intercept's, and a thousandth of that is reached long before the weights are found.
    """
    count = len(objectives.weights)
    zero = np.zeros((count, objectives.columns, len(objectives.scaling.mean) + 1))
    zero[..., -1] = objectives.origin
    _, gradients = _evaluate(objectives, list(range(count)), zero)
    lengths: np.ndarray = np.linalg.norm(gradients.reshape(count, -1), axis=1)
    lengths[lengths == 0] = 1.0  # nothing to gain: any start is a solution
    return lengths


def _evaluate(objectives: Objectives, active: list[int], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (active,) and gradients of the active problems at `points` (active, columns, d + 1), in one pass."""
    k, scaling = objectives.columns, objectives.scaling
    weights, intercept = fold(points, scaling)
    flat = np.ascontiguousarray(weights.reshape(-1, weights.shape[-1]).T)  # (d, active * k)
    offset = intercept.reshape(-1, 1).astype(np.float32)
    product = np.zeros(flat.T.shape)
    sums = np.zeros((len(active), k))
    values = np.zeros(len(active))

    def add_up(rows: slice, block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits = np.ascontiguousarray((block @ flat).T)  # (active * k, rows): losses reduce over whole rows of memory
        logits += offset
        parts = np.split(logits, len(active))
        losses = [
            objectives.loss(part, objectives.target[rows], objectives.weights[p, rows])
            for p, part in zip(active, parts, strict=True)
        ]
        return np.array(losses), np.array([part.sum(axis=1) for part in parts]), logits @ block

    for of_block in map_blocks(objectives.features, add_up):
        for whole, part in zip((values, sums, product), of_block, strict=True):
            whole += part
    gradients = np.empty(points.shape)
    gradients[..., :-1] = (product.reshape(weights.shape) - sums[..., None] * scaling.mean) * scaling.inverse
    gradients[..., -1] = sums
    penalty = objectives.penalty[active]
    gradients[..., :-1] += penalty[:, None, None] * points[..., :-1]
    norms = np.einsum("pkd,pkd->p", points[..., :-1], points[..., :-1])
    return values + penalty * norms / 2, gradients


def fold(points: np.ndarray, scaling: Standardization) -> tuple[np.ndarray, np.ndarray]:
    """Turn weights on standardised features (..., k, d + 1) into weights float32 (..., k, d), intercept (..., k)."""
    weights = points[..., :-1] * scaling.inverse
    return weights.astype(np.float32), points[..., -1] - weights @ scaling.mean


def _lbfgs(x: np.ndarray, reach: float, max_iter: int, memory: int, precondition: Precondition) -> _Run:
    """Minimise a convex function whose value and gradient are sent for each point yielded (Nocedal and Wright, 7.2).

    The step is found by bisection for the weak Wolfe conditions; near the solution, where float32 no longer resolves
    the decrease of the value, the slope alone decides (Hager and Zhang 2005, the approximate Wolfe condition).
    """
    value, gradient = yield x
    history: deque[_Step] = deque(maxlen=memory)
    for _ in range(max_iter):
        if np.linalg.norm(gradient) <= reach:
            break
        direction = _direction(gradient, history, precondition)
        slope = float(np.vdot(gradient, direction))
        size = 1.0 if history or precondition is not unchanged else min(1.0, 1 / float(np.linalg.norm(gradient)))
        low, high = 0.0, np.inf
        for _ in range(_MOST_TRIALS):
            trial = x + size * direction
            trial_value, trial_gradient = yield trial
            trial_slope = float(np.vdot(trial_gradient, direction))
            if not _decreases(value, slope, size, trial_value, trial_slope):
                high = size
            elif trial_slope < _CURVATURE * slope:
                low = size
            else:
                break
            size = (low + high) / 2 if np.isfinite(high) else 2 * low
        else:
            break  # the value cannot be lowered in this precision
        history.append(_Step.between(x, trial, gradient, trial_gradient))
        x, value, gradient = trial, trial_value, trial_gradient
    return x


def _decreases(value: float, slope: float, size: float, trial_value: float, trial_slope: float) -> bool:
    if trial_value <= value + _ARMIJO * size * slope:
        return True
    near = trial_value <= value + 1e-6 * abs(value)
    return near and trial_slope <= (2 * _ARMIJO - 1) * slope


@dataclass(frozen=True)
class _Step:
    """A step of the past: the way, the change of the gradient (float32), and 1 / their product."""

    way: np.ndarray
    change: np.ndarray
    inverse: float

    @classmethod
    def between(cls, x: np.ndarray, trial: np.ndarray, gradient: np.ndarray, trial_gradient: np.ndarray) -> _Step:
        way, change = trial - x, trial_gradient - gradient
        return cls(way.astype(np.float32), change.astype(np.float32), 1 / float(np.vdot(way, change)))


def _direction(gradient: np.ndarray, history: deque[_Step], precondition: Precondition) -> np.ndarray:
    """Return minus the inverse Hessian, as the history sees it, times the gradient."""
    q = gradient.astype(np.float32)
    scratch = np.empty_like(q)
    shares = []
    for step in reversed(history):
        share = step.inverse * float(np.vdot(step.way, q))
        q -= np.multiply(step.change, share, out=scratch)
        shares.append(share)
    q = precondition(q)
    if history:
        q /= history[-1].inverse * float(np.vdot(history[-1].change, precondition(history[-1].change)))
    for step, share in zip(history, reversed(shares), strict=True):
        q += np.multiply(step.way, share - step.inverse * float(np.vdot(step.change, q)), out=scratch)
    return -q.astype(np.float64)
