"""Files that a command writes: what is there is replaced with --force alone."""

from __future__ import annotations

from pathlib import Path

import click

from featx.errors import UsageError

FORCE_OPTION = click.option("--force", is_flag=True, help="Replace what is there under the name of the output.")


def require_new(out: Path | None, force: bool) -> None:
    """Refuse a file that exists, or a folder with anything in it, unless it may be replaced."""
    if out is None or force:
        return
    if out.is_file():
        raise UsageError(f"{out} exists already. Replace it with --force, or name another file with --out.")
    if out.is_dir() and next(out.iterdir(), None) is not None:
        raise UsageError(f"{out} is a folder with files in it. Add to it with --force, or name another with --out.")
