"""Where the output goes: streams that are closed, full, or cannot show every character."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from featx.errors import StoreError


def prepare_streams() -> None:
    """Let no output of a command fail for want of a stream or of a character.

    A file that is opened while stdout is closed would get its number, and what libraries print would end up in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+" if number else "r", encoding="utf-8"))  # noqa: SIM115 - for the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_stdout(error: OSError) -> StoreError:
    """The sentence for an error in writing to stdout, which nothing is written to any more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return StoreError(f"The output cannot be written: {error.strerror}. What was finished is kept.")
