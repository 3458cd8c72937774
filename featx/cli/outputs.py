"""The option of commands that write files: existing files are replaced only with --force."""

from __future__ import annotations

import click

from featx.io.outputs import require_new

__all__ = ["FORCE_OPTION", "require_new"]

FORCE_OPTION = click.option("--force", is_flag=True, help="Replace an existing output.")
