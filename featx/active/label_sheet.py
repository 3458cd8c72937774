"""The images that a person labels, with what is suggested of each: by a model, or by the list that `featx next` wrote.

read_sheet   paths and labels of the data, and of other labelled images
of_list      the suggestions of a list of `featx next`
suggest      those of a model, which is asked once for every image, and how likely it finds the labels of the data
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from featx.active.answers import PoolAnswers, ask, probability_of
from featx.active.pool import Pool, ask_pool
from featx.bundle.bundle import Bundle
from featx.config import DataOptions, FeaturesOptions, Pipeline
from featx.dataset import SPLITS, ImageSet, read_data, read_images
from featx.dataset.folders import expand, is_folder
from featx.dataset.list_columns import read_columns
from featx.dataset.table import is_table
from featx.io.progress import Progress
from featx.serve.label_types import LabelSheet
from featx.store.cache import Cache

Cell = TypeVar("Cell")

_LISTED = ("suggestion", "confidence", "reason")
_CHECKED = ("suggested", "confidence", "label_confidence")  # of label_errors.csv
_SEPARATOR = "|"  # between the labels that featx next suggests


@dataclass(frozen=True)
class LabelData:
    """What is to be labelled. images : of the data and the labelled ones; classes : of both, in their order

    sets : the images of the data, then the labelled ones that are not among them
    """

    images: ImageSet
    sheet: LabelSheet
    classes: tuple[str, ...]
    separator: str | None
    sets: tuple[ImageSet, ...]
    notes: tuple[str, ...]


def read_sheet(pipeline: Pipeline, labelled: str | None) -> LabelData:
    """Read the data, and images that have labels already.

    Raises
    ------
    DataError
        There are no images, or a CSV cannot be read.
    """
    data = read_data(pipeline)
    separator = pipeline.data.label_separator or (_SEPARATOR if data.multilabel else None)
    sets, seen = [data], set(data.paths)
    if labelled is not None:
        options = DataOptions(label_separator=separator if _is_csv(labelled) else None)
        more = read_images(labelled, options)
        sets.append(more.take(np.array([path not in seen for path in more.paths], bool)))
    sheet = LabelSheet([], [], [])
    for images in sets:
        sheet.paths += images.paths
        sheet.given += [images.label_names(row) for row in range(len(images))]
        parts = [""] * len(images) if images.declared is None else [_part(code) for code in images.declared.tolist()]
        sheet.split += parts
    columns = _of_list(pipeline.data)
    suggestion = columns.get("suggestion", columns.get("suggested", []))
    n = len(sheet.paths)
    sheet = replace(
        sheet,
        suggestion=_filled([_labels(text, separator) for text in suggestion], None, n),
        confidence=_filled([_number(text) for text in columns.get("confidence", [])], None, n),
        reason=_filled(columns.get("reason", []), "", n),
        wrong=_filled([_opposite(text) for text in columns.get("label_confidence", [])], None, n),
    )
    names = (name for labels in sheet.suggestion if labels for name in labels)
    classes = dict.fromkeys([*(pipeline.data.classes or ()), *(name for one in sets for name in one.classes), *names])
    images = ImageSet(data.source, data.name, tuple(sheet.paths))
    return LabelData(images, sheet, tuple(classes), separator, tuple(sets), tuple(x for one in sets for x in one.notes))


def suggest(data: LabelData, sheet: LabelSheet, bundle: Bundle, pool: Pool, progress: Progress) -> LabelSheet:
    """The sheet with what a model suggests. pool : the features of its images"""
    answers = ask(bundle, pool.features, progress)
    suggestion, confidence = list(sheet.suggestion), list(sheet.confidence)
    several = data.separator is not None
    for place, row in enumerate(pool.rows.tolist()):
        suggestion[row] = _suggested(bundle, answers, place, several)
        confidence[row] = round(float(answers.confidence[place]), 4)
    return replace(sheet, suggestion=suggestion, confidence=confidence, wrong=_doubted(sheet, bundle, pool))


def _doubted(sheet: LabelSheet, bundle: Bundle, pool: Pool) -> list[float | None]:
    """1 minus the probability of the label that an image has in the data, where that is not known already."""
    code_of = {name: code for code, name in enumerate(bundle.classes)}
    given = [sheet.given[row] for row in pool.rows.tolist()]
    codes = np.array([code_of.get(labels[0], -1) if len(labels) == 1 else -1 for labels in given], np.int64)
    wrong = list(sheet.wrong)
    if bundle.multilabel or not (codes >= 0).any():
        return wrong
    places = np.flatnonzero(codes >= 0)
    sure = probability_of(bundle, pool.features.take(places), codes[places])
    for row, value in zip(pool.rows[places].tolist(), sure.tolist(), strict=True):
        if wrong[row] is None:
            wrong[row] = round(1 - value, 4)
    return wrong


def features_of(data: LabelData, options: FeaturesOptions, bundle: Bundle, cache: Cache, progress: Progress) -> Pool:
    """The features that a model predicts from, of all images."""
    return ask_pool(data.images, options, bundle, np.empty(0, "V32"), cache, progress)


def _suggested(bundle: Bundle, answers: PoolAnswers, place: int, several: bool) -> tuple[str, ...]:
    if answers.labels is None or not several:
        return (bundle.classes[int(answers.first[place])],)
    return tuple(name for code, name in enumerate(bundle.classes) if answers.labels[place, code] >= 0)


def _of_list(options: DataOptions) -> dict[str, list[str]]:
    path = expand(options.path or "")
    return {} if is_folder(path) or not is_table(path, options) else read_columns(path, options, (*_LISTED, *_CHECKED))


def _is_csv(source: str) -> bool:
    path = expand(source)
    return not is_folder(path) and is_table(path, DataOptions())


def _labels(text: str, separator: str | None) -> tuple[str, ...] | None:
    if not text.strip():
        return None
    return tuple(text.split(_SEPARATOR)) if separator is not None else (text,)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _opposite(text: str) -> float | None:
    value = _number(text)
    return None if value is None else round(1 - value, 4)


def _filled(found: list[Cell], rest: Cell, n: int) -> list[Cell]:
    return found + [rest] * (n - len(found))


def _part(code: int) -> str:
    return SPLITS[code] if code < len(SPLITS) else ""
