"""What dry runs print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featx.cli.render import emit, table
from featx.io.counting import duration, total_of

if TYPE_CHECKING:
    from featx.extraction.planning import ExtractionPlan
    from featx.workflow.forecast import DryRun

DRY_RUN_OPTION = click.option(
    "--dry-run", is_flag=True, help="Only print what would be computed, and how long and how much disk it takes."
)
_UNKNOWN = "unknown before a first run"


def show_forecast(found: DryRun, as_json: bool) -> None:
    """Print the steps, with their sums and the free space."""
    rows = [(step.stage, step.what, _seconds(step.seconds), _megabytes(step.bytes)) for step in found.steps]
    lines = [
        table(["stage", "what", "time", "new on disk"], rows),
        f"results    {found.folder}",
        f"time       {_sum_of_seconds(found)}",
        f"new files  {_megabytes(found.bytes) or _UNKNOWN}",
        f"free disk  {found.free_bytes / 1e9:,.1f} GB",
    ]
    emit(as_json, found.as_json(), "\n".join(lines))


def show_extraction(found: ExtractionPlan, as_json: bool) -> None:
    """Print how many rows an extraction computes, how long that takes and what it adds to the disk."""
    seconds, size = total_of(one.seconds for one in found.parts), total_of(one.known_bytes for one in found.parts)
    lines = [
        f"{'; '.join(one.reason for one in found.parts)}.",
        f"rows to compute  {'at most ' if found.is_most else ''}{sum(len(one.rows) for one in found.parts):,}",
        f"time             {_UNKNOWN if seconds is None else f'about {seconds:.0f} s'}",
        f"new features     {_UNKNOWN if size is None else f'{size / 1e6:,.1f} MB'}",
        f"free disk        {found.images.free_bytes / 1e9:,.1f} GB",
    ]
    emit(as_json, found.as_json(), "\n".join(lines))


def _sum_of_seconds(found: DryRun) -> str:
    """The time of all steps; where that of some is not known, of the others, and which these are."""
    if not found.unknown:
        return str(_seconds(found.known_seconds))
    if not found.known_seconds:
        return _UNKNOWN
    return f"{_seconds(found.known_seconds)}, and {', '.join(found.unknown)}: {_UNKNOWN}"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"about {duration(seconds)}"


def _megabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:,.1f} MB"
