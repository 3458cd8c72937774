"""Escape text for Markdown: names come from folders and files and may contain anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from featx.metrics.digits import figure_text

NOT_MEASURED, NOT_RECORDED = "not measured", "not recorded"


def figure(value: Any, images: int | None = None) -> str:
    """A value as people read it, measured on so many images; "not measured" where there is none."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return figure_text(value, images) if isinstance(value, float) else escape(value)


def record(value: Any) -> str:
    """What was written down when the model was made; "not recorded" where it was not."""
    return NOT_RECORDED if value is None else figure(value)


def name_values(values: Mapping[str, Any]) -> str:
    """Options as `name value, name value`, not escaped; those without a value are left out."""
    given = {name: value for name, value in values.items() if value not in (None, [], ())}
    return ", ".join(f"{name} {name_value(value)}" for name, value in given.items())


def name_value(value: Any) -> str:
    """An option's value, not escaped."""
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(name_value, value)) + "]"
    return str(value)


def one_line(text: Any) -> str:
    """Text without line ends and control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)).strip()


def escape(text: Any) -> str:
    """Text in which nothing is Markdown or HTML. An underscore within a word means nothing there."""
    return re.sub(r"([\\`*{}\[\]<>|#~&!]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", one_line(text))


def code_span(text: Any) -> str:
    """Text as code, or in bold where a backtick in it would end the code."""
    return f"**{escape(text)}**" if "`" in str(text) else f"`{one_line(text) or NOT_RECORDED}`"


def code_block(text: str, language: str) -> str:
    """Lines of code."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {line}" for line in lines)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int | None = None) -> str:
    """A table of cells that are Markdown already; the columns from `numbers_from` on are set to the right."""
    marks = ["---" if numbers_from is None or column < numbers_from else "---:" for column in range(len(headers))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headers, marks, *rows))


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first few of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
