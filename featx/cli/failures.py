"""Errors: one sentence on stderr, and with --json one object on stdout."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from featx.errors import FeatxError, LimitError
from featx.io.jsontypes import Json
from featx.io.limits import Limit, limit_of, memory_left, threads_to_be_had
from featx.io.shown import error_line

_SENTENCE = re.compile(r"(?<=[^.][.?!])\s+(?=[A-Z'\"(]|featx |--)")  # where a sentence ends and another begins
_LIMITS: dict[Limit, str] = {
    "memory": "Not enough memory. Use a smaller --infer-batch, --input-size or --pooling avg, or end other programs.",
    "threads": "This system lets featx start no more threads or processes. Use fewer --workers, or raise the limit.",
}
_GO_ON = "What was finished is kept: run the same command again to go on."


@dataclass(frozen=True)
class Failure:
    """Why a command has failed.

    text : what is wrong and what to do about it; kind : distinguishes failures for scripts
    status : of the process; in_json : whether the object that the command printed has it already
    """

    text: str
    kind: str
    status: int
    in_json: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception stands for."""
        if isinstance(error, FeatxError):
            return cls(str(error), kind_of(error), error.exit_code, error.in_json)
        if isinstance(error, click.UsageError):
            where = error.ctx.command_path if error.ctx is not None else "featx"
            message = error.format_message()
            stop = "" if message.endswith((".", "?", "!")) else "."  # of "Got unexpected extra argument (x)"
            more = "" if "--help lists" in message else f" {where} --help lists what there is."
            return cls(f"{message}{stop}{more}", "usage", error.exit_code)
        if isinstance(error, click.ClickException):
            return cls(error.format_message(), "usage", error.exit_code)
        text, kind = explain(error)
        return cls(text, kind, 1)

    @classmethod
    def interrupted(cls, terminated: bool) -> Failure:
        """A command that was ended by Ctrl-C, by SIGTERM, or by OpenBLAS, which sends SIGINT where it has no thread."""
        if not terminated and not threads_to_be_had(1):
            return cls(_LIMITS["threads"], "memory", 1)
        word = "Terminated" if terminated else "Interrupted"
        return cls(f"{word}. {_GO_ON}", word.lower(), 143 if terminated else 130)

    def as_json(self) -> dict[str, Json]:
        """What a command with --json prints."""
        return {"error": error_json(self.text, self.kind), "exit_status": self.status}


def kind_of(error: FeatxError) -> str:
    """The kind of an error in one word: usage, data, backbone, store, ...; "failed" for what has no kind of its own."""
    if isinstance(error, LimitError):  # as when it is met by an error of Python's
        return "memory"
    name = type(error).__name__
    return "failed" if name == "FeatxError" else name.removesuffix("Error").lower()


def error_json(text: str, kind: str) -> dict[str, Json]:
    """`message`, what is wrong; `hint`, the sentences behind it, which say what to do; None where there are none."""
    message, *hints = _SENTENCE.split(" ".join(text.split()), maxsplit=1)
    return {"message": message, "kind": kind, "hint": hints[0] if hints else None}


def explain(error: BaseException) -> tuple[str, str]:
    """What no other place has put into words, and its kind: limits of the system, or a mistake here."""
    line = error_line(error, 500)
    if "No usable temporary directory" in line:
        text = f"{line}. Free some space in one of these, or set TMPDIR to a folder that can be written to."
        return text, "store"
    if (limit := limit_of(error)) is not None:
        if limit == "threads" and memory_left() is not None:  # of which every thread needs some for its stack
            limit = "memory"
        return _LIMITS[limit], "memory"
    if isinstance(error, OSError) and error.errno is not None:
        from featx.io.files import explain_os_error

        known = explain_os_error(error, Path(os.fsdecode(error.filename or "a file")))
        if isinstance(known, FeatxError):
            return str(known), kind_of(known)
    text = f"Unexpected {type(error).__name__}: {line}. This is a bug in featx: 'featx -v ...' shows where."
    return text, "unexpected"


def print_failure(failure: Failure, as_json: bool) -> None:
    """Print a failure as one JSON object, unless the command has done so or stdout cannot be written to."""
    if not as_json or failure.in_json:
        return
    from featx.cli.render import emit

    with suppress(FeatxError, OSError):
        emit(True, failure.as_json(), "")
