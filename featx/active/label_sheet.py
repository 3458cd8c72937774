"""The images that a person labels, with what is suggested of each: by a model, or by the list that `featx next` wrote.

read_sheet   paths and labels of the data, and of other labelled images
of_list      the suggestions of a list of `featx next`
suggest      those of a model, which is asked once for every image
search_near  the features by which labelled images that are alike are found
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from featx.active.answers import PoolAnswers, ask
from featx.active.pool import Pool, ask_pool, one_output
from featx.bundle.bundle import Bundle
from featx.config import DataOptions, FeaturesOptions, Pipeline
from featx.dataset import SPLITS, ImageSet, read_data, read_images
from featx.dataset.folders import expand, is_folder
from featx.dataset.list_columns import read_columns
from featx.dataset.table import is_table
from featx.errors import FeatxError
from featx.extraction.flow import extract
from featx.extraction.job import settle
from featx.features import Features
from featx.io.progress import Progress, no_progress
from featx.metrics.similarity import nearest
from featx.serve.label_desk import LabelSheet, Neighbours
from featx.store.cache import Cache

Cell = TypeVar("Cell")

_LISTED = ("suggestion", "confidence", "reason")
_SEPARATOR = "|"  # between the labels that featx next suggests
_MOST = 20_000  # labelled images that are compared with one


@dataclass(frozen=True)
class LabelData:
    """What is to be labelled. images : of the data and the labelled ones; classes : of both, in their order

    own : how many of the images, the first ones, are those of the data
    """

    images: ImageSet
    sheet: LabelSheet
    classes: tuple[str, ...]
    separator: str | None
    own: int
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
    suggestion = columns.get("suggestion", [])
    n = len(sheet.paths)
    sheet = replace(
        sheet,
        suggestion=_filled([_labels(text, separator) for text in suggestion], None, n),
        confidence=_filled([_number(text) for text in columns.get("confidence", [])], None, n),
        reason=_filled(columns.get("reason", []), "", n),
    )
    names = (name for labels in sheet.suggestion if labels for name in labels)
    classes = dict.fromkeys([*(pipeline.data.classes or ()), *(name for one in sets for name in one.classes), *names])
    images = ImageSet(data.source, data.name, tuple(sheet.paths))
    return LabelData(images, sheet, tuple(classes), separator, len(data), tuple(x for one in sets for x in one.notes))


def suggest(data: LabelData, sheet: LabelSheet, bundle: Bundle, pool: Pool, progress: Progress) -> LabelSheet:
    """The sheet with what a model suggests. pool : the features of its images"""
    answers = ask(bundle, pool.features, progress)
    suggestion, confidence = list(sheet.suggestion), list(sheet.confidence)
    several = data.separator is not None
    for place, row in enumerate(pool.rows.tolist()):
        suggestion[row] = _suggested(bundle, answers, place, several)
        confidence[row] = round(float(answers.confidence[place]), 4)
    reason = [text if text else "" for text in sheet.reason]
    return replace(sheet, suggestion=suggestion, confidence=confidence, reason=reason)


def features_of(data: LabelData, options: FeaturesOptions, bundle: Bundle, cache: Cache, progress: Progress) -> Pool:
    """The features that a model predicts from, of all images."""
    return ask_pool(data.images, options, bundle, np.empty(0, "V32"), cache, progress)


def search_near(rows: np.ndarray, features: Features, n: int) -> Neighbours:
    """Find rows that are alike by their features. rows : int64 (m,), of the features, among n"""
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))

    def find(row: int, among: Sequence[int]) -> list[tuple[int, float]]:
        others = [other for other in among[-_MOST:] if place[other] >= 0]
        if place[row] < 0 or not others:
            return []
        query = features.take(place[[row]]).asarray()
        position, similarity = nearest(features.take(place[others]), query, 6)
        return [(others[at], float(value)) for at, value in zip(position[0].tolist(), similarity[0], strict=True)]

    return find


def cached_near(data: LabelData, options: FeaturesOptions, cache: Cache) -> Neighbours | None:
    """The same without a model, where the cache has the features of these options already; nothing is computed."""
    if not cache.stores():
        return None
    try:
        job = settle(options, cache)
        if not any(store.key == job.store.key for store in cache.stores()):
            return None
        done = extract(data.images, options, cache, no_progress)
        rows = np.flatnonzero(done.readable)
        return search_near(rows, done.features(one_output(done), rows), len(data.images))
    except FeatxError:  # the pictures beside are a help, and labelling goes without
        return None


def _suggested(bundle: Bundle, answers: PoolAnswers, place: int, several: bool) -> tuple[str, ...]:
    if answers.labels is None or not several:
        return (bundle.classes[int(answers.first[place])],)
    return tuple(name for code, name in enumerate(bundle.classes) if answers.labels[place, code] >= 0)


def _of_list(options: DataOptions) -> dict[str, list[str]]:
    path = expand(options.path or "")
    return {} if is_folder(path) or not is_table(path, options) else read_columns(path, options, _LISTED)


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


def _filled(found: list[Cell], rest: Cell, n: int) -> list[Cell]:
    return found + [rest] * (n - len(found))


def _part(code: int) -> str:
    return SPLITS[code] if code < len(SPLITS) else ""
