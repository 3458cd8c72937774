"""Output streams that are closed, full, or cannot show every character."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
from contextlib import suppress
from typing import TextIO

import click

from featx.errors import StoreError
from featx.io.shown import as_lines

_unseen: set[TextIO] = set()  # what stands for streams that are closed, and is read by nobody


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
            _unseen.add(getattr(sys, name))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_out(text: str, for_people: bool = False) -> None:
    """Print what a command was asked for. for_people : nobody misses it where stdout is closed, but they learn of it

    Raises
    ------
    StoreError
        Stdout cannot be written to, or it is closed and a script would wait for what it says.
    """
    if sys.stdout in _unseen:
        lost = give_up_stdout(OSError(errno.EBADF, "stdout is closed"))
        if not for_people:
            raise lost
        say(f"featx: {lost}")
        return
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise give_up_stdout(error) from error


def say(text: str) -> None:
    """A message that is not the result: where stderr is full or closed, the work goes on."""
    with suppress(OSError, ValueError):
        click.echo(as_lines(text), err=True)


def in_place_of(error: Exception) -> Exception:
    """The sentence for an error of click's own printing, of pages of help; any other error as it is."""
    last = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return give_up_stdout(error) if isinstance(error, OSError) and last.f_code is click.echo.__code__ else error


def give_up_stdout(error: OSError) -> StoreError:
    """The sentence for an error in writing to stdout, which nothing is written to any more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return StoreError(f"The output cannot be written: {error.strerror}. What was finished is kept.")


def start_logging(verbose: bool) -> None:
    """Print what is logged on stderr: warnings, and with `-v` the stages."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Shown("%(message)s"))
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def is_verbose() -> bool:
    """Whether the stages are printed."""
    return logging.getLogger().isEnabledFor(logging.INFO)


class _Shown(logging.Formatter):
    """Log lines that a terminal shows and does not obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return as_lines(super().format(record))
