"""An option: its type with bounds, its default, its help text, and how the help shows its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_type_hints

from featx.config.bounds import Hint, refuse, without_bounds, without_none
from featx.config.texts import Text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Also:
    """Marks the type of an option that may be written as a value of another type in Python."""

    kind: type


@dataclass(frozen=True)
class Known:
    """Marks a text whose values are these, and names of plug-ins."""

    values: tuple[str, ...]


Keys = Mapping[str, object]
"""Options by name, or by `section.key`, with their values as they were written"""

Place = Annotated[str, Also(Path)]
"""The name of a file or folder"""


@dataclass(frozen=True)
class Section:
    """A section of a pipeline: a frozen dataclass of options, whose texts are parsed when it is made."""

    trained: ClassVar[str] = ""
    """What it trains, `{trained}` in its help texts"""

    def __post_init__(self) -> None:
        section: Hint = type(self)
        for name, kind in _texts(section).items():
            written = getattr(self, name)
            if type(written) is str:
                object.__setattr__(self, name, kind(written))


def option(
    default: Any,
    help: str,  # noqa: A002
    *,
    metavar: str | None = None,
    repeated: bool = False,
    flag: str | None = None,
) -> Any:
    """A field of a section.

    help : a text that begins with the thing; `{trained}` stands for what the section trains
    metavar : its value in the help, where the type says too little
    repeated : several values are given by repeating the option, not separated by commas
    flag : the option on the command line, where that is not its name
    """
    return field(default=default, metadata={"help": help, "metavar": metavar, "repeated": repeated, "flag": flag})


def help_of(section: type[Section], entry: Field[Any]) -> str:
    """The help of a section's option."""
    return str(entry.metadata["help"]).replace("{trained}", section.trained)


def check_bounds(options: DataclassInstance, prefix: str = "") -> None:
    """Raise UsageError where a field of a dataclass is out of the bounds of its type.

    prefix : what an error writes before the field's name, like `head.`
    """
    for name, hint in types_of(type(options)).items():
        refuse(f"{prefix}{name}", hint, getattr(options, name))


def types_of(section: type[DataclassInstance]) -> Mapping[str, Hint]:
    """Option -> its type, with bounds and marks."""
    kind: Hint = section  # mypy takes no class for hashable
    return _types(kind)


@cache
def _types(section: Hint) -> Mapping[str, Hint]:
    hints = get_type_hints(section, include_extras=True)
    return MappingProxyType({entry.name: hints[entry.name] for entry in fields(section)})


@cache
def _texts(section: Hint) -> Mapping[str, type[Text]]:
    """Option -> the class of its text, of those that have one."""
    kinds = {name: without_bounds(without_none(hint)) for name, hint in _types(section).items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Text)}
