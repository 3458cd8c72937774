r"""Untrusted text, such as names of files and classes, made safe for a terminal, JSON and CSVs.

A path of this machine may hold bytes that are not UTF-8, which Python keeps as surrogates; `as_utf8` writes them as
`\xe9`, and `from_utf8` reads them again. Control characters and marks that turn the direction of writing could make a
terminal show, or do, what nobody meant.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featx.io.jsontypes import Json

_SURROGATE = re.compile("[\ud800-\udfff]")
# C0 and C1 controls, DEL, line and paragraph separators, and the marks of Unicode's bidirectional algorithm
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_UNFIT = re.compile(f"[{_CONTROLS}]")
_UNFIT_IN_LINE = re.compile(f"[{_CONTROLS}\n\t]")
_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")


def as_utf8(text: str) -> str:
    r"""The text, with every byte that is not UTF-8 written as `\xe9`."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    raw = text.encode("utf-8", "surrogateescape") if _all_bytes(text) else text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")


def from_utf8(text: str) -> str:
    """The path of which `as_utf8` made this text, if it has such bytes."""
    return os.fsdecode(
        _ESCAPED.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), text).encode("utf-8", "surrogateescape")
    )


def as_line(text: str) -> str:
    r"""The text as one line that a terminal shows and does not obey: unfit characters as `\x1b` or `\u202e`."""
    return _UNFIT_IN_LINE.sub(_escape, as_utf8(text))


def as_lines(text: str) -> str:
    """As `as_line`, for a text of several lines: line ends and tabs stay."""
    return _UNFIT.sub(_escape, as_utf8(text))


def error_line(error: object, most: int = 200) -> str:
    """What an error of somebody else's code says: one line, cut to so many characters, without its last full stop."""
    text = str(error)
    if isinstance(error, KeyError) and error.args and " " in str(error.args[0]):
        text = str(error.args[0])  # a sentence, which it puts in quotes as it does a key
    return " ".join(text.split())[:most].rstrip(".")


def json_fit(value: Json) -> Json:
    """A JSON value whose texts are valid UTF-8."""
    if isinstance(value, str):
        return as_utf8(value)
    if isinstance(value, dict):
        return {as_utf8(key): json_fit(one) for key, one in value.items()}
    return [json_fit(one) for one in value] if isinstance(value, list | tuple) else value


def as_json(value: Json, ascii_only: bool = False, indent: int | None = None) -> str:
    r"""A value as JSON text that is valid UTF-8; NaN and infinity are refused: they are not JSON.

    ascii_only : other characters as `\u00e9`, where they could not be written
    """
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False, default=_plain)
    if _SURROGATE.search(text) if not ascii_only else "\\ud" in text:
        text = json.dumps(json_fit(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False, default=_plain)
    return text


def _plain(value: object) -> object:
    """A number or truth value of NumPy as Python's own: no result is lost at its end for its type."""
    if not hasattr(value, "item"):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return value.item()


def _all_bytes(text: str) -> bool:
    """Whether every surrogate stands for a byte."""
    return all("\udc80" <= one <= "\udcff" for one in _SURROGATE.findall(text))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
