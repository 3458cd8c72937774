"""The section data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from featx.config.bounds import Cosine, Count, Ge, Le
from featx.config.option import Place, Section, option


@dataclass(frozen=True)
class DataOptions(Section):
    """Which images, which labels, which split."""

    path: Place | None = option(
        None, "A folder per class, train/val/test folders, a CSV, or image files; a path or a URL."
    )
    path_column: str = option("path", "CSV column that holds the image path.", metavar="NAME")
    label_column: str = option("label", "CSV column that holds the label.", metavar="NAME")
    split_column: str | None = option(
        None, "CSV column that holds train, val or test (default: 'split' if there is one).", metavar="NAME"
    )
    group_column: str | None = option(
        None, "CSV column of groups (one plant, one patient) that the split keeps together.", metavar="NAME"
    )
    group_duplicates: Cosine | None = option(
        None,
        "Never split images apart whose features have at least this cosine similarity, like 0.95.",
        metavar="COSINE",
    )
    weight_column: str | None = option(None, "CSV column of sample weights for fitting.", metavar="NAME")
    image_dir: Place | None = option(
        None, "Folder or URL that CSV paths are relative to (default: the CSV's).", metavar="DIR"
    )
    label_separator: str | None = option(
        None, "Separator of several labels in one cell, or json for lists; makes the set multi-label.", metavar="TEXT"
    )
    label_columns: tuple[str, ...] = option(
        (), "CSV columns of 0 and 1, one per class; '*' for all that have no other use.", metavar="A,B,..."
    )
    relabel: Place | None = option(
        None, "A CSV of path,label that replaces labels, such as a corrected label_errors.csv.", metavar="FILE"
    )
    classes: tuple[str, ...] | None = option(
        None, "Class names in the order to use, separated by commas (default: alphanumeric).", metavar="A,B,..."
    )
    split: tuple[float, float, float] = option(
        (0.8, 0.1, 0.1),
        "Shares of train, val and test, unless the data declares its own split.",
        metavar="TRAIN,VAL,TEST",
    )
    max_train: Count | None = option(
        None, "Most training images to use, with the same share of every class.", metavar="N"
    )
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = option(0, "Seed of the split, of the folds and of training.")
