"""Bounds of options, stated once, in their types: `Annotated[int, Ge(1)]`.

click reads them for the ranges in its help, pydantic where it is given such a type, and `refuse` for every value
wherever it comes from. An `Interval` is one bound, whose sentence names both ends; `Ge(0), Le(180)` are two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from featx.errors import UsageError
from featx.io.lazy import hidden

with hidden("typing_extensions"):  # which slows every type that is made after it, for a name that nobody needs here
    from annotated_types import Ge, Gt, Interval, Le, Lt

__all__ = [
    "Confidence",
    "Cosine",
    "Count",
    "Coverage",
    "Distance",
    "Ge",
    "Gt",
    "Hint",
    "Interval",
    "Le",
    "Lt",
    "Positive",
]

Confidence = Annotated[float, Ge(0), Le(1)]
Distance = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Coverage = Annotated[float, Gt(0), Lt(1)]
Positive = Annotated[float, Gt(0)]
Cosine = Annotated[float, Ge(-1), Le(1)]

Hint = Any
"""A type as it stands in an annotation: a class, a union, `Annotated[...]`, `tuple[...]`"""


@dataclass(frozen=True)
class Sentence:
    """What an error calls the values of a type, where the bounds alone would not explain it."""

    text: str


@dataclass(frozen=True)
class Range:
    """The least and the greatest number of a type; None: no bound. An open end is not in the range itself."""

    least: float | None = None
    most: float | None = None
    least_open: bool = False
    most_open: bool = False


def refuse(name: str, hint: Hint, value: object) -> None:
    """Raise UsageError where a number, or one of several, is out of the bounds of its type, or is not finite."""
    sentence = _sentence(hint, value)
    if sentence is not None:
        raise UsageError(f"{name} {sentence}{',' if sentence.startswith('must') else ';'} got {_listed(value)}.")


def range_of(hint: Hint) -> Range:
    """The range of a number's type."""
    found: dict[str, Any] = {}
    for bound in _bounds(without_none(hint)):
        for name, low, is_open in (("ge", True, False), ("gt", True, True), ("le", False, False), ("lt", False, True)):
            limit = getattr(bound, name, None)
            if limit is not None:
                found |= {"least": limit, "least_open": is_open} if low else {"most": limit, "most_open": is_open}
    return Range(**found)


def origin_of(hint: Hint) -> object:
    """What a type is made with: `tuple` of `tuple[int, ...]`; None of a class."""
    return get_origin(hint)


def without_none(hint: Hint) -> Hint:
    """The type without None, where it is optional."""
    if origin_of(hint) in (Union, UnionType):
        return next(arm for arm in get_args(hint) if arm is not NoneType)
    return hint


def without_bounds(hint: Hint) -> Hint:
    """The type that is annotated with bounds."""
    return get_args(hint)[0] if origin_of(hint) is Annotated else hint


def _bounds(hint: Hint) -> Iterator[Ge | Gt | Le | Lt | Interval]:
    for one in get_args(hint)[1:] if origin_of(hint) is Annotated else ():
        if isinstance(one, Ge | Gt | Le | Lt | Interval):
            yield one


def _sentence(hint: Hint, value: object) -> str | None:
    """What an error says of a value, after the name of the option; None where the value is within its bounds."""
    kind = without_none(hint)
    if isinstance(value, tuple) and origin_of(without_bounds(kind)) is tuple:
        items = get_args(without_bounds(kind))[:1] or (kind,)
        return next(filter(None, (_sentence(items[0], one) for one in value)), None)
    base, is_absent = without_bounds(kind), value is None and kind is not hint
    number = isinstance(value, Integral if base is int else Real) and not isinstance(value, bool)
    if base in (int, float) and not is_absent and not number:
        return f"must be a {'whole number' if base is int else 'number'}"  # from Python: nothing else has checked it
    if isinstance(value, bool) or not isinstance(value, Real):  # those of NumPy are, too
        return None
    wrong = next((_phrase(bound) for bound in _bounds(kind) if not _holds(bound, cast("float", value))), None)
    if wrong is None and not math.isfinite(value):
        wrong = "a finite number"
    own = next((one.text for one in get_args(kind) if isinstance(one, Sentence)), None)
    return wrong and (own or f"must be {wrong}")


def _holds(bound: Ge | Gt | Le | Lt | Interval, value: float) -> bool:
    """Whether a value is within a bound; NaN is within none."""
    limits = {name: getattr(bound, name, None) for name in ("ge", "gt", "le", "lt")}
    return (
        (limits["ge"] is None or value >= limits["ge"])
        and (limits["gt"] is None or value > limits["gt"])
        and (limits["le"] is None or value <= limits["le"])
        and (limits["lt"] is None or value < limits["lt"])
    )


def _phrase(bound: Ge | Gt | Le | Lt | Interval) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    limits = {name: getattr(bound, name, None) for name in words}
    if limits["gt"] is not None and limits["lt"] is not None:
        return f"between {limits['gt']} and {limits['lt']}"
    return " and ".join(f"{words[name]} {limit}" for name, limit in limits.items() if limit is not None)


def _listed(value: object) -> str:
    return (
        ",".join(map(str, value)) if isinstance(value, tuple) else repr(value) if isinstance(value, str) else str(value)
    )
