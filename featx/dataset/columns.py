"""Options that apply only to images listed in a CSV."""

from __future__ import annotations

from dataclasses import replace

from featx.config import DataOptions
from featx.errors import UsageError

_OF_A_CSV = (
    "path_column",
    "label_column",
    "split_column",
    "group_column",
    "weight_column",
    "image_dir",
    "label_separator",
    "label_columns",
)


def column_options(options: DataOptions) -> list[str]:
    """Those that are set."""
    return [name for name in _OF_A_CSV if getattr(options, name) != getattr(DataOptions, name)]


def without_columns(options: DataOptions) -> DataOptions:
    """The same with all of them as if they were not set."""
    return replace(options, **{name: getattr(DataOptions, name) for name in _OF_A_CSV})


def require_no_columns(source: object, options: DataOptions) -> None:
    """Refuse options of a CSV for a folder or files, where they would do nothing.

    Raises
    ------
    UsageError
        One is set.
    """
    for name in column_options(options):
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(
            f"{flag} {getattr(options, name)} (data.{name}) is for images that a CSV lists, and {source} is not a CSV. "
            f"Leave it out, or write one (featx split {source} --out index.csv), add the column, and give index.csv."
        )


def require_no_duplicate_groups(options: DataOptions, what: str) -> None:
    """Refuse groups of near-duplicates where there are no features to find them by.

    Raises
    ------
    UsageError
        They are asked for.
    """
    if options.group_duplicates is not None:
        raise UsageError(
            f"--group-duplicates {options.group_duplicates:g} (data.group_duplicates) compares features, and {what} "
            "has none. Leave it out, or list the groups in a column of a CSV and name it: --group-column."
        )
