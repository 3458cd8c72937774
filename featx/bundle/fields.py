"""Dataclasses to and from JSON: every type and bound is checked, and a wrong value is named by its path.

    @dataclass(frozen=True)
    class Point:
        x: Annotated[float, Ge(0)]
        label: str = omitted("")                    # not written where it has its default
        more: Mapping[str, Json] = rest()           # takes the keys that no other field has

    read_record(Point, {"x": 1, "unit": "m"})       # Point(x=1, label="", more={"unit": "m"})
    write_record(Point(1))                          # {"x": 1}

A field that has a default may be absent. Numbers are finite. What the types are is found out once per class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from featx.backbones.output import Output
from featx.config.bounds import Range, range_of
from featx.errors import UsageError
from featx.io.jsontypes import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
from featx.bundle.field_checks import AbsentError, FieldError

Record = TypeVar("Record", bound="DataclassInstance")
Reader = Callable[[object], Any]
Check = Callable[[Any], None]
_SCALARS = {bool: "true or false", int: "a whole number", str: "text"}


def rest() -> Any:
    """Return a field that takes the keys which no other field has."""
    return field(default_factory=dict, metadata={"rest": True})


def omitted(default: Any, *, key: str | None = None) -> Any:
    """Return a field that is not written where it has its default.

    key : its name in JSON, where that is not the field's
    """
    return field(default=default, metadata={"omitted": True, "key": key})


def needed() -> Any:
    """Return a field that is an empty object in a new record, and must be there when one is read."""
    return field(default_factory=dict, metadata={"needed": True})


def read_record(kind: type[Record], value: object) -> Record:
    """Return a dataclass of this kind from a JSON object.

    Raises
    ------
    FieldError
        At the first value that is not what its field holds.
    """
    return cast("Record", _reader(kind)(value))


def write_record(record: DataclassInstance) -> dict[str, Json]:
    """Return a dataclass as a JSON object, its keys in the order of the fields."""
    found: dict[str, Json] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if one.metadata.get("rest"):
            found |= cast("dict[str, Json]", to_json(value))
        elif not (one.metadata.get("omitted") and value == one.default):
            found[one.metadata.get("key") or one.name] = to_json(value)
    return found


def to_json(value: object) -> Json:
    """Return what a field holds as JSON."""
    if isinstance(value, Output):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return write_record(value)
    if isinstance(value, Mapping):
        return {name: to_json(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(one) for one in value]
    return cast("Json", value)


@cache
def _reader(kind: Any) -> Reader:
    """Return what reads a value of this type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is object:  # what Json, a recursive type, counts as here
        return _read_json
    if origin is Annotated:
        checks = [one for one in kind.__metadata__ if callable(one)]
        return _checked(_reader(arguments[0]), [*_bounds(range_of(kind)), *checks])
    if origin is Literal:
        return _choice(arguments)
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is tuple:
        return _items(_reader(arguments[0])) if arguments[1:] == (...,) else _row(tuple(map(_reader, arguments)))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_reader(arguments[0]), _reader(arguments[1]))
    if kind is Output:
        return _read_output
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(kind)
    return _read_number if kind is float else _scalar(kind)


def _scalar(kind: type) -> Reader:
    wanted = _SCALARS[kind]

    def read(value: object) -> object:
        if type(value) is not kind:
            raise FieldError.of(wanted, value)
        return value

    return read


def _read_number(value: object) -> float:
    """A whole number stays one, so that it is written as it was."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError.of("a number", value)
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError.of("a finite number", value)
    if isinstance(value, int) and abs(value) > 1 << 1000:
        raise FieldError.of("a finite number", float("inf"))
    return value


def _read_json(value: object) -> object:
    if isinstance(value, list | tuple):
        return _items(_read_json)(value)
    if isinstance(value, Mapping):
        return _mapping(_scalar(str), _read_json)(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _read_number(value)
    if value is None or isinstance(value, bool | str):
        return value
    raise FieldError.of("a value of JSON", value)


def _read_output(value: object) -> Output:
    if isinstance(value, str):
        try:
            output = Output.parse(value)
        except UsageError:
            output = None
        if output is not None and output.name == value:
            return output
    raise FieldError.of("LAYER@POOLING, as in mixed7@avg", value)


def _checked(read: Reader, checks: Sequence[Check]) -> Reader:
    def read_and_check(value: object) -> object:
        found = read(value)
        for check in checks:
            check(found)
        return found

    return read_and_check


def _bounds(limits: Range) -> Iterator[Check]:
    """Yield what checks that a number is within its bounds, where it has a least value; the largest may be open."""
    if limits.least is None:
        return
    least, most = limits.least, math.inf if limits.most is None else limits.most
    words = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"

    def check(value: float) -> None:
        if not least <= value <= most or (limits.least_open and value == least):
            raise FieldError.of(f"a number above {least:g}" if limits.least_open else f"a number {words}", value)

    yield check


def _choice(allowed: tuple[object, ...]) -> Reader:
    def read(value: object) -> object:
        if not isinstance(value, str) or value not in allowed:
            raise FieldError.of(f"one of {', '.join(map(str, allowed))}", value)
        return value

    return read


def _union(kinds: tuple[Any, ...]) -> Reader:
    """One type besides None and marks, which are members of an Enum and stand for what is absent."""
    (kind,) = [one for one in kinds if one is not NoneType and not (isinstance(one, type) and issubclass(one, Enum))]
    read, optional = _reader(kind), NoneType in kinds
    return lambda value: None if value is None and optional else read(value)


def _items(read: Reader) -> Reader:
    def read_all(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise FieldError.of("a list", value)
        return tuple([_within(place, read, one) for place, one in enumerate(value)])

    return read_all


def _row(reads: tuple[Reader, ...]) -> Reader:
    def read_all(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple) or len(value) != len(reads):
            raise FieldError.of(f"a list of {len(reads)}", value)
        return tuple([_within(place, read, one) for place, (read, one) in enumerate(zip(reads, value, strict=True))])

    return read_all


def _mapping(read_key: Reader, read: Reader) -> Reader:
    def read_all(value: object) -> dict[str, object]:
        if not isinstance(value, Mapping):
            raise FieldError.of("an object", value)
        return {read_key(name): _within(str(name), read, one) for name, one in value.items()}

    return read_all


def _within(name: str | int, read: Reader, value: object) -> object:
    try:
        return read(value)
    except FieldError as error:
        raise error.within(name) from None


def _has_default(one: Field[Any]) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def _record(kind: type[DataclassInstance]) -> Reader:
    hints = get_type_hints(kind, include_extras=True, localns={"Json": object})
    own = {one.metadata.get("key") or one.name: one for one in fields(kind) if not one.metadata.get("rest")}
    reads = {key: _reader(hints[one.name]) for key, one in own.items()}
    needed = [key for key, one in own.items() if one.metadata.get("needed") or not _has_default(one)]
    other = next((one.name for one in fields(kind) if one.metadata.get("rest")), None)
    read_other = None if other is None else _reader(get_args(hints[other])[1])

    def read(value: object) -> object:
        if not isinstance(value, Mapping):
            raise FieldError.of("an object", value)
        absent = [key for key in needed if key not in value]
        if absent:
            raise AbsentError(absent)
        found = {own[key].name: _within(key, reads[key], one) for key, one in value.items() if key in own}
        if other is not None and read_other is not None:
            found[other] = {
                str(key): _within(str(key), read_other, one) for key, one in value.items() if key not in own
            }
        return kind(**found)

    return read
