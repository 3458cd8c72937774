"""Labels replaced by those of a CSV: what a person has corrected, without moving a file or computing a feature."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from featx.dataset.folders import describe_absence, expand, is_folder, locate
from featx.dataset.imageset import ImageSet
from featx.dataset.table import read_labels
from featx.errors import DataError
from featx.io.remote import shared_remote
from featx.io.suggest import did_you_mean
from featx.io.urls import is_url


def relabel(images: ImageSet, file: str, home: str) -> ImageSet:
    """Give the images that a CSV names the label it has for them; a note says how many changed.

    file : a CSV with the columns path and label; others are ignored
    home : the folder that relative paths start from

    Raises
    ------
    DataError
        A path that is not among the images, a label that is no class, one image under two labels, or a set whose
        images have no label or several.
    """
    if images.labels is None or images.multilabel:
        kind = "no labels" if images.labels is None else "several labels per image"
        raise DataError(f"{images.source} has {kind}, and --relabel replaces one label of an image.")
    path = expand(file)
    faults = shared_remote().faults([path])
    if faults:
        raise DataError(describe_absence([path], faults))
    if is_folder(path) or (not is_url(path) and not Path(path).is_file()):
        raise DataError(f"No file {file} to take labels from. featx check --features writes one to correct.")
    row_of = {name: row for row, name in enumerate(images.paths)}
    code_of = {name: code for code, name in enumerate(images.classes)}
    labels, lines = images.labels.copy(), dict[int, int]()
    for line, name, label in read_labels(path):
        row = row_of.get(locate(name, home))
        if row is None:
            raise DataError(
                f"{file}, line {line}: {name} is not among the {len(images):,} images in {images.source}. "
                f"Paths are absolute, or relative to {home}."
            )
        if label not in code_of:
            raise DataError(f"{file}, line {line}: {label!r} is not a class of {images.source}.{_hint(label, code_of)}")
        if row in lines and labels[row] != code_of[label]:
            raise DataError(f"{file}, lines {lines[row]} and {line} give {name} two labels. Delete one of them.")
        labels[row], lines[row] = code_of[label], line
    changed = int((labels != images.labels).sum())
    note = f"{file}: {changed:,} of {len(images):,} labels changed, {len(lines) - changed:,} as they were"
    return replace(images, labels=labels, notes=(*images.notes, note))


def _hint(label: str, classes: Iterable[str]) -> str:
    names = list(classes)
    listed = f"The classes are {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}. Delete the row to keep it."
    return did_you_mean(label, names, listed)
