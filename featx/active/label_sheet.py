"""The images to label, with suggestions from a model or from the list that `featx next` wrote.

read_sheet   paths and labels of the data, and of other labelled images
of_list      the suggestions of a list of `featx next`
suggest      those of a model, which is asked once for every image, and how likely it finds the labels of the data
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featx.active.answers import PoolAnswers, ask, probability_of
from featx.active.pool import Pool, ask_pool
from featx.bundle.bundle import Bundle
from featx.config import DataOptions, FeaturesOptions, Pipeline
from featx.dataset import SPLITS, ImageSet, read_data, read_images
from featx.dataset.folders import expand, is_folder
from featx.dataset.list_columns import read_columns
from featx.dataset.table import is_table
from featx.io.compact import Coded, Paths, RowLookup
from featx.io.progress import Progress
from featx.serve.label_types import Labels, LabelSheet
from featx.store.cache import Cache

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
    sets = [data]
    if labelled is not None:
        options = DataOptions(label_separator=separator if _is_csv(labelled) else None)
        more = read_images(labelled, options)
        seen = RowLookup(data.paths)
        sets.append(more.take(np.array([seen.find(path) is None for path in more.paths], bool)))
    sheet = _listed(LabelSheet.plain(*_joined(sets)), _of_list(pipeline.data), separator)
    names = (name for labels in sheet.suggestion.values if labels for name in labels)
    classes = dict.fromkeys([*(pipeline.data.classes or ()), *(name for one in sets for name in one.classes), *names])
    images = ImageSet(data.source, data.name, sheet.paths)
    return LabelData(images, sheet, tuple(classes), separator, tuple(sets), tuple(x for one in sets for x in one.notes))


def _joined(sets: list[ImageSet]) -> tuple[Sequence[str], Coded[Labels], Coded[str]]:
    """Paths, labels and parts of all sets, one after the other."""
    paths = sets[0].paths if len(sets) == 1 else Paths(path for images in sets for path in images.paths)
    given, split = _given(sets[0]), _parts(sets[0])
    for images in sets[1:]:
        given, split = given.followed_by(_given(images)), split.followed_by(_parts(images))
    return paths, given, split


def _given(images: ImageSet) -> Coded[Labels]:
    if images.labels is not None and not images.multilabel:
        names = tuple((name,) for name in images.classes)
        return Coded(np.where(images.labels < 0, len(names), images.labels).astype(np.int32), (*names, ()))
    return Coded.of(map(images.label_names, range(len(images))), len(images))


def _parts(images: ImageSet) -> Coded[str]:
    if images.declared is None:
        return Coded.same("", len(images))
    return Coded(np.minimum(images.declared, len(SPLITS)).astype(np.int32), (*SPLITS, ""))


def _listed(sheet: LabelSheet, columns: dict[str, list[str]], separator: str | None) -> LabelSheet:
    """The sheet with what the list of `featx next` or `featx check` says of its first images."""
    suggestion = columns.get("suggestion", columns.get("suggested", []))
    confidence, sure = columns.get("confidence", []), columns.get("label_confidence", [])
    labels = Coded.of((_labels(text, separator) for text in suggestion), len(suggestion))
    reasons = Coded.of(columns.get("reason", []))
    return replace(
        sheet,
        suggestion=sheet.suggestion.replaced(np.arange(len(labels)), labels),
        confidence=_filled([_number(text) for text in confidence], sheet.confidence),
        reason=sheet.reason.replaced(np.arange(len(reasons)), reasons),
        wrong=_filled([round(1 - _number(text), 4) for text in sure], sheet.wrong),
    )


def suggest(data: LabelData, sheet: LabelSheet, bundle: Bundle, pool: Pool, progress: Progress) -> LabelSheet:
    """The sheet with what a model suggests. pool : the features of its images"""
    answers = ask(bundle, pool.features, progress, distances=False)
    confidence = sheet.confidence.copy()
    confidence[pool.rows] = np.round(answers.confidence.astype(np.float64), 4)
    suggestion = sheet.suggestion.replaced(pool.rows, _suggested(bundle, answers, data.separator is not None))
    return replace(sheet, suggestion=suggestion, confidence=confidence, wrong=_doubted(sheet, bundle, pool))


def _doubted(sheet: LabelSheet, bundle: Bundle, pool: Pool) -> np.ndarray:
    """1 minus the probability of the label that an image has in the data, where that is not known already."""
    code_of = {name: code for code, name in enumerate(bundle.classes)}
    known = [code_of.get(labels[0], -1) if len(labels) == 1 else -1 for labels in sheet.given.values]
    codes = np.array(known, np.int64)[sheet.given.codes[pool.rows]]
    wrong = sheet.wrong.copy()
    places = np.flatnonzero((codes >= 0) & np.isnan(wrong[pool.rows]))
    if bundle.multilabel or not len(places):
        return wrong
    sure = probability_of(bundle, pool.features.take(places), codes[places])
    wrong[pool.rows[places]] = np.round(1 - sure, 4)
    return wrong


def features_of(data: LabelData, options: FeaturesOptions, bundle: Bundle, cache: Cache, progress: Progress) -> Pool:
    """The features that a model predicts from, of all images."""
    return ask_pool(data.images, options, bundle, np.empty(0, "V32"), cache, progress)


def _suggested(bundle: Bundle, answers: PoolAnswers, several: bool) -> Coded[Labels | None]:
    if answers.labels is None or not several:
        return Coded(answers.first, tuple((name,) for name in bundle.classes))
    names = np.array(bundle.classes, object)
    return Coded.of((tuple(names[marks]) for marks in answers.labels >= 0), len(answers.first))


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


def _number(text: str) -> float:
    """A number in [0, 1]; NaN of what is none."""
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if 0 <= value <= 1 else np.nan


def _filled(found: list[float], rest: np.ndarray) -> np.ndarray:
    return np.concatenate([np.array(found, np.float64), rest[len(found) :]])
