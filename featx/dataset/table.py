"""Images in a CSV: one row each, with columns for path, label and what else is known; and a split written as one."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.config import DataOptions
from featx.dataset.folders import expand, folder_of, locate
from featx.dataset.imageset import NONE, SPLIT_NAMES, SPLITS, ImageSet, choose_classes
from featx.errors import DataError
from featx.io.files import write_atomic
from featx.io.filetypes import describe_os_error
from featx.io.remote import shared_remote
from featx.io.urls import is_url, plain

_DELIMITERS = (",", ";", "\t")
_SUFFIXES = (".csv", ".tsv")
_SEPARATORS = ("$", "|", ";", "+")  # between the labels of one image, where a split is written


def is_table(path: str, options: DataOptions) -> bool:
    """Whether a file is a CSV of images: by its name, or because its first line has the path column."""
    if plain(path).lower().endswith(_SUFFIXES):
        return True
    try:
        line = _read_bytes(path, 4096).decode("utf-8-sig").split("\n")[0]
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
    table = _Table.read(path, options)
    rows = [row for row in table.rows if row.cells[table.path].strip()]
    if not rows:
        raise DataError(f"{source} lists no images: it has no row with a {options.path_column!r}.")
    notes = _note_pathless(table, len(table.rows) - len(rows), options)
    labels, classes = None, tuple[str, ...]()
    if table.label is None:
        notes += (f"No column {options.label_column!r} in {source}, so its images have no labels",)
    else:
        labels, classes = _read_labels(source, [row.cells[table.label] for row in rows], options)
    groups = None if table.group is None else tuple(row.cells[table.group].strip() for row in rows)
    if groups is not None and not any(groups):
        groups, notes = None, (*notes, f"The column {options.group_column!r} is empty, so no images are kept together")
    home = expand(options.image_dir or folder_of(path))
    return ImageSet(
        source,
        Path(plain(path)).stem,
        paths=tuple(locate(_local(row.cells[table.path].strip()), home) for row in rows),
        labels=labels,
        classes=classes,
        declared=None if table.split is None else _read_splits(path, rows, table.split),
        groups=groups,
        weights=None if table.weight is None else _read_weights(path, rows, table.weight),
        notes=notes,
    )


def read_labels(path: str) -> list[tuple[int, str, str]]:
    """The line, path and label of every row of a CSV with these columns, read as `read_table` reads one.

    Raises
    ------
    DataError
        When a column is missing, or the file is no CSV.
    """
    table = _Table.read(path, DataOptions())
    if table.label is None:
        raise DataError(f"No column 'label' in {path}. It needs the columns path and label.")
    cells = [(row.line, row.cells[table.path].strip(), row.cells[table.label].strip()) for row in table.rows]
    return [(line, _local(name), label) for line, name, label in cells if name]


def write_split(path: Path, images: ImageSet, split: np.ndarray) -> None:
    """Write a CSV with the columns `path`, `label` and `split`, one row for every image that is in a split.

    Images in no split (bad, conflicting, unlabelled, or beyond `max_train`) are left out, so that reading the CSV
    again gives the same sets. Paths are relative to the CSV where the image lies below its folder, else absolute.
    Several labels are joined by "$" (or "|", ";", "+" where a class has that in its name).

    split : uint8 (n,), TRAIN, VAL, TEST or NONE
    """
    separator = next((mark for mark in _SEPARATORS if not any(mark in name for name in images.classes)), "$")
    home = os.path.abspath(path.parent)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "split"])
    for row in np.flatnonzero(split != NONE).tolist():
        label = separator.join(images.label_names(row))
        writer.writerow([relative_path(images.paths[row], home), label, SPLITS[split[row]]])
    write_atomic(path, text.getvalue())


@dataclass(frozen=True)
class _Row:
    line: int
    cells: list[str]


@dataclass(frozen=True)
class _Table:
    rows: list[_Row]
    path: int
    label: int | None
    split: int | None
    group: int | None
    weight: int | None

    @classmethod
    def read(cls, path: str, options: DataOptions) -> _Table:
        text = _read_text(path)
        delimiter = _find_delimiter(text, options)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        header = [name.strip() for name in next(reader, [])]

        def column(name: str | None, required: bool = True) -> int | None:
            if name is None or (name not in header and not required):
                return None
            if name not in header:
                raise DataError(f"No column {name!r} in {path}. Its columns are: {', '.join(header)}.")
            return header.index(name)

        position = column(options.path_column)
        if position is None:
            raise DataError(f"{path} needs a column of image paths: name it with --path-column.")
        return cls(
            list(_read_rows(path, reader, len(header))),
            position,
            column(options.label_column, required=options.label_column != DataOptions.label_column),
            column(options.split_column or "split", required=options.split_column is not None),
            column(options.group_column),
            column(options.weight_column),
        )


def _read_bytes(path: str, most: int | None = None) -> bytes:
    """A file, here or on a URL, or its first `most` bytes."""
    if is_url(path):
        return shared_remote().read(path, most)
    with open(path, "rb") as file:
        return file.read(most)


def _read_text(path: str) -> str:
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{plain(path)}: {describe_os_error(path, error)}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 text (line {line}). Save it as CSV UTF-8.") from error


def _find_delimiter(text: str, options: DataOptions) -> str:
    header = text.split("\n", 1)[0]
    return max(_DELIMITERS, key=lambda mark: (options.path_column in _split(header, mark), len(_split(header, mark))))


def _split(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line.strip()], delimiter=delimiter), [])]


def _read_rows(path: str, reader: Iterator[list[str]], width: int) -> Iterator[_Row]:
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}.") from error  # type: ignore[attr-defined]
        line: int = reader.line_num  # type: ignore[attr-defined]
        if len(cells) > width:
            raise DataError(
                f"{path}, line {line} has {len(cells)} cells where the header has {width}. "
                "Put cells that hold the separator in double quotes."
            )
        if cells:
            yield _Row(line, cells + [""] * (width - len(cells)))


def _note_pathless(table: _Table, count: int, options: DataOptions) -> tuple[str, ...]:
    if not count:
        return ()
    line = next(row.line for row in table.rows if not row.cells[table.path].strip())
    return (f"Left aside, rows without a {options.path_column!r}: {count:,} (such as line {line})",)


def _read_labels(source: str, cells: Sequence[str], options: DataOptions) -> tuple[np.ndarray, tuple[str, ...]]:
    if options.label_separator is None:
        names = [cell.strip() for cell in cells]
        classes = choose_classes((name for name in names if name), options.classes, source)
        code = {name: position for position, name in enumerate(classes)}
        return np.array([code.get(name, -1) for name in names], np.int64), classes
    several = [[part.strip() for part in cell.split(options.label_separator)] for cell in cells]
    classes = choose_classes((name for names in several for name in names if name), options.classes, source)
    code = {name: position for position, name in enumerate(classes)}
    labels = np.zeros((len(several), len(classes)), bool)
    for row, names in enumerate(several):
        labels[row, [code[name] for name in names if name]] = True
    return labels, classes


def _read_splits(path: str, rows: Sequence[_Row], column: int) -> np.ndarray:
    splits = np.full(len(rows), NONE, np.uint8)
    for position, row in enumerate(rows):
        text = row.cells[column].strip().lower()
        if text and text not in SPLIT_NAMES:
            raise DataError(
                f"{path}, line {row.line}: {row.cells[column].strip()!r} is no split. Write train, val or test, "
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
            raise DataError(f"{path}, line {row.line}: {text!r} is no weight. Write a number that is not negative.")
    return weights


def _local(path: str) -> str:
    # A CSV written on Windows has backslashes; elsewhere they would be part of the name.
    return path if os.sep == "\\" or "/" in path else path.replace("\\", "/")


def relative_path(path: str, home: str) -> str:
    """A path as a CSV has it: relative to the folder `home` where it lies below it, else absolute; with slashes."""
    if is_url(path):
        return path.removeprefix(f"{home.rstrip('/')}/")
    inside = path.startswith(home.rstrip(os.sep) + os.sep)
    return Path(os.path.relpath(path, home) if inside else path).as_posix()
