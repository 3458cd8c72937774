"""CSVs that are safe to open in a spreadsheet and that read back unchanged.

A text that a spreadsheet would take for a formula, since it begins with =, +, -, @, a tab or a line end, is written
behind an apostrophe (as OWASP's page on CSV injection advises), and so is one that has the apostrophe already; numbers
are not. White space at the ends of a text is kept by quotes; that of cells without quotes is nobody's and is dropped.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence

from featx.io.shown import as_utf8

_FORMULA = re.compile("'*(?:[\t\r\n]|\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TO_QUOTE = re.compile(r'[",\r\n]|^\s|\s$')
_MOST = 2**31 - 1  # characters of a cell: csv refuses more than 131,072 by default


def csv_text(rows: Iterable[Sequence[object]], end: str = "\n") -> str:
    """Rows as the text of a CSV with commas."""
    return "".join(csv_line(row, end) for row in rows)


def csv_line(cells: Sequence[object], end: str = "\n") -> str:
    """One row, with its line end; None is an empty cell."""
    line = ",".join(map(_cell, cells))
    return (line or '""') + end


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = guard(as_utf8(value)) if isinstance(value, str) else str(value)
    return '"' + text.replace('"', '""') + '"' if _TO_QUOTE.search(text) else text


def guard(text: str) -> str:
    """A text as a cell that no spreadsheet runs."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unguard(cell: str) -> str:
    """The text of which `guard` made this cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def read_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV: the line that each ends on, and its cells, unguarded.

    White space at the ends of a cell is dropped unless the cell is in quotes.

    Raises
    ------
    csv.Error
        A quote that is never closed, and the like.
    """
    taken: list[str] = []
    reader = csv.reader(_recorded(text, taken), delimiter=delimiter)
    usual = csv.field_size_limit(_MOST)
    raw = ""
    try:
        for cells in reader:
            raw = "".join(taken)
            if any(cell != cell.strip() for cell in cells):
                cells = _strip(cells, raw, delimiter)
            taken.clear()
            if '"' in raw and _is_open(raw, delimiter):
                raise csv.Error(f"a quote that is never closed, in the row that ends on line {reader.line_num}")
            yield reader.line_num, [unguard(cell) for cell in cells]
    finally:
        csv.field_size_limit(usual)


def _is_open(row: str, delimiter: str) -> bool:
    """Whether a row ends inside of quotes, as the last of a file can, which Python's reader takes for their end."""
    try:
        list(csv.reader([row], delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends: those of Unix, Windows or old Macs (Excel's 'CSV Macintosh')."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def _recorded(text: str, taken: list[str]) -> Iterator[str]:
    for line in lines_of(text):
        taken.append(line)
        yield line


def _strip(cells: list[str], raw: str, delimiter: str) -> list[str]:
    """The cells of a row without the white space at their ends, but for those in quotes.

    raw : the row as it stands in the file
    """
    pattern = rf'("(?:[^"]|"")*"|)([^{re.escape(delimiter)}\r\n]*)(?:{re.escape(delimiter)}|\r\n|\r|\n|$)'
    quoted = [bool(found[1]) and not found[2].strip() for found in re.finditer(pattern, raw)]
    return [cell if is_quoted else cell.strip() for cell, is_quoted in zip(cells, quoted, strict=False)]
