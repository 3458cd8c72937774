"""Weights of classes by option."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featx.errors import HeadError
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings


def weigh_classes(problem: Problem, settings: SearchSettings) -> tuple[Problem, SearchSettings]:
    """Turn `NAME=WEIGHT,...` into weights of the rows."""
    wanted = settings.options.class_weight
    if wanted in {"none", "balanced"}:
        return problem, settings
    weights = dict.fromkeys(problem.classes, 1.0) | parse_class_weight(wanted, problem.classes)
    if problem.target == "labels":
        raise HeadError("--class-weight takes names where an image has one class. For several labels: balanced.")
    of_class = np.array([weights[name] for name in problem.classes])
    rows = np.ones(len(problem)) if problem.weight is None else problem.weight
    return replace(problem, weight=rows * of_class[problem.y]), settings.changed(class_weight="none")


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
