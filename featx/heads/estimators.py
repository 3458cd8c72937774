"""Heads that scikit-learn fits, on standardised features: nearest neighbours, the SVM with a radial kernel, and what
they share with classifiers by name (`featx.heads.classifiers`).

`estimator_` is a plain scikit-learn pipeline, which skops saves; `estimator_logits` is all that is needed to predict
with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from featx.config import HeadOptions
from featx.errors import HeadError
from featx.features import Features, as_features
from featx.heads.base import Parameters, check_targets, check_width, row_weights, two_columns
from featx.heads.scaling import check_finite, standardize
from featx.io.counting import counted

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

ODDS = "featx_odds_"
"""An attribute of classifiers of several labels whose logits are log odds; up to 0.2.0 they were log probabilities"""
_LEAST = 1e-6  # the probability that is taken for 0 where it is not made of votes


def estimator_logits(estimator: Pipeline, features: np.ndarray) -> np.ndarray:
    """Return logits float32 (n, k) of a fitted scikit-learn classifier for features (n, d).

    They are its decision function, (0, z) for two classes; without one, the logarithm of its probabilities, with half a
    vote where a class has none. Of several labels per row, each has the logarithm of its odds.
    """
    last = estimator[-1]
    if getattr(last, "outputs_2d_", False):
        return _label_odds(estimator, features)
    if hasattr(estimator, "decision_function"):
        decision = np.asarray(estimator.decision_function(features), dtype=np.float32)
        return decision if decision.ndim == 2 else np.ascontiguousarray(two_columns(decision[None]).T)
    least = np.float32(_least_share(last))
    shares = np.asarray(estimator.predict_proba(features), dtype=np.float32)
    if not hasattr(last, ODDS):
        return np.asarray(np.log(np.maximum(shares, least)))
    inside = np.clip(shares, least, 1 - least)
    return np.asarray(np.log(inside / (1 - inside)))


def _least_share(classifier: BaseEstimator) -> float:
    """Half a vote of what votes, neighbours or the trees of a forest; else next to nothing."""
    one = classifier.estimator if hasattr(classifier, ODDS) else classifier
    forest = type(one).__module__.startswith("sklearn.ensemble._forest")
    votes: float = one.n_estimators if forest else getattr(one, "n_neighbors", 0.5 / _LEAST)
    return 0.5 / votes


def _label_odds(neighbours: Pipeline, features: np.ndarray) -> np.ndarray:
    """Votes for each label against those without it, half a vote at least on either side."""
    least = 0.5 / neighbours[-1].n_neighbors
    shares = neighbours.predict_proba(features)  # one array for each label, of a single column where all are alike
    votes = [one @ known.astype(np.float64) for one, known in zip(shares, neighbours[-1].classes_, strict=True)]
    share = np.clip(np.stack(votes, axis=1), least, 1 - least)
    return np.asarray(np.log(share / (1 - share)), np.float32)


class FittedEstimator(Parameters):
    """What the heads with an `estimator_` have in common once they are fitted."""

    classes_: np.ndarray
    n_features_in_: int
    estimator_: Pipeline

    def logits(self, features: Features | np.ndarray) -> np.ndarray:
        """Return float32 (n, k)."""
        features = as_features(features)
        check_width(type(self).__name__, self.n_features_in_, features)
        blocks = [estimator_logits(self.estimator_, np.asarray(block, np.float32)) for block in features.blocks()]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.classes_)), np.float32)

    def _fit(self, classifier: BaseEstimator, features: Features, y: np.ndarray, **weights: np.ndarray) -> Self:
        def fit(x: np.ndarray) -> BaseEstimator:
            try:
                return classifier.fit(x, y, **weights)
            except (ValueError, IndexError) as error:  # wrong parameters, classes of too few rows
                raise cannot_be_fitted(type(classifier).__name__, len(y), error) from error

        self._keep(fit, features)
        self.classes_ = np.arange(y.shape[1]) if y.ndim == 2 else np.asarray(self.estimator_.classes_, np.int64)
        return self

    def _keep(self, fit: Callable[[np.ndarray], BaseEstimator], features: Features) -> None:
        """Standardise, and let `fit` make a classifier of the rows."""
        from sklearn.pipeline import make_pipeline

        scaler, x = fit_scaler(features)
        self.estimator_ = make_pipeline(scaler, fit(scaler.transform(x)))
        self.n_features_in_ = x.shape[1]


def cannot_be_fitted(name: str, rows: int, error: Exception) -> HeadError:
    """The error of a classifier that refuses the rows."""
    line = " ".join(str(error).split()).rstrip(".")
    return HeadError(
        f"{name} cannot be fitted on {counted(rows, 'row')}: {line or type(error).__name__}. "
        "Change its parameters or the weights, or choose another --clf."
    )


def fit_scaler(features: Features) -> tuple[StandardScaler, np.ndarray]:
    """A fitted scaler, and the features as they are. It divides by the spreads of `standardize`.

    So what was constant in training is 0 for every image. scikit-learn would leave such a feature unscaled: one that
    differs later outweighs all the others.
    """
    from sklearn.preprocessing import StandardScaler

    check_finite(features)
    x = features.asarray()
    scaler = StandardScaler().fit(x)
    with np.errstate(divide="ignore"):
        scaler.scale_ = 1 / standardize(features).inverse
    return scaler, x


def total_variance(scaler: StandardScaler) -> float:
    """The variances of all features behind a scaler of `fit_scaler`, summed: the inverse of scikit-learn's "scale"."""
    return float(np.sum(scaler.var_ / scaler.scale_**2)) or 1.0


@dataclass
class Neighbours(FittedEstimator):
    """The votes of the nearest training images. Weights do not change the votes; rows of weight 0 have none."""

    neighbours: int = 5
    classes_: np.ndarray = field(init=False, repr=False)
    n_features_in_: int = field(init=False, repr=False)
    estimator_: Pipeline = field(init=False, repr=False)

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
class KernelSVM(FittedEstimator):
    """scikit-learn's SVC with the radial kernel, one-vs-rest decisions.

    gamma : times scikit-learn's gamma="scale", which is 1 / the variances of all standardised features
    """

    C: float = 10.0
    class_weight: str = "none"
    gamma: float = 1.0
    classes_: np.ndarray = field(init=False, repr=False)
    n_features_in_: int = field(init=False, repr=False)
    estimator_: Pipeline = field(init=False, repr=False)

    @classmethod
    def from_options(cls, strength: float, options: HeadOptions, seed: int) -> Self:  # noqa: ARG003 - nothing is drawn
        """Build the head of `--clf svm --kernel rbf`; `strength` is C."""
        return cls(C=strength, class_weight=options.class_weight, gamma=options.gamma or 1.0)

    def fit(self, features: Features | np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit on features (n, ...) and codes y (n,)."""
        from sklearn.svm import SVC

        if not self.C > 0:
            raise HeadError(f"The strength of KernelSVM must be above 0, got {self.C}.")
        features = as_features(features)
        _, index = check_targets(features, y, sample_weight)
        if y.ndim == 2:
            raise HeadError(
                "The radial kernel predicts one class per image. For several labels choose --clf logreg, svm, ridge, "
                "knn or dense."
            )
        weight = kernel_weights(index, sample_weight, self.class_weight)
        gamma = "scale" if self.gamma == 1 else self.gamma / total_variance(fit_scaler(features)[0])
        svm = SVC(C=self.C, gamma=gamma, decision_function_shape="ovr")
        return self._fit(svm, features, y, sample_weight=weight)


def kernel_weights(index: np.ndarray, sample_weight: np.ndarray | None, class_weight: str) -> np.ndarray:
    """Weights float64 (n,) of the rows of a radial kernel.

    Raises
    ------
    HeadError
        A class without weight, which SVC leaves out, to fail when it is asked.
    """
    weight = row_weights(index, sample_weight, class_weight)
    if not np.bincount(index, weight).all():
        raise HeadError(
            "The radial kernel needs some weight in every class, and got a class of weight 0. Give it a small one, "
            "like 0.01, leave the class out by --classes, or choose --clf logreg."
        )
    return weight
