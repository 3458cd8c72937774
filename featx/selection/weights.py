"""Weights of classes by option."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featx.config import HeadOptions
from featx.errors import HeadError

if TYPE_CHECKING:
    pass


def weigh_classes(
    options: HeadOptions, y: np.ndarray, classes: tuple[str, ...], sample_weight: np.ndarray | None
) -> tuple[HeadOptions, np.ndarray | None]:
    """Turn `NAME=WEIGHT,...` into weights of the rows."""
    if options.class_weight in {"none", "balanced"}:
        return options, sample_weight
    weights = dict.fromkeys(classes, 1.0) | parse_class_weight(options.class_weight, classes)
    if y.ndim == 2:
        raise HeadError("--class-weight takes names where an image has one class. For several labels: balanced.")
    of_class = np.array([weights[name] for name in classes])
    rows = np.ones(len(y)) if sample_weight is None else sample_weight
    return replace(options, class_weight="none"), rows * of_class[y]


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
