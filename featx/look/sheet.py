"""The contact sheet: some images of every class, drawn by seed, with the sizes of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.dataset import ImageSet
from featx.errors import DataError
from featx.images.decoder import BadImage, load_image
from featx.images.grid import THUMBNAIL, Picture
from featx.look.album import Album

NO_LABEL = "(no label)"
_ROWS = 4  # of a sheet without classes


@dataclass(frozen=True)
class Strip:
    """Images of one class. label : None where there are no classes; size : its images, less bad ones; rows : shown"""

    label: str | None
    size: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Sheet:
    """What is on a contact sheet.

    pixels : row -> thumbnail uint8 (h, w, 3); bad : row -> why it cannot be read, of the images that were tried
    """

    strips: tuple[Strip, ...]
    pixels: dict[int, np.ndarray]
    bad: dict[int, str]
    notes: tuple[str, ...]


def choose_sheet(images: ImageSet, most_classes: int, each: int, seed: int) -> Sheet:
    """Draw images of every class, or of some, by seed alone; those that cannot be read make room for others.

    most_classes : of which images are drawn; each : images of each

    Raises
    ------
    DataError
        None of those that were tried can be read.
    """
    groups = _rows_by_label(images)
    chosen = some_of(range(len(groups)), most_classes, np.random.default_rng(seed))
    count = each if images.labels is not None else each * _ROWS
    pixels: dict[int, np.ndarray] = {}
    bad: dict[int, str] = {}
    strips = []
    for number in chosen:
        label, rows = groups[number]
        shown = _read_some(images, np.random.default_rng([seed, number]).permutation(rows), count, pixels, bad)
        strips.append(Strip(label, len(rows) - len(bad.keys() & set(rows.tolist())), tuple(shown)))
    if not pixels:
        raise DataError(
            f"None of the {len(bad):,} images of {images.source} that were tried can be read. "
            f"featx check {images.source} says why of each."
        )
    empty = [f"{strip.label}" for strip in strips if not strip.rows]
    notes = [f"No readable image of {', '.join(empty[:5])}: featx check {images.source} says why."] if empty else []
    if len(chosen) < len(groups):
        notes.append(f"The contact sheet has {len(chosen)} of {len(groups)} classes. More: --show-classes.")
    return Sheet(tuple(strip for strip in strips if strip.rows), pixels, bad, tuple(notes))


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


def _read_some(
    images: ImageSet, rows: np.ndarray, count: int, pixels: dict[int, np.ndarray], bad: dict[int, str]
) -> list[int]:
    """The first `count` of these rows that can be read; what was read, or could not be, is put down."""
    found: list[int] = []
    for row in map(int, rows):
        if len(found) == count:
            break
        if row not in pixels and row not in bad:
            try:
                pixels[row] = load_image(images.paths[row], (THUMBNAIL, THUMBNAIL), "pad")
            except BadImage as error:
                bad[row] = error.reason
        if row in pixels:
            found.append(row)
    return found


def draw_sheet(sheet: Sheet, images: ImageSet, album: Album) -> None:
    """Draw a row for each class; without classes, a few rows."""
    if images.labels is None:
        rows = sheet.strips[0].rows
        album.grid("sheet", [_picture(sheet, images, row) for row in rows], max(1, -(-len(rows) // _ROWS)))
        return
    columns = max(len(strip.rows) for strip in sheet.strips)
    cells: list[Picture | None] = []
    for strip in sheet.strips:
        titles = [f"{strip.label} ({strip.size:,})", *(_labels(images, row) for row in strip.rows[1:])]
        cells += [_picture(sheet, images, row, title) for row, title in zip(strip.rows, titles, strict=True)]
        cells += [None] * (columns - len(strip.rows))
    album.grid("sheet", cells, columns)


def _picture(sheet: Sheet, images: ImageSet, row: int, *title: str) -> Picture:
    path = images.paths[row]
    return Picture(path, (*title, Path(path).name), pixels=sheet.pixels[row])


def _labels(images: ImageSet, row: int) -> str:
    return " + ".join(images.label_names(row)) or NO_LABEL
