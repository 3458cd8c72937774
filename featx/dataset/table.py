"""Images in a CSV: one row each, with columns for path, label and other facts; and a split written as one."""

from __future__ import annotations

import csv
import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.config import DataOptions
from featx.dataset.folders import expand, folder_of, locate
from featx.dataset.imageset import NONE, SPLIT_NAMES, SPLITS, ImageSet
from featx.dataset.missing_column import describe_missing
from featx.dataset.names import TABLES
from featx.dataset.several_labels import describe_several
from featx.dataset.table_labels import EVERY, Cells, describe_marks, looks_marked, read_marks
from featx.dataset.table_labels import read_labels as read_label_cells
from featx.errors import DataError
from featx.io.compact import Paths
from featx.io.counting import counted
from featx.io.csvtext import csv_text, lines_of, read_rows
from featx.io.files import write_atomic
from featx.io.filetypes import describe_os_error
from featx.io.remote import shared_remote
from featx.io.shown import from_utf8
from featx.io.urls import is_url, plain

_DELIMITERS = (",", ";", "\t")
_LOOKED_AT = 20  # rows, to find out whether paths have an ending
_SEPARATORS = ("$", "|", ";", "+")  # between the labels of one image, where a split is written


def is_table(path: str, options: DataOptions) -> bool:
    """Whether a file is a CSV of images: by its name, or because its first line has the path column."""
    if plain(path).lower().endswith(TABLES):
        return True
    try:
        line = next(iter(lines_of(_read_bytes(path, 4096).decode("utf-8-sig"))), "")
    except (OSError, UnicodeDecodeError):
        return False
    return any(options.path_column in _split(line, delimiter) for delimiter in _DELIMITERS)


def read_table(source: str, path: str, options: DataOptions) -> ImageSet:
    """Read a CSV: UTF-8, with a header, its cells separated by commas, semicolons or tabs.

    Paths are URLs, or relative to `options.image_dir`, or to the folder of the CSV, of which each may be a URL. Files
    that do not exist stay in the set.

    Raises
    ------
    DataError
        When columns are missing or cells make no sense; the line is named.
    """
    table = LabelTable.read(path, options)
    rows = [row for row in table.rows if row.cells[table.path].strip()]
    if not rows:
        raise DataError(f"{source} lists no images: it has no row with a {options.path_column!r}.")
    notes = _note_pathless(table, len(table.rows) - len(rows), options)
    labels, classes, note = _read_labels(source, path, table, rows, options)
    notes += note
    groups = None if table.group is None else tuple(row.cells[table.group].strip() for row in rows)
    if groups is not None and not any(groups):
        groups, notes = None, (*notes, f"The column {options.group_column!r} is empty, so no images are kept together")
    paths, note = _with_endings(
        [_locate(row.cells[table.path], expand(options.image_dir or folder_of(path))) for row in rows]
    )
    notes += note
    return ImageSet(
        source,
        Path(plain(path)).stem,
        paths=Paths(paths),
        labels=labels,
        classes=classes,
        declared=None if table.split is None else _read_splits(path, rows, table.split),
        groups=groups,
        grouped_by=None if groups is None else options.group_column,
        weights=None if table.weight is None else _read_weights(path, rows, table.weight),
        notes=notes,
    )


def write_split(path: Path, images: ImageSet, split: np.ndarray) -> None:
    """Write a CSV with the columns `path`, `label` and `split`, one row for every image that is in a split.

    Images in no split (bad, conflicting, unlabelled, or beyond `max_train`) are left out, so that reading the CSV
    again gives the same sets. Paths are relative to the CSV where the image lies below its folder, else absolute.
    Several labels are joined by "$" (or "|", ";", "+" where a class has that in its name).

    split : uint8 (n,), TRAIN, VAL, TEST or NONE
    """
    separator = next((mark for mark in _SEPARATORS if not any(mark in name for name in images.classes)), "$")
    home = os.path.abspath(path.parent)
    rows = [["path", "label", "split"]]
    for row in np.flatnonzero(split != NONE).tolist():
        label = separator.join(images.label_names(row))
        rows.append([relative_path(images.paths[row], home), label, SPLITS[split[row]]])
    write_atomic(path, csv_text(rows))


@dataclass(frozen=True)
class _Row:
    line: int
    cells: list[str]


@dataclass(frozen=True)
class LabelTable:
    """A CSV of images: its rows, and which columns have the path, the label and the like (None: there is none)."""

    header: list[str]
    rows: list[_Row]
    path: int
    label: int | None
    split: int | None
    group: int | None
    weight: int | None

    @classmethod
    def read(cls, path: str, options: DataOptions) -> LabelTable:
        """Read a CSV and find the columns that the options name."""
        text, skipped = _without_directive(_read_text(path))
        if not text.strip():
            raise DataError(f"{plain(path)} is empty. Its first line has to name its columns, like path,label.")
        rows = _read_rows(path, text, _find_delimiter(text, options), skipped)
        header = [name.strip() for name in next(rows).cells]

        def column(name: str | None, required: bool = True, option: str = "") -> int | None:
            if name is None or (name not in header and not required):
                return None
            if name not in header:
                raise DataError(describe_missing(name, path, header, option))
            return header.index(name)

        position = column(options.path_column, option="path_column")
        if position is None:
            raise DataError(f"{path} needs a column of image paths: name it with --path-column.")
        return cls(
            header,
            list(_of_width(path, rows, len(header))),
            position,
            column(
                options.label_column, options.label_column != DataOptions.label_column and not options.label_columns
            ),
            column(options.split_column or "split", required=options.split_column is not None),
            column(options.group_column),
            column(options.weight_column),
        )

    @property
    def others(self) -> list[str]:
        """The columns that are used for nothing."""
        used = {self.path, self.label, self.split, self.group, self.weight}
        return [name for position, name in enumerate(self.header) if position not in used and name]


def _read_bytes(path: str, most: int | None = None) -> bytes:
    """A file, here or on a URL, or its first `most` bytes."""
    if is_url(path):
        return shared_remote().read(path, most)
    with open(path, "rb") as file:
        return file.read(most)


def _read_text(path: str) -> str:
    try:
        raw = _read_bytes(path)
    except OSError as error:
        raise DataError(f"{plain(path)}: {describe_os_error(path, error)}.") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or (raw[:400].count(0) * 4 > len(raw[:400])):
        raise DataError(f"{plain(path)} is UTF-16 or UTF-32 text. Save it as CSV UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(lines_of(error.object[: error.start].decode("latin-1") + "x"))
        raise DataError(f"{plain(path)} is not UTF-8 text (line {line}). Save it as CSV UTF-8.") from error
    if "\0" in text:
        line = len(lines_of(text[: text.index("\0") + 1]))
        raise DataError(f"{plain(path)}, line {line} holds a NUL character, so the file is damaged. Write it again.")
    return text


def _without_directive(text: str) -> tuple[str, int]:
    """The text behind Excel's first line `sep=;`, and how many lines were left out."""
    first = next(iter(lines_of(text[:100])), "")
    is_directive = first.strip().strip('"').lower() in {f"sep={mark}".strip() for mark in _DELIMITERS}
    return (text[len(first) :], 1) if is_directive else (text, 0)


def _find_delimiter(text: str, options: DataOptions) -> str:
    header = next(iter(lines_of(text)), "")
    return max(_DELIMITERS, key=lambda mark: (options.path_column in _split(header, mark), len(_split(header, mark))))


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(read_rows(line.strip(), delimiter), (0, []))[1]]
    except csv.Error:
        return []


def _read_rows(path: str, text: str, delimiter: str, skipped: int) -> Iterator[_Row]:
    last = skipped
    try:
        for line, cells in read_rows(text, delimiter):
            last = line + skipped
            yield _Row(last, cells)
    except csv.Error as error:
        raise DataError(f"{plain(path)}, after line {last}: {error}.") from error


def _of_width(path: str, rows: Iterator[_Row], width: int) -> Iterator[_Row]:
    for row in rows:
        if len(row.cells) > width:
            raise DataError(
                f"{path}, line {row.line} has {counted(len(row.cells), 'cell')} where the header has {width}. Put "
                "cells that hold the separator in double quotes."
            )
        if row.cells:
            yield _Row(row.line, row.cells + [""] * (width - len(row.cells)))


def _note_pathless(table: LabelTable, count: int, options: DataOptions) -> tuple[str, ...]:
    if not count:
        return ()
    line = next(row.line for row in table.rows if not row.cells[table.path].strip())
    return (f"Left aside, rows without a {options.path_column!r}: {count:,} (such as line {line})",)


def _read_labels(
    source: str, path: str, table: LabelTable, rows: Sequence[_Row], options: DataOptions
) -> tuple[np.ndarray | None, tuple[str, ...], tuple[str, ...]]:
    """Labels, classes and notes."""
    lines = [row.line for row in rows]

    def cells(column: int) -> Cells:
        return Cells(path, lines, [row.cells[column] for row in rows])

    if options.label_columns:
        marked = [(name, cells(table.header.index(name))) for name in _mark_columns(path, table, options)]
        labels, classes = read_marks(marked, options)
        kind = "one label" if labels.ndim == 1 else "several labels"
        return labels, classes, (f"Read {kind} per image from {counted(len(marked), 'column')} of {source}",)
    if table.label is None:
        note = f"No column {options.label_column!r} in {source}, so its images have no labels"
        others = [name for name in table.others if looks_marked(cells(table.header.index(name)).texts)]
        return None, (), (note + (describe_marks(others) if len(others) > 1 else ""),)
    labels, classes = read_label_cells(cells(table.label), options, source)
    alike = [name for name in classes if name != name.strip() and name.strip() in classes]
    note = f"The labels {alike[0].strip()!r} and {alike[0]!r} of {source} differ in white space" if alike else ""
    joined = describe_several(classes, source, options.label_separator)
    return labels, classes, ((note,) if alike else ()) + joined


def _mark_columns(path: str, table: LabelTable, options: DataOptions) -> list[str]:
    if options.label_columns == (EVERY,):
        return table.others
    for name in options.label_columns:
        if name not in table.header:
            raise DataError(describe_missing(name, path, table.header))
    return list(options.label_columns)


def _read_splits(path: str, rows: Sequence[_Row], column: int) -> np.ndarray:
    splits = np.full(len(rows), NONE, np.uint8)
    for position, row in enumerate(rows):
        text = row.cells[column].strip().lower()
        if text and text not in SPLIT_NAMES:
            raise DataError(
                f"{path}, line {row.line}: {row.cells[column].strip()!r} is not a split. Write train, val or test, "
                "or leave the cell empty."
            )
        splits[position] = SPLIT_NAMES.get(text, NONE)
    return splits


def _read_weights(path: str, rows: Sequence[_Row], column: int) -> np.ndarray:
    weights = np.ones(len(rows), np.float64)
    for position, row in enumerate(rows):
        text = row.cells[column].strip()
        try:
            weights[position] = float(text) if text else 1.0
        except ValueError:
            weights[position] = math.nan
        if not 0 <= weights[position] < math.inf:
            raise DataError(f"{path}, line {row.line}: {text!r} is not a weight. Write a number that is not negative.")
    return weights


def _locate(cell: str, home: str) -> str:
    # White space around a name, `\xe9` for a byte that is not UTF-8, and how letters with accents are put together (by
    # macOS of two) count where a file has them.
    path = locate(local_name(cell), home)
    others = [cell.strip()] if cell != cell.strip() else []
    others += [from_utf8(cell)] if "\\x" in cell else []
    others += [] if cell.isascii() else [unicodedata.normalize(form, cell) for form in ("NFC", "NFD")]
    if not others or is_url(path):
        return locate(local_name(cell.strip()), home)
    found = (one for name in others if os.path.lexists(one := locate(name, home)))
    return path if os.path.lexists(path) else next(found, locate(local_name(cell.strip()), home))


def _with_endings(paths: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths, with the endings of their files where a CSV names these without; and a note where it does."""
    first = paths[:_LOOKED_AT]
    if any(is_url(path) or Path(path).suffix or os.path.lexists(path) for path in first):
        return tuple(paths), ()
    files: dict[str, dict[str, list[str]]] = {}  # folder -> stem -> names
    found = [_with_ending(path, files) for path in paths]
    changed = [(old, new) for old, new in zip(paths, found, strict=True) if old != new]
    if not changed:
        return tuple(paths), ()
    example = f"{Path(changed[0][0]).name} is taken for {Path(changed[0][1]).name}"
    return tuple(found), (f"Paths without an ending: {len(changed):,} ({example})",)


def _with_ending(path: str, files: dict[str, dict[str, list[str]]]) -> str:
    folder, stem = os.path.split(path)
    if folder not in files:
        files[folder] = {}
        for name in os.listdir(folder) if Path(folder).is_dir() else ():
            files[folder].setdefault(Path(name).stem, []).append(name)
    names = files[folder].get(stem, [])
    return os.path.join(folder, names[0]) if len(names) == 1 else path


def local_name(path: str) -> str:
    """A path of a CSV as this system writes it."""
    # A CSV written on Windows has backslashes; elsewhere they would be part of the name.
    return path if os.sep == "\\" or "/" in path else path.replace("\\", "/")


def relative_path(path: str, home: str) -> str:
    """A path as a CSV has it: relative to the folder `home` where it lies below it, else absolute; with slashes."""
    if is_url(path):
        return path.removeprefix(f"{home.rstrip('/')}/")
    inside = path.startswith(home.rstrip(os.sep) + os.sep)
    return Path(os.path.relpath(path, home) if inside else path).as_posix()
