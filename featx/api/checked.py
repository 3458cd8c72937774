"""Checks what public functions are given before any of it is used: nothing else has looked at it.

Options of sections are not among it: these are read as in a pipeline file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_type_hints

import numpy as np

from featx.config.bounds import Hint, origin_of, without_bounds
from featx.errors import UsageError

_READ = {"images", "data", "pool", "new"}
_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
_LONGEST = 60  # characters of a value in a sentence

Function = TypeVar("Function", bound=Callable[..., Any])


def checked(function: Function, options: Collection[str] = ()) -> Function:
    """Let a function end with a sentence where an argument is of another kind than its annotation.

    options : names of keywords that are options of sections
    """

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        hints = _hints(function)
        for name, value in (*zip(_places(function), given, strict=False), *named.items()):
            if name in hints and name not in options:
                _require(name, hints[name], value)
        return function(*given, **named)

    return cast("Function", call)


def require_not_negative(name: str, value: int) -> None:
    """Refuse a number below zero."""
    if value < 0:
        raise UsageError(f"{name} must be at least 0, got {value}.")


@cache
def _places(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(
        name for name, one in signature(function).parameters.items() if one.kind is Parameter.POSITIONAL_OR_KEYWORD
    )


@cache
def _hints(function: Callable[..., Any]) -> Mapping[str, Hint]:
    """Argument -> its type, those of further keywords as well."""
    hints = get_type_hints(function)
    rest = [name for name, one in signature(function).parameters.items() if one.kind is Parameter.VAR_KEYWORD]
    for name in rest:
        hints |= get_type_hints(get_args(hints.pop(name))[0])
    return {name: hint for name, hint in hints.items() if name != "return" and not _is_read(name, hint)}


def _is_read(name: str, hint: Hint) -> bool:
    """Whether what reads an argument says more of it: data in one place, and images that may be in memory."""
    arms = _arms(hint)
    return name in _READ and (np.ndarray in arms or not any(map(_is_list, arms)))


def _arms(hint: Hint) -> tuple[Hint, ...]:
    """The types of a union, or the only one."""
    return get_args(hint) if origin_of(hint) in (Union, UnionType) else (hint,)


def _is_list(hint: Hint) -> bool:
    return origin_of(hint) is Sequence


def _require(name: str, hint: Hint, value: object) -> None:
    arms = [without_bounds(arm) for arm in _arms(hint)]
    if any(_fits(arm, value) for arm in arms):
        return
    shown = repr(value)
    shown = shown if len(shown) <= _LONGEST else f"a {type(value).__name__}"
    kinds = list(dict.fromkeys(_named(arm) for arm in arms if not (arm is str and Path in arms)))
    raise UsageError(f"{name} must be {' or '.join(kinds)}, got {shown}.")


def _fits(hint: Hint, value: object) -> bool:
    if hint is Any:
        return True
    if _is_list(hint):
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
            return False
        return all(any(_fits(arm, one) for arm in _arms(get_args(hint)[0])) for one in value)
    if origin_of(hint) is Literal:
        return isinstance(value, str)  # which of them is said by what takes it
    if hint is bool:
        return isinstance(value, bool | np.bool_) or (isinstance(value, Integral) and value in (0, 1))
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, os.PathLike)
    return isinstance(value, hint) if isinstance(hint, type) and not _is_protocol(hint) else callable(value)


def _is_protocol(hint: type) -> bool:
    return bool(getattr(hint, "_is_protocol", False))


def _named(hint: Hint) -> str:
    if _is_list(hint):
        return f"a list of {_named(_arms(get_args(hint)[0])[-1]).removeprefix('a ')}s"
    if origin_of(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if hint is NoneType:
        return "None"
    if _is_protocol(hint):
        return "a function"
    return _NAMES.get(hint) or f"a {hint.__module__.partition('.')[0]}.{hint.__name__}"
