"""Commands and options as text safe to share: without folders and users of the original machine."""

from __future__ import annotations

import re
import shlex

_PLACE = re.compile(r"(?:~|[/\\]|\.\.?[/\\]|[A-Za-z]:[/\\]).*|[^:]*[/\\]\.\.[/\\].*", re.DOTALL)
_LISTED = re.compile(r"(?<![^=,:;(\[{'\"\s])(?:~|[/\\]|\.\.?[/\\]|[A-Za-z]:[/\\])[^\s=,;()\[\]{}'\"]+")
_HOME = re.compile(r"(?:[A-Za-z]:)?[/\\]+(?:home|Users)[/\\]+[^/\\]+|/root|~[^/\\]*")
_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]+://)(?:[^/@\s]*@)?(?P<rest>.*)", re.DOTALL)
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_SHORT_OPTION = re.compile(r"(-[A-Za-z])([~/\\.].*)", re.DOTALL)


def without_folders(command: str) -> str:
    """A command, or a call in Python, in which every path that leads out of the current folder is its last part alone.

    Such a path begins at the root, at a home or above the current folder; what stands behind `--option=` is one, too.
    """
    if not command.startswith("featx "):
        return _LITERAL.sub(lambda found: f"{found[0][0]}{without_folder(found[0][1:-1])}{found[0][0]}", command)
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that is never closed: not a command that was typed
        words = command.split()
    bare = [_bare_word(word) for word in words]
    return command if bare == words else shlex.join(bare)


def without_folder(value: str) -> str:
    """An option's value, which may be a path, a list of paths or a URL, without folders and users."""
    url = _URL.fullmatch(value)
    if url is not None and url["scheme"].lower() != "file://":
        return url["scheme"] + url["rest"]
    path = value if url is None else url["rest"]
    return _last_part(path) if _PLACE.fullmatch(path) else sentence_without_folders(path)


def sentence_without_folders(text: str) -> str:
    """A sentence whose words are no path out of the current folder, but the last parts of such paths."""
    return _LISTED.sub(lambda found: _last_part(found[0]), text)


def short_path(path: str) -> str:
    """The path of an image: where it does not begin in the current folder, its folder's name and its own alone."""
    if not _PLACE.fullmatch(path):
        return without_folder(path)
    return "/".join([part for part in re.split(r"[/\\]+", path) if part][-2:])


def _bare_word(word: str) -> str:
    short = _SHORT_OPTION.fullmatch(word)
    if short is not None:
        return short[1] + without_folder(short[2])
    option, mark, value = word.partition("=") if word.startswith("-") or "=" in word else ("", "", word)
    return f"{option}{mark}{without_folder(value)}" if mark or not option else word


def _last_part(path: str) -> str:
    bare = path.rstrip("/\\")
    return "~" if _HOME.fullmatch(bare) else re.split(r"[/\\]", bare)[-1]
