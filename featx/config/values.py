"""Option values as people write them, in a file, on the command line or in Python, and their meaning.

Most values are of their option's type already and are taken as they are; the others are read by pydantic, which is
loaded only then.
"""

from __future__ import annotations

import os
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args

from featx.config.bounds import Hint, origin_of, refuse, without_bounds, without_none
from featx.errors import UsageError

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails


def read_value(name: str, hint: Hint, written: object) -> object:
    """The value that was written for an option.

    Parameters
    ----------
    name : the option as `section.key`, for the message
    hint : its type, with bounds

    Raises
    ------
    UsageError
        A value of another type, or out of bounds.
    """
    meant = _as_meant(hint, plain(written))
    value = tuple(meant) if isinstance(meant, list) else meant
    if not _fits(hint, value):
        value = _parse(name, hint, meant)
    refuse(name, hint, value)
    return value


def plain(value: object) -> object:
    """A value as a pipeline file would hold it: lists for tuples and arrays, texts for paths."""
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _as_meant(hint: Hint, value: object) -> object:
    """What people leave out: brackets around items, quotes around a text that YAML takes for a number."""
    kind = without_bounds(without_none(hint))
    if origin_of(kind) is tuple:
        return _as_items(without_bounds(get_args(kind)[0]), value)
    if not _is_text(kind):
        return value
    if isinstance(value, list) and all(map(_is_number, value)):
        value = ",".join(map(str, value))
    value = _as_text(value)
    return kind(value) if kind is not str and isinstance(value, str) else value


def _as_items(item: Hint, value: object) -> object:
    if item is str and value is not None:
        return [_as_text(one) for one in (value if isinstance(value, list) else [value])]
    if item in (int, float) and isinstance(value, str) and value.strip():  # as on the command line: 0.8,0.1,0.1
        return value.split(",")
    return [value] if _is_number(value) else value


def _as_text(value: object) -> object:
    """`unfreeze: 10` and `classes: [0, 1]` are text; true and false stay what they are, and are refused."""
    return str(value) if _is_number(value) else value


def _is_text(kind: Hint) -> bool:
    return isinstance(kind, type) and issubclass(kind, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits(hint: Hint, value: object) -> bool:
    """Whether a value is of its type as it is."""
    origin, items = origin_of(hint), get_args(hint)
    if origin is Annotated:
        return _fits(items[0], value)
    if origin in (Union, UnionType):
        return any(_fits(arm, value) for arm in items)
    if origin is Literal:
        return type(value) is str and value in items
    if origin is tuple and isinstance(value, tuple):
        kinds = items[:1] * len(value) if Ellipsis in items else items
        return len(kinds) == len(value) and all(map(_fits, kinds, value))
    return value is None if hint is NoneType else type(value) is hint


def _parse(name: str, hint: Hint, written: object) -> object:
    from pydantic import ValidationError

    try:
        return _reader(hint).validate_python(written)
    except ValidationError as error:
        raise UsageError(" ".join(_explain(name, one) for one in error.errors())) from error


@cache
def _reader(hint: Hint) -> TypeAdapter[Any]:
    """What reads values of a type; the bounds are `refuse`'s, which names the option and all of its value."""
    from pydantic import TypeAdapter

    return TypeAdapter(_without_all_bounds(hint))


def _without_all_bounds(hint: Hint) -> Hint:
    if origin_of(hint) is Annotated:
        return _without_all_bounds(get_args(hint)[0])
    if origin_of(hint) in (Union, UnionType):
        return Union[tuple(map(_without_all_bounds, get_args(hint)))]  # noqa: UP007 - of arms that are not known here
    if origin_of(hint) is tuple:
        return tuple[tuple(map(_without_all_bounds, get_args(hint)))]  # type: ignore[misc]
    return hint


def _explain(name: str, error: ErrorDetails) -> str:
    where = ".".join([name, *map(str, error["loc"])])
    return f"{where}: {error['msg']}, got {error['input']!r}."
