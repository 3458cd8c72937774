"""What to do where a CSV of images has no column of the name that was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FILE = re.compile(r"\.(jpe?g|png|gif|bmp|tiff?|webp)$", re.IGNORECASE)
_FLAGS = {"path_column": "--path-column", "label_column": "--label-column"}


def describe_missing(name: str, path: str, header: Sequence[str], option: str = "") -> str:
    """The sentences of an error. option : of the section data, which has named the column

    Examples
    --------
    >>> describe_missing("path", "a.csv", ["file", "label"], "path_column")
    "No column 'path' in a.csv. Its columns are: file, label. Name the right one with --path-column."
    """
    missing = f"No column {name!r} in {path}."
    if any(_FILE.search(one) for one in header):
        return f"{missing} Its first line is {','.join(header)}, but has to name the columns, like path,label."
    if len(header) == 1 and re.search(r"\w\s*[|:]\s*\w", header[0]):
        return f"{missing} Its first line is {header[0]}. Separate cells by commas, semicolons or tabs."
    listed = f"{missing} Its columns are: {', '.join(header)}."
    return f"{listed} Name the right one with {_FLAGS[option]}." if option in _FLAGS else listed
