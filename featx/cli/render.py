"""What people read: tables and sentences on stdout, one JSON object for scripts, progress on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import click

from featx.cli.streams import give_up_stdout
from featx.io.shown import as_json as to_json
from featx.io.shown import as_line, as_lines

if TYPE_CHECKING:
    from tqdm import tqdm

    from featx.io.jsontypes import Json


def emit(as_json: bool, content: Json, text: str) -> None:
    """Print the result: one JSON object, or `text`."""
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    try:
        click.echo(to_json(content, ascii_only=not unicode) if as_json else as_lines(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise give_up_stdout(error) from error


def say(text: str) -> None:
    """A message that is not the result: where stderr is full or closed, the work goes on."""
    with suppress(OSError):
        click.echo(as_lines(text), err=True)


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


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 image, 1,200 images. many : where it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def bad_images(bad: Sequence[Mapping[str, str]], shown: int = 10) -> str:
    """Bad images as lines, the first few of them."""
    if not bad:
        return ""
    lines = [f"  {as_line(one['path'])}: {as_line(one['reason'])}" for one in bad[:shown]]
    more = [f"  and {len(bad) - shown} more; --json lists them all"] if len(bad) > shown else []
    head = f"{counted(len(bad), 'image')} could not be read and {'was' if len(bad) == 1 else 'were'} left out:"
    return "\n".join([head, *lines, *more])


_EVERY = 10.0  # seconds between lines of progress where there is no terminal


class Bars:
    """A progress bar on stderr for the stage that runs: rate, time left, counts; without a terminal a line at times."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lines = not sys.stderr.isatty()
        self._due = time.monotonic() + _EVERY
        self._stage = ""
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, stage: str, done: int, total: int, /, **counts: int) -> None:
        """Show that `done` of `total` are done in `stage`."""
        if self._quiet or not total:
            return
        if self._lines:
            self._print_when_due(stage, done, total)
            return
        if stage != self._stage:
            self._close()
            from tqdm import tqdm

            self._stage = stage
            self._bar = tqdm(
                total=total, desc=stage, unit=" images", file=sys.stderr, leave=done < total, mininterval=0.2
            )
        assert self._bar is not None
        if counts:
            self._bar.set_postfix(counts, refresh=False)
        self._bar.update(done - self._bar.n)

    def _print_when_due(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY
            say(f"{stage}: {done:,} of {total:,} images")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._stage = ""


def figure_cells(figures: Mapping[str, Json], names: Sequence[str]) -> list[object]:
    """The cells of what was measured on `images`, one of the figures, with as many digits as these can tell."""
    from featx.metrics.digits import figure_text

    images = figures.get("images")
    count = images if isinstance(images, int) else None
    cells = map(figures.get, names)
    return [figure_text(value, count) if isinstance(value, float) else value for value in cells]


def metric_names(metrics: Mapping[str, Json]) -> list[str]:
    """The figures that are shown of what was measured."""
    from featx.metrics.table import shown_keys, target_of_metrics

    return ["images", *shown_keys(target_of_metrics(metrics), brief=True)]
