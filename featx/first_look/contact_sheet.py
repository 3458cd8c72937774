"""The contact sheet: some images of every class, chosen by seed, with class sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from featx.dataset import ImageSet
from featx.errors import DataError
from featx.images.decoder import load_image
from featx.images.depth import note_levels
from featx.images.fault import BadImage
from featx.images.grid import THUMBNAIL, GridImage
from featx.images.levels import FULL
from featx.images.resize import ResizeRule
from featx.io.counting import counted_of, none_of
from featx.report.figure_folder import FigureFolder

NO_LABEL = "(no label)"
_ROWS = 4  # of a sheet without classes


@dataclass(frozen=True)
class SheetLine:
    """Images of one class. label : None where there are no classes; size : its readable images; rows : shown"""

    label: str | None
    size: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class ContactSheet:
    """What is on a contact sheet.

    pixels : row -> thumbnail uint8 (h, w, 3); unreadable : row -> why it cannot be read, of the images that were tried
    """

    lines: tuple[SheetLine, ...]
    pixels: dict[int, np.ndarray]
    unreadable: dict[int, str]
    notes: tuple[str, ...]


def choose_contact_sheet(images: ImageSet, most_classes: int, each: int, seed: int, levels: str = FULL) -> ContactSheet:
    """Draw images of every class, or of some, by seed alone; those that cannot be read make room for others.

    most_classes : of which images are drawn; each : images of each
    levels : which values of deep files are black and white

    Raises
    ------
    DataError
        None of those that were tried can be read.
    """
    groups = _rows_by_label(images)
    chosen = some_of(range(len(groups)), most_classes, np.random.default_rng(seed))
    count = each if images.labels is not None else each * _ROWS
    thumbnails = _Thumbnails(images, str(ResizeRule("pad", levels=levels)))
    lines = []
    for number in chosen:
        label, rows = groups[number]
        shown = thumbnails.first_readable(np.random.default_rng([seed, number]).permutation(rows), count)
        lines.append(SheetLine(label, len(rows) - len(thumbnails.unreadable.keys() & set(rows.tolist())), shown))
    if not thumbnails.pixels:
        raise DataError(
            f"{none_of(len(thumbnails.unreadable), 'image')} of {images.source} tried can be read. featx check "
            f"{images.source} shows why for each."
        )
    notes = _note_empty(images, lines)
    read_as = note_levels([images.paths[row] for row in thumbnails.pixels], levels)
    notes += [read_as] if read_as else []
    if len(chosen) < len(groups):
        notes.append(
            f"The contact sheet has {counted_of(len(chosen), len(groups), 'class', 'classes')}. More: --show-classes."
        )
    shown_lines = tuple(line for line in lines if line.rows)
    return ContactSheet(shown_lines, thumbnails.pixels, thumbnails.unreadable, tuple(notes))


def _note_empty(images: ImageSet, lines: Sequence[SheetLine]) -> list[str]:
    empty = [f"{line.label}" for line in lines if not line.rows]
    return [f"No readable image of {', '.join(empty[:5])}: featx check {images.source} says why."] if empty else []


def _rows_by_label(images: ImageSet) -> list[tuple[str | None, np.ndarray]]:
    """The rows of every class that has any; of several labels, an image is in each of its own."""
    if images.labels is None:
        return [(None, np.arange(len(images)))]
    marks = images.labels if images.multilabel else images.labels[:, None] == np.arange(len(images.classes))
    found: list[tuple[str | None, np.ndarray]] = [
        (label, np.flatnonzero(marks[:, code])) for code, label in enumerate(images.classes)
    ]
    found.append((NO_LABEL, np.flatnonzero(~marks.any(axis=1))))
    return [(label, rows) for label, rows in found if len(rows)]


def some_of(items: Sequence[int], most: int, generator: np.random.Generator) -> list[int]:
    """At most so many of the items, drawn at random, in their order."""
    if len(items) <= most:
        return list(items)
    return sorted(generator.choice(np.asarray(items), most, replace=False).tolist())


class _Thumbnails:
    """Reads images once each. pixels : row -> uint8 (h, w, 3); unreadable : row -> reason"""

    def __init__(self, images: ImageSet, resize: str) -> None:
        self.images, self.resize = images, resize
        self.pixels: dict[int, np.ndarray] = {}
        self.unreadable: dict[int, str] = {}

    def first_readable(self, rows: np.ndarray, count: int) -> tuple[int, ...]:
        """The first `count` of these rows that can be read."""
        return tuple(islice(filter(self._read, rows.tolist()), count))

    def _read(self, row: int) -> bool:
        if row not in self.pixels and row not in self.unreadable:
            try:
                self.pixels[row] = load_image(self.images.paths[row], (THUMBNAIL, THUMBNAIL), self.resize)
            except BadImage as error:
                self.unreadable[row] = error.reason
        return row in self.pixels


def draw_contact_sheet(sheet: ContactSheet, images: ImageSet, folder: FigureFolder) -> str:
    """Draw a row for each class, without classes a few rows; returns the path."""
    if images.labels is None:
        rows = sheet.lines[0].rows
        return folder.grid("sheet", [_picture(sheet, images, row) for row in rows], max(1, -(-len(rows) // _ROWS)))
    columns = max(len(line.rows) for line in sheet.lines)
    cells: list[GridImage | None] = []
    for line in sheet.lines:
        titles = [f"{line.label} ({line.size:,})", *(_labels(images, row) for row in line.rows[1:])]
        cells += [_picture(sheet, images, row, title) for row, title in zip(line.rows, titles, strict=True)]
        cells += [None] * (columns - len(line.rows))
    return folder.grid("sheet", cells, columns)


def _picture(sheet: ContactSheet, images: ImageSet, row: int, *title: str) -> GridImage:
    path = images.paths[row]
    return GridImage(path, (*title, Path(path).name), pixels=sheet.pixels[row])


def _labels(images: ImageSet, row: int) -> str:
    return " + ".join(images.label_names(row)) or NO_LABEL
