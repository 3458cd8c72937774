"""The head of `--clf estimator`: any classifier that follows scikit-learn's conventions, by its dotted path.

scikit-learn's own, those of other packages, and one's own modules. What is not scikit-learn's is imported because the
option names it (or because it is a plug-in, which was installed under a name); how it is kept: `featx.heads.kept`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from featx.config.head import HeadOptions, plugin_of
from featx.errors import HeadError, ModuleError
from featx.features import Features, as_features
from featx.heads.base import Params, check_targets, row_weights, signed_targets
from featx.heads.estimators import ODDS, FittedEstimator, cannot_be_fitted
from featx.heads.kept import Kept, keep
from featx.io.counting import counted
from featx.io.modules import import_named, named_modules
from featx.io.plugins import find_plugins

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline

_LIBRARY = "sklearn"


@dataclass
class Estimator(FittedEstimator):
    """A classifier by its dotted path; of several labels per row, one for each."""

    path: str
    params: Params
    seed: int = 0
    class_weight: str = "none"
    positive_weight: float = 1.0
    classes_: np.ndarray = field(init=False, repr=False)
    n_features_in_: int = field(init=False, repr=False)
    estimator_: Pipeline = field(init=False, repr=False)
    kept_: Kept | None = field(init=False, repr=False, default=None)

    @classmethod
    def from_options(cls, strength: float, options: HeadOptions, seed: int) -> Self:
        """Build the head of `--clf estimator`, or of a plug-in; `strength` is the position in `grid_points`."""
        params = grid_points(options)[int(strength)]
        return cls(class_path(options), params, seed, options.class_weight, options.positive_weight)

    def fit(self, features: Features | np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit on features (n, ...) and codes y (n,) or labels y bool (n, k)."""
        features = as_features(features)
        classes, index = check_targets(features, y, sample_weight)
        classifier = make_classifier(self.path, self.params, self.seed)
        weight = self._weights(classifier, index, sample_weight)
        fit_one = _fit_labels if y.ndim == 2 else _fit_classes
        self.kept_ = None
        self._keep(lambda x: fit_one(classifier, x, index, weight), features)
        self.classes_ = classes
        _require_logits(self)
        return self

    def keep(self) -> Kept:
        """The fitted classifier as a file; made once."""
        if self.kept_ is None:
            self.kept_ = keep(self.estimator_, self.path)
        return self.kept_

    def _weights(
        self, classifier: BaseEstimator, index: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray | None:
        """Weights float64 of rows (n,), or of each label of each row (n, k); None where all weigh the same."""
        from sklearn.utils.validation import has_fit_parameter

        if sample_weight is None and self.class_weight == "none" and self.positive_weight == 1:
            return None
        if not has_fit_parameter(classifier, "sample_weight"):
            raise HeadError(
                f"{self.path} takes no weights of rows here, and neither --class-weight nor --weight-column would "
                "change it. Choose --clf logreg, svm, ridge or dense, or leave them out."
            )
        if index.ndim == 1:
            return row_weights(index, sample_weight, self.class_weight)
        weight = np.asarray(np.abs(signed_targets(index, self.class_weight, self.positive_weight)), np.float64)
        return weight if sample_weight is None else weight * np.asarray(sample_weight)[:, None]


def _fit_classes(
    classifier: BaseEstimator, x: np.ndarray, index: np.ndarray, weight: np.ndarray | None
) -> BaseEstimator:
    more = {} if weight is None else {"sample_weight": weight}
    try:
        fitted: BaseEstimator = classifier.fit(x, index, **more)
    except Exception as error:  # whatever the code of somebody else raises
        raise cannot_be_fitted(type(classifier).__name__, len(x), error) from error
    return classifier if fitted is None else fitted


def _fit_labels(classifier: BaseEstimator, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> BaseEstimator:
    """One classifier for each label, as scikit-learn's OneVsRestClassifier has them, each with weights of its own."""
    from sklearn.base import clone
    from sklearn.dummy import DummyClassifier
    from sklearn.multiclass import OneVsRestClassifier

    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of labels that never differ: notes have them
        shell = OneVsRestClassifier(DummyClassifier()).fit(x[:, :1], y)
    shell.estimator = classifier
    shell.estimators_ = [
        _fit_classes(clone(classifier), x, y[:, label].astype(np.int64), None if weight is None else weight[:, label])
        if isinstance(one, DummyClassifier)
        else one
        for label, one in enumerate(shell.estimators_)
    ]
    shell.n_features_in_ = x.shape[1]
    setattr(shell, ODDS, True)
    return shell


def _require_logits(head: Estimator) -> None:
    """Refuse a classifier that cannot rank classes, by one row."""
    try:
        found = head.logits(np.zeros((1, head.n_features_in_), np.float32))
    except Exception as error:  # whatever the code of somebody else raises
        line = " ".join(str(error).split()).rstrip(".")
        raise HeadError(
            f"{head.path} can be fitted, but gives no confidences ({line[:200]}). It needs decision_function or "
            "predict_proba, with a column for each class."
        ) from error
    if found.shape != (1, len(head.classes_)) or not np.isfinite(found).all():
        raise HeadError(
            f"{head.path} gives {' x '.join(map(str, found.shape))} confidences, or some that are not finite, for one "
            f"image and {counted(len(head.classes_), 'class', 'classes')}. decision_function or predict_proba "
            "needs a column for each class."
        )


def class_path(options: HeadOptions) -> str:
    """The dotted path of the classifier that the options name; a plug-in stands for one."""
    plugin = plugin_of(options.clf)
    return (options.estimator or "") if plugin is None else plugin.path


def grid_points(options: HeadOptions) -> list[Params]:
    """Every combination of the values in `grid`; one empty combination without a grid.

    Raises
    ------
    HeadError
        A grid whose values are not lists.
    """
    from sklearn.model_selection import ParameterGrid

    grid = options.grid or {}
    if not all(isinstance(values, list) and values for values in grid.values()):
        raise HeadError(f"head.grid gives each parameter a list of values, like {{max_depth: [3, 6]}}; got {grid}.")
    return [dict(point) for point in ParameterGrid(grid)]


def make_classifier(path: str, params: Params, seed: int) -> BaseEstimator:
    """An unfitted classifier; where it draws, it draws from `seed`.

    Raises
    ------
    HeadError
        A path that names no classifier of scikit-learn's kind, or parameters that it does not have.
    ModuleError
        Its module cannot be imported.
    """
    from sklearn.base import is_classifier

    kind = _find_class(path)
    try:
        made = kind()
    except Exception as error:  # whatever the code of somebody else raises
        raise _not_a_classifier(path, error) from error
    try:
        classifies, known = is_classifier(made), made.get_params()
    except Exception:  # as above
        classifies, known = False, {}
    if not classifies:
        raise _not_a_classifier(
            path, "it is not a classifier, which inherits from ClassifierMixin and BaseEstimator, in this order"
        )
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise HeadError(f"{path} has no parameter {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    drawn = {"random_state": seed} if "random_state" in known else {}
    return kind(**(drawn | params))


def _find_class(path: str) -> type[BaseEstimator]:
    plugged = [one for one in find_plugins("featx.heads").values() if one.path == path]
    if plugged:
        named_modules().allow(plugged[0].root)
    kind: object = plugged[0].load() if plugged else _import_class(path)
    if not isinstance(kind, type):
        raise _not_a_classifier(path, "it is not a class")
    return kind


def _import_class(path: str) -> object:
    module, _, name = path.rpartition(".")
    if not module or module == "__main__":
        raise _not_a_classifier(path, "put it into a module, a .py file in the folder you are in")
    if module.partition(".")[0] != _LIBRARY:
        named_modules().allow(module.partition(".")[0])
    try:
        kind: object = getattr(import_named(module), name)
        return kind
    except (ModuleError, AttributeError) as error:
        if isinstance(error, ModuleError) and module.partition(".")[0] != _LIBRARY:
            raise ModuleError(str(error).replace(f"--import {module}", f"--estimator {path}")) from error
        raise _not_a_classifier(path, error) from error


def _not_a_classifier(path: str, reason: object) -> HeadError:
    line = " ".join(str(reason).split()).rstrip(".")
    return HeadError(
        "--estimator is a class that follows the conventions of a classifier of scikit-learn, with its module, like "
        f"sklearn.ensemble.RandomForestClassifier or my_module.MyClassifier; got {path!r}: {line[:300]}."
    )
