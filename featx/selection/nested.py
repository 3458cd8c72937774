"""Nested cross-validation: the quality of choosing layer, head and strength, estimated without a test part.

With a few hundred images a test part of thirty is known to plus or minus ten points. Here every image is predicted by a
model whose whole search, not just its fit, went without it (Varma and Simon 2006). It measures the procedure; the
bundle's own model is another one, made of more images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from featx.dataset import NONE, TEST, TRAIN, VAL
from featx.errors import HeadError
from featx.features import Features
from featx.metrics.measures import Measures, measure
from featx.metrics.predictions import LabelledPredictions
from featx.selection.folds import make_folds
from featx.selection.layers import LayersChoice, choose_layers
from featx.selection.problem import Problem
from featx.selection.search import widen
from featx.selection.settings import SearchSettings


@dataclass(frozen=True)
class FoldChoice:
    """What was chosen without the images of one fold."""

    outputs: tuple[str, ...]
    clf: str


@dataclass(frozen=True)
class NestedEstimate:
    """How good choices are: what was chosen in each fold, and the measures of all images."""

    chosen: tuple[FoldChoice, ...]
    measures: Measures

    def as_json(self) -> dict[str, object]:
        """As a bundle keeps it."""
        chosen = [asdict(one) | {"outputs": list(one.outputs)} for one in self.chosen]
        return {"folds": len(self.chosen), "chosen": chosen, **self.measures.summary()}


def nested_estimate(tables: Mapping[str, Features], problem: Problem, settings: SearchSettings) -> NestedEstimate:
    """Measure the images of all parts, each predicted by a search that went without it and its views.

    The parameters are those of `choose_layers`. A view is fitted on where its image is.

    Raises
    ------
    HeadError
        Too few images per class to leave any out.
    """
    used = np.flatnonzero((problem.split != NONE) & problem.own)
    groups = None if problem.groups is None else problem.groups[used]
    test_fold = np.full(len(problem), -1)
    test_fold[used] = make_folds(problem.y[used], groups, settings.options.folds, settings.seed + 1)
    folds = int(test_fold.max()) + 1
    if folds < 2:
        raise HeadError("--nested needs two images or more of a class.")
    has_val = bool((problem.split == VAL).any())  # else `auto` has not tried what stops early, either
    inner = replace(settings, show=lambda _: None, recording=None, without_val=has_val).changed(
        search="cv", nested=False, refit=False
    )
    probabilities, thresholds = np.full((2, len(problem), len(problem.classes)), np.nan)
    emphasis = np.ones_like(probabilities)
    chosen = []
    for fold in range(folds):
        found = choose_layers(tables, replace(problem, split=_split_without(problem, test_fold, fold)), inner)
        rows = np.flatnonzero(test_fold == fold)
        probabilities[rows] = _predict(found, tables, rows, problem)
        if found.choice.thresholds is not None:
            thresholds[rows] = found.choice.thresholds
        if (of_classes := found.choice.calibration.emphasis) is not None:
            emphasis[np.ix_(rows, found.choice.head.classes_)] = of_classes
        chosen.append(FoldChoice(found.outputs, found.choice.clf))
        settings.show(f"nested, fold {fold + 1} of {folds}: {' + '.join(found.outputs)}, {found.choice.clf}")
    rows = np.flatnonzero(test_fold >= 0)  # a class of one image cannot be left out
    predictions = LabelledPredictions(
        problem.y[rows],
        probabilities[rows],
        problem.classes,
        thresholds[rows] if problem.target == "labels" else None,
        groups=None if problem.groups is None else problem.groups[rows],
        emphasis=emphasis[rows] if problem.target == "class" else None,
    )
    return NestedEstimate(tuple(chosen), measure(predictions))


def _split_without(problem: Problem, test_fold: np.ndarray, fold: int) -> np.ndarray:
    """The images of a fold are test, the others train, uint8 (n,); views are where their image is, but never test."""
    split = np.where(test_fold == fold, TEST, TRAIN).astype(np.uint8)
    split[(problem.split == NONE) | ~problem.own] = NONE
    if problem.image_of is None:
        return split
    of_image = split[problem.image_of]
    return np.where(problem.own | (of_image == TRAIN), of_image, np.uint8(NONE))


def _predict(found: LayersChoice, tables: Mapping[str, Features], rows: np.ndarray, problem: Problem) -> np.ndarray:
    """Probabilities float64 (rows, classes)."""
    logits = found.logits({name: table.take(rows) for name, table in tables.items()})
    calibration, classes = found.choice.calibration, np.arange(len(problem.classes))
    of_each = calibration.kind != "temperature" or calibration.correction is not None
    if problem.target == "class" and of_each:  # a curve, or a correction, for each class that was there
        probabilities = np.zeros((len(rows), len(classes)))
        probabilities[:, found.choice.head.classes_] = calibration.probabilities(logits)
        return probabilities
    if problem.target == "class":
        logits = widen(logits, found.choice.head.classes_, classes)
    return calibration.probabilities(logits)
