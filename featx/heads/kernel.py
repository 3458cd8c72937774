"""Radial kernels between training and test rows: distances computed once, for any C and gamma.

Most of the time of an SVM with a radial kernel goes into distances of rows, which neither C nor gamma changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.errors import HeadError
from featx.features import Features
from featx.heads.base import two_columns
from featx.heads.estimators import fit_scaler, kernel_weights, total_variance
from featx.io.counting import counted


@dataclass(frozen=True)
class KernelFold:
    """One fit to be, and what it is judged on.

    squares, judged : float32 (m, m) and (n, m), squared distances of standardised rows from those that are fitted on
    y : int64 (m,), codes; weight : float64 (m,)
    variance : of all features that are fitted on, standardised; its inverse is scikit-learn's gamma="scale"
    """

    squares: np.ndarray
    judged: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    variance: float

    @classmethod
    def of(
        cls, fitted: Features, y: np.ndarray, sample_weight: np.ndarray | None, judged: Features, class_weight: str
    ) -> KernelFold:
        """Distances of rows, standardised by those that are fitted on.

        Raises
        ------
        HeadError
            A class without weight.
        """
        scaler, x = fit_scaler(fitted)
        x, other = (np.asarray(scaler.transform(rows), np.float32) for rows in (x, judged.asarray()))
        weight = kernel_weights(np.unique(y, return_inverse=True)[1], sample_weight, class_weight)
        return cls(_squares(x, x), _squares(other, x), y, weight, total_variance(scaler))

    @property
    def classes(self) -> np.ndarray:
        """Codes in the order of the logits."""
        return np.unique(self.y)

    def logits(self, strength: float, gamma: float) -> np.ndarray:
        """Logits float32 (n, k) of the rows that are judged, those of `KernelSVM` up to rounding.

        strength : C; gamma : times scikit-learn's gamma="scale"
        """
        from sklearn.svm import SVC

        svm = SVC(C=strength, kernel="precomputed", decision_function_shape="ovr")
        try:
            svm.fit(self._kernel(self.squares, gamma), self.y, self.weight)
        except ValueError as error:
            raise HeadError(f"The radial kernel cannot be fitted on {counted(len(self.y), 'row')}: {error}.") from error
        decision = np.asarray(svm.decision_function(self._kernel(self.judged, gamma)), np.float32)
        return decision if decision.ndim == 2 else np.ascontiguousarray(two_columns(decision[None]).T)

    def _kernel(self, squares: np.ndarray, gamma: float) -> np.ndarray:
        kernel: np.ndarray = squares * np.float64(-gamma / self.variance)
        np.exp(kernel, out=kernel)
        return kernel


def _squares(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    squares: np.ndarray = rows @ others.T
    squares *= -2
    squares += np.einsum("ij,ij->i", rows, rows)[:, None]
    squares += np.einsum("ij,ij->i", others, others)
    np.maximum(squares, 0, out=squares)
    return squares
