"""The syntax of values on a command line: bounded numbers, lists, mappings."""

from __future__ import annotations

from typing import Any

import click

from featx.config.bounds import Hint, Range, range_of, refuse, without_bounds, without_none


def number(hint: Hint, name: str | None = None) -> click.ParamType[Any]:
    """What reads a number of a type such as `Annotated[int, Ge(1)]`: finite, and within its bounds.

    name : what an error calls it; without one the option, as it was typed
    """
    found = range_of(hint)
    if without_bounds(without_none(hint)) is int:
        return click.INT if found == Range() else Whole(hint, name)
    return Finite(hint, name) if found == Range() else Decimal(hint, name)


class Whole(click.IntRange):
    """A whole number within bounds, which the help shows."""

    name = "integer"

    def __init__(self, hint: Hint, called: str | None) -> None:
        super().__init__(**_ends(range_of(hint)))
        self._hint, self._called = hint, called

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read what was typed, or refuse it."""
        found = click.INT.convert(value, param, ctx)
        refuse(self._called or _flag(param), self._hint, found)
        return found


class Decimal(click.FloatRange):
    """A number within bounds, which the help shows."""

    name = "float"

    def __init__(self, hint: Hint, called: str | None) -> None:
        super().__init__(**_ends(range_of(hint)))
        self._hint, self._called = hint, called

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read what was typed, or refuse it."""
        found = click.FLOAT.convert(value, param, ctx)
        refuse(self._called or _flag(param), self._hint, found)
        return found


class Finite(click.ParamType[float]):
    """Any number but NaN and the infinities."""

    name = "float"

    def __init__(self, hint: Hint, called: str | None) -> None:
        self._hint, self._called = hint, called

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read what was typed, or refuse it."""
        found = click.FLOAT.convert(value, param, ctx)
        refuse(self._called or _flag(param), self._hint, found)
        return found


class Commas(click.ParamType[Any]):
    """Values separated by commas: `count` of them, 0 for any number."""

    name = "list"

    def __init__(self, kind: type, count: int = 0) -> None:
        self._kind, self._count = kind, count

    @property
    def of_any_number(self) -> bool:
        """Whether there may be any number of values."""
        return not self._count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed, or refuse it."""
        if not isinstance(value, str):
            return value
        try:
            values = tuple(self._kind(part.strip()) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of {_PLURALS[self._kind]} separated by commas", param, ctx)
        if self._count and len(values) != self._count:
            self.fail(f"{value!r} has {len(values)} values; {self._count} are needed, separated by commas", param, ctx)
        return values


class MappingText(click.ParamType[Any]):
    """A mapping written as in a pipeline file: `{shrinkage: [0.1, 0.9]}`."""

    name = "mapping"

    def __init__(self, key: str, example: str) -> None:
        self._flag, self._example = "--" + key.partition(".")[2].replace("_", "-"), example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed, or refuse it."""
        from featx.config.route import parse_value

        found = parse_value(value, self._flag) if isinstance(value, str) else value
        if not isinstance(found, dict):
            self.fail(f"{value!r} is not a mapping like {self._example}", param, ctx)
        return found


class HeadChoice(click.ParamType[Any]):
    """A kind of head: the help lists those of plug-ins as well, which nothing else looks for unasked."""

    name = "choice"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 - click's
        """All there are."""
        from featx.config.head import head_names

        return f"[{'|'.join(head_names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """Read what was typed, or refuse it."""
        from featx.config.head import check_head_name

        return check_head_name(value)


_PLURALS = {str: "texts", float: "numbers", int: "whole numbers"}


def _ends(found: Range) -> dict[str, Any]:
    """A range as click takes it."""
    return {
        "min": found.least,
        "max": found.most,
        "min_open": found.least_open,
        "max_open": found.most_open,
    }


def _flag(param: click.Parameter | None) -> str:
    return param.opts[0] if param is not None else "It"
