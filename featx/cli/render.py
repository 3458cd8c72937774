"""Output for people: tables and sentences on stdout, one JSON object for scripts, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from featx.cli.failures import error_json, kind_of
from featx.cli.streams import print_out
from featx.cli.streams import say as say
from featx.io.bars import Bars as Bars
from featx.io.counting import counted
from featx.io.shown import as_json as to_json
from featx.io.shown import as_line, as_lines

if TYPE_CHECKING:
    from featx.errors import FeatxError
    from featx.io.jsontypes import Json


JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def emit(as_json: bool, content: Mapping[str, Json], text: str, failure: FeatxError | None = None) -> None:
    """Print the result: one JSON object, or `text`.

    failure : raised once that is printed; the object has it, too
    """
    if failure is not None:
        error = error_json(str(failure), kind_of(failure))
        content = {**content, "error": error, "exit_status": failure.exit_code}
        _print_result(as_json, content, text)
        failure.in_json = True
        raise failure
    _print_result(as_json, content, text)


def _print_result(as_json: bool, content: Mapping[str, Json], text: str) -> None:
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    print_out(to_json(content, ascii_only=not unicode) if as_json else as_lines(text), for_people=not as_json)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns of text; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [all(_is_number(value) for value in column) for column in zip(*cells, strict=True)] or [False] * len(
        headers
    )
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
        for line in [list(headers), *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    return as_line(str(value))


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").replace("%", "").lstrip("-").isdigit()


def bad_images(bad: Sequence[Mapping[str, str]], shown: int = 10) -> str:
    """Bad images as lines, the first few of them."""
    if not bad:
        return ""
    lines = [f"  {as_line(one['path'])}: {as_line(one['reason'])}" for one in bad[:shown]]
    more = [f"  and {len(bad) - shown} more; --json lists them all"] if len(bad) > shown else []
    head = f"{counted(len(bad), 'image')} could not be read and {'was' if len(bad) == 1 else 'were'} left out:"
    return "\n".join([head, *lines, *more])


def figure_cells(figures: Mapping[str, Json], names: Sequence[str]) -> list[object]:
    """The cells of what was measured on `images`, one of the figures, with as many digits as these support."""
    from featx.metrics.digits import figure_text

    images = figures.get("images")
    count = images if isinstance(images, int) else None
    cells = map(figures.get, names)
    return [figure_text(value, count) if isinstance(value, float) else value for value in cells]


def metric_names(metrics: Mapping[str, Json]) -> list[str]:
    """The figures that are shown of what was measured."""
    from featx.metrics.table import shown_keys, target_of_metrics

    return ["images", *shown_keys(target_of_metrics(metrics), brief=True)]
