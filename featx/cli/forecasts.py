"""What dry runs print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featx.cli.render import emit, table
from featx.io.counting import duration

if TYPE_CHECKING:
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
        f"time       {_seconds(found.seconds) or _UNKNOWN}",
        f"new files  {_megabytes(found.bytes) or _UNKNOWN}",
        f"free disk  {found.free_bytes / 1e9:,.1f} GB",
    ]
    emit(as_json, found.as_json(), "\n".join(lines))


def _seconds(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"about {duration(seconds)}"


def _megabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:,.1f} MB"
