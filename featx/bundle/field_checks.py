"""The allowed values of manifest fields, and the error that names a wrong one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import (
    TYPE_CHECKING,
    Self,
)

from featx.backbones.output import Output
from featx.errors import UsageError
from featx.images.resize import ResizeRule

if TYPE_CHECKING:
    pass


_MOST_SHOWN = 60  # characters of a value that is wrong


def _shown(value: object) -> str:
    text = repr(value.name if isinstance(value, Output) else value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


class FieldError(Exception):
    """A value that is not what its field holds; `path` leads to it.

    text : what is wrong, to follow the name of the field
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.path: list[str | int] = []

    @classmethod
    def of(cls, wanted: str, value: object) -> FieldError:
        """The error of a value that is not `wanted`."""
        return cls(f"must be {wanted}, got {_shown(value)}")

    @property
    def name(self) -> str:
        """The field, as in `split.images.train` or `classes[2]`."""
        return "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in self.path).lstrip(".")

    def within(self, name: str | int) -> Self:
        """The same error, seen from what holds the value under this name."""
        self.path.insert(0, name)
        return self

    def __str__(self) -> str:
        return f"is not valid: {self.name or 'it'} {self.text}"


class AbsentError(FieldError):
    """Fields that are not there, and have to be."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__("is absent")
        self.absent = names

    def __str__(self) -> str:
        return "says nothing of " + ", ".join(f"{self.name}.{name}".lstrip(".") for name in self.absent)


def resize_text(text: str) -> None:
    """Refuse what is no way to resize."""
    try:
        ResizeRule.parse(text)
    except UsageError:
        raise FieldError.of("a way to resize, as in crop:0.875:bicubic", text) from None


def plain_name(name: str) -> None:
    """Check that a file's name stays inside the directory that it is written to."""
    if not is_plain_name(name):
        raise FieldError(f"names the file {name!r}, which lies outside of the bundle")


def is_plain_name(name: str) -> bool:
    """Whether a file's name stays inside the directory that it is written to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and not {"..", "\\", ":"} & {*path.parts, *name}


def filled(values: Collection[object]) -> None:
    """Check that there is something in it."""
    if not values:
        raise FieldError("must not be empty")


def distinct(values: tuple[object, ...]) -> None:
    """Check that nothing is there twice."""
    twice = next((value for value, count in Counter(values).items() if count > 1), None)
    if twice is not None:
        raise FieldError(f"must not have {_shown(twice)} twice")
