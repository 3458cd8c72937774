"""Tables for notebooks: HTML, escaped, at most twenty rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

MOST_ROWS = 20


def table_html(caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]], count: int) -> str:
    """A table with its caption; where there are more rows than are shown, the caption says how many.

    rows : values, None for an empty cell; count : how many rows there are
    """
    shown = list(islice(rows, MOST_ROWS))
    note = f" (the first {len(shown)} of {count:,})" if count > len(shown) else ""
    head = "".join(f"<th>{escape(one)}</th>" for one in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in shown)
    return (
        f"<table><caption>{escape(caption)}{note}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: object) -> str:
    return f"<td>{'' if value is None else escape(str(value))}</td>"
