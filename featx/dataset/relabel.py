"""Replace labels by corrected ones from a CSV, without moving a file or computing a feature."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from featx.dataset.folders import describe_absence, expand, is_folder, locate
from featx.dataset.imageset import ImageSet
from featx.dataset.label_rows import read_labels
from featx.errors import DataError
from featx.io.counting import counted, counted_of
from featx.io.remote import shared_remote
from featx.io.suggest import did_you_mean
from featx.io.urls import is_url


@dataclass(frozen=True)
class Judgement:
    """The label that a person gives an image. line : of the CSV; marked : whether the line says that it is right"""

    row: int
    label: str
    line: int = 0
    marked: bool = False


def relabel(images: ImageSet, file: str, home: str) -> ImageSet:
    """Give the images that a CSV names the label it has for them; a note says how many changed.

    file, home : as in `read_judgements`

    Raises
    ------
    DataError
        What `read_judgements` raises.
    """
    judgements = read_judgements(images, file, home)
    code_of = {name: code for code, name in enumerate(images.classes)}
    assert images.labels is not None
    labels = images.labels.copy()
    for one in judgements:
        labels[one.row] = code_of[one.label]
    changed = int((labels != images.labels).sum())
    note = f"{file}: {counted_of(changed, len(images), 'label')} changed, {len(judgements) - changed:,} as they were"
    return replace(images, labels=labels, notes=(*images.notes, note))


def read_judgements(images: ImageSet, file: str, home: str) -> list[Judgement]:
    """What a CSV says of images, each of which it names once.

    file : a CSV with the columns path and label, and maybe `right`, in which yes, y, x, true or 1 marks a label that
        was looked at; others are ignored
    home : the folder that relative paths start from

    Raises
    ------
    DataError
        A path that is not among the images, a label that is no class, one image under two labels, or a set whose
        images have no label or several.
    """
    require_one_label(images, "--relabel replaces one label of an image")
    path = expand(file)
    faults = shared_remote().faults([path])
    if faults:
        raise DataError(describe_absence([path], faults))
    if is_folder(path) or (not is_url(path) and not Path(path).is_file()):
        raise DataError(f"No file {file} to take labels from. featx check --features writes one to correct.")
    row_of, found = {name: row for row, name in enumerate(images.paths)}, dict[int, Judgement]()
    for one in read_labels(path):
        row = row_of.get(locate(one.path, home))
        if row is None:
            raise DataError(
                f"{file}, line {one.line}: {one.path} is not among the {counted(len(images), 'image')} in "
                f"{images.source}. Paths are absolute, or relative to {home}."
            )
        require_class(one.label, images, f"{file}, line {one.line}: ")
        before = found.get(row)
        if before is not None and before.label != one.label:
            raise DataError(
                f"{file}, lines {before.line} and {one.line} give {one.path} two labels. Delete one of them."
            )
        found[row] = Judgement(row, one.label, one.line, one.right or (before is not None and before.marked))
    return list(found.values())


def require_one_label(images: ImageSet, why: str) -> None:
    """Refuse (`DataError`) images that have no label or several. why : what needs one"""
    if images.labels is None or images.multilabel:
        kind = "no labels" if images.labels is None else "several labels per image"
        raise DataError(f"{images.source} has {kind}, and {why}.")


def require_class(label: str, images: ImageSet, where: str = "") -> None:
    """Refuse (`DataError`) a label that is not a class of the images. where : it stands, before the sentence"""
    if label not in images.classes:
        raise DataError(f"{where}{label!r} is not a class of {images.source}.{_hint(label, images.classes)}")


def _hint(label: str, classes: Iterable[str]) -> str:
    names = list(classes)
    listed = f"The classes are {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}. Delete the row to keep it."
    return did_you_mean(label, names, listed)
