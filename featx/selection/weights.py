"""Class weights by option."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featx.dataset import TRAIN
from featx.errors import HeadError
from featx.heads.table import HeadKind
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings


def weigh_classes(problem: Problem, settings: SearchSettings) -> tuple[Problem, SearchSettings]:
    """Turn `NAME=WEIGHT,...` into weights of the rows."""
    wanted = settings.options.class_weight
    if settings.options.positive_weight != 1 and problem.target == "class":
        raise HeadError(
            "--positive-weight is for images with several labels. For one class: --class-weight NAME=WEIGHT."
        )
    if wanted in {"none", "balanced"}:
        return problem, settings
    weights = dict.fromkeys(problem.classes, 1.0) | parse_class_weight(wanted, problem.classes)
    if problem.target == "labels":
        raise HeadError("--class-weight takes names where an image has one class. For several labels: balanced.")
    of_class = np.array([weights[name] for name in problem.classes])
    rows = np.ones(len(problem)) if problem.weight is None else problem.weight
    return replace(problem, weight=rows * of_class[problem.y]), settings.changed(class_weight="none")


def class_weights(problem: Problem, settings: SearchSettings) -> np.ndarray | None:
    """How much the classes in train weigh in a fit, float64 (classes in train,); None: all the same.

    Of several labels, what having one weighs against not having it. Weights of rows are another matter. A class of
    weight 0 is never learned, so that there is nothing to correct.
    """
    options, y = settings.options, problem.y[problem.train]
    if problem.target == "labels":
        counts = np.maximum(np.stack([(~y).sum(axis=0), y.sum(axis=0)]), 1)
        balance = counts[0] / counts[1] if options.class_weight == "balanced" else np.ones(y.shape[1])
        weights = options.positive_weight * balance
    elif options.class_weight == "balanced":
        weights = len(y) / np.unique(y, return_counts=True)[1]
    elif options.class_weight != "none":
        named = parse_class_weight(options.class_weight, problem.classes)
        weights = np.array([named.get(problem.classes[code], 1.0) for code in np.unique(y)])
    else:
        return None
    weights = np.where(weights > 0, weights, 1.0)
    same = problem.target == "class" and len(np.unique(weights)) == 1
    return None if same or not (weights != 1).any() else weights


def is_weighed(problem: Problem, settings: SearchSettings) -> bool:
    """Whether some rows or labels weigh more than others that count; those of weight 0 are merely left out."""
    options, weight = settings.options, problem.weight
    named = options.class_weight != "none" or options.positive_weight != 1
    return named or (weight is not None and len(np.unique(weight[(problem.split == TRAIN) & (weight > 0)])) > 1)


def require_weighing(kind: HeadKind) -> None:
    """Refuse a head that weights do not change.

    Raises
    ------
    HeadError
        It is one.
    """
    if not kind.weighs:
        raise HeadError(
            f"--clf {kind.clf} has no weights: --class-weight, --positive-weight and --weight-column would not change "
            "its votes. Choose --clf logreg, svm, ridge or dense, or leave them out."
        )


def parse_class_weight(text: str, classes: tuple[str, ...]) -> dict[str, float]:
    """Weights by class of `NAME=WEIGHT,NAME=WEIGHT`.

    Raises
    ------
    HeadError
        A name that is no class, or a weight that is no number of at least 0.
    """
    found = {}
    for item in text.split(","):
        name, _, number = item.strip().rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = -1.0
        if name not in classes or not 0 <= found[name] < np.inf:
            raise HeadError(
                f"--class-weight is none, balanced, or NAME=WEIGHT,... for classes ({', '.join(classes[:10])}"
                f"{', ...' if len(classes) > 10 else ''}); got {item.strip()!r}."
            )
    return found
