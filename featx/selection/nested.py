"""Nested cross-validation: how good is a choice of layer, head and strength, told without a test part.

With a few hundred images a test part of thirty says plus or minus ten points. Here every image is predicted by a model
whose whole search, not just its fit, went without it (Varma and Simon 2006). It measures the procedure; the bundle's
own model is another one, made of more images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from featx.config import HeadOptions
from featx.dataset import NONE, TEST, TRAIN
from featx.errors import HeadError
from featx.features import Features
from featx.metrics.measures import measure, measure_labels, summary
from featx.selection.folds import make_folds
from featx.selection.layers import choose_layers
from featx.selection.search import widen


def nested_estimate(
    tables: Mapping[str, Features],
    y: np.ndarray,
    split: np.ndarray,
    classes: tuple[str, ...],
    options: HeadOptions,
    *,
    groups: np.ndarray | None = None,
    view_of: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Metrics of the images of all parts, each predicted by a search that went without it and its views.

    The parameters are those of `choose_layers`. A view is fitted on where its image is.

    Returns
    -------
    dict
        folds, chosen (layers and head of each fold), and the metrics of `featx.evaluate`

    Raises
    ------
    HeadError
        Too few images per class to leave any out.
    """
    image = np.arange(len(split)) if view_of is None else view_of
    own = image == np.arange(len(split))
    used = np.flatnonzero((split != NONE) & own)
    outer = make_folds(y[used], None if groups is None else groups[used], options.folds, seed + 1)
    if outer.max() < 1:
        raise HeadError("--nested needs two images or more of a class.")
    inner = replace(options, search="cv", nested=False, refit=False)
    chances, given = np.full((len(used), len(classes)), np.nan), np.zeros((len(used), len(classes)), bool)
    chosen = []
    for fold in range(outer.max() + 1):
        part = np.full(len(split), NONE, np.uint8)
        here = outer == fold
        part[used] = np.where(here, TEST, TRAIN)
        part = np.where(own | (part[image] == TRAIN), part[image], np.uint8(NONE))
        found = choose_layers(
            tables, y, part, classes, inner, groups=groups, view_of=view_of, sample_weight=sample_weight, seed=seed
        )
        logits = found.logits({name: table.take(used[here]) for name, table in tables.items()})
        choice = found.choice
        if y.ndim == 1:
            logits = widen(logits, choice.head.classes_, np.arange(len(classes)))
        chances[here] = choice.calibration.probabilities(logits)
        if choice.thresholds is not None:
            given[here] = chances[here] >= choice.thresholds
        chosen.append({"outputs": list(found.outputs), "clf": choice.clf})
        tell(f"nested, fold {fold + 1} of {outer.max() + 1}: {' + '.join(found.outputs)}, {choice.clf}")
    judged = outer >= 0  # a class of one image cannot be left out
    truth = y[used][judged]
    if y.ndim == 1:
        figures = measure(truth, chances[judged], classes)
    else:
        figures = measure_labels(truth, chances[judged], classes, given[judged])
    return {"folds": int(outer.max()) + 1, "chosen": chosen, **summary(figures)}
