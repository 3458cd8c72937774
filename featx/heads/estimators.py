"""Heads that scikit-learn fits: nearest neighbours and the SVM with a radial kernel, on standardised features.

`estimator_` is a plain scikit-learn pipeline, which skops saves; `estimator_logits` is all that is needed to predict
with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from featx.errors import HeadError
from featx.heads import (
    Features,
    Parameters,
    as_features,
    check_targets,
    check_width,
    row_weights,
    two_columns,
)
from featx.heads.scaling import check_finite
from featx.options import HeadOptions


def estimator_logits(estimator: Any, features: np.ndarray) -> np.ndarray:
    """Return logits float32 (n, k) of a fitted scikit-learn classifier for features (n, d).

    They are its decision function, (0, z) for two classes; without one, the logarithm of its probabilities, with half a
    vote where a class has none.
    """
    if hasattr(estimator, "decision_function"):
        decision = np.asarray(estimator.decision_function(features), dtype=np.float32)
        return decision if decision.ndim == 2 else np.ascontiguousarray(two_columns(decision[None]).T)
    least = 0.5 / getattr(estimator[-1], "n_neighbors", len(estimator.classes_))
    shares = np.asarray(estimator.predict_proba(features), dtype=np.float32)
    return np.log(np.maximum(shares, np.float32(least)))


class _Estimator(Parameters):
    """What the heads with an `estimator_` have in common once they are fitted."""

    classes_: np.ndarray
    n_features_in_: int
    estimator_: Any

    def logits(self, features: Features | np.ndarray) -> np.ndarray:
        """Return float32 (n, k)."""
        features = as_features(features)
        check_width(type(self).__name__, self.n_features_in_, features)
        blocks = [estimator_logits(self.estimator_, np.asarray(block, np.float32)) for block in features.blocks()]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.classes_)), np.float32)

    def _fit(self, classifier: Any, features: Features, y: np.ndarray, **more: Any) -> Self:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        check_finite(features)
        x = features.asarray()
        self.estimator_ = make_pipeline(StandardScaler(), classifier).fit(x, y, **more)
        self.classes_ = np.asarray(self.estimator_.classes_, dtype=np.int64)
        self.n_features_in_ = x.shape[1]
        return self


@dataclass
class Neighbours(_Estimator):
    """The votes of the nearest training images. Weights do not change the votes; rows of weight 0 have none."""

    neighbours: int = 5
    classes_: np.ndarray = field(init=False, repr=False)
    n_features_in_: int = field(init=False, repr=False)
    estimator_: Any = field(init=False, repr=False)

    @classmethod
    def from_options(cls, strength: float, options: HeadOptions, seed: int) -> Self:  # noqa: ARG003 - none applies
        """Build the head of `--clf knn`; `strength` is the number of neighbours."""
        if strength < 1 or strength != int(strength):
            raise HeadError(f"--strength of knn is a whole number of neighbours, got {strength}.")
        return cls(neighbours=int(strength))

    def fit(self, features: Features | np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Keep the features (n, ...) and codes y (n,); at most n neighbours vote."""
        from sklearn.neighbors import KNeighborsClassifier

        features = as_features(features)
        check_targets(features, y, sample_weight)
        if sample_weight is not None and not sample_weight.all():
            features, y = features.take(np.flatnonzero(sample_weight)), y[sample_weight > 0]
        # Brute force: trees do not help above some 15 features, and skops does not load them unasked.
        return self._fit(KNeighborsClassifier(min(self.neighbours, len(y)), algorithm="brute"), features, y)


@dataclass
class KernelSVM(_Estimator):
    """scikit-learn's SVC with the radial kernel, one-vs-rest decisions."""

    C: float = 10.0
    class_weight: str = "none"
    classes_: np.ndarray = field(init=False, repr=False)
    n_features_in_: int = field(init=False, repr=False)
    estimator_: Any = field(init=False, repr=False)

    @classmethod
    def from_options(cls, strength: float, options: HeadOptions, seed: int) -> Self:  # noqa: ARG003 - nothing is drawn
        """Build the head of `--clf svm --kernel rbf`; `strength` is C."""
        return cls(C=strength, class_weight=options.class_weight)

    def fit(self, features: Features | np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit on features (n, ...) and codes y (n,)."""
        from sklearn.svm import SVC

        if not self.C > 0:
            raise HeadError(f"The strength of KernelSVM has to be above 0, got {self.C}.")
        features = as_features(features)
        _, index = check_targets(features, y, sample_weight)
        weight = row_weights(index, sample_weight, self.class_weight)
        return self._fit(SVC(C=self.C, decision_function_shape="ovr"), features, y, svc__sample_weight=weight)
