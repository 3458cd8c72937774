"""The command line: parse, call, render."""

from __future__ import annotations

from featx.cli.app import cli, main

__all__ = ["cli", "main"]
