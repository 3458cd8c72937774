"""Plug-ins: names that installed packages add to featx through entry points. None is loaded until it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from featx.errors import ModuleError
from featx.io.modules import import_named
from featx.io.shown import error_line

Group = Literal["featx.heads", "featx.backbones"]


@dataclass(frozen=True)
class PlugIn:
    """One name that a package adds.

    name : by which options name it
    value : where it is, as module:attribute
    package, version : of the distribution
    """

    name: str
    value: str
    package: str
    version: str

    @property
    def title(self) -> str:
        """Its package with the version."""
        return f"{self.package} {self.version}"

    @property
    def module(self) -> str:
        """The module that it is in."""
        return self.value.partition(":")[0].strip()

    @property
    def path(self) -> str:
        """The dotted path of what it stands for."""
        return self.value.partition("[")[0].replace(":", ".").replace(" ", "")

    @property
    def root(self) -> str:
        """The top package of that module."""
        return self.module.partition(".")[0]

    def load(self) -> object:
        """What the name stands for; its module is imported now.

        Raises
        ------
        ModuleError
            A module that cannot be imported, or that has no such attribute.
        """
        try:
            found: object = import_named(self.module)
            for part in self.value.partition(":")[2].split("[")[0].strip().split("."):
                found = getattr(found, part)
        except (ModuleError, AttributeError) as error:
            reason = error.__cause__ if isinstance(error, ModuleError) else error
            line = error_line(reason)
            raise ModuleError(
                f"The plug-in {self.name} of {self.title} cannot be loaded ({self.value}): {type(reason).__name__}: "
                f"{line}. Fix the package, or uninstall it: pip uninstall {self.package}"
            ) from error
        return found


@cache
def find_plugins(group: Group) -> Mapping[str, PlugIn]:
    """Name -> plug-in of all installed packages; a package whose files cannot be read has none.

    Of two packages with one name the first in alphabetic order has it.
    """
    from importlib.metadata import distributions  # which brings email along

    found: dict[str, PlugIn] = {}
    for distribution in distributions():
        try:
            entries = distribution.entry_points.select(group=group)
            made = [PlugIn(one.name, one.value, str(distribution.name), str(distribution.version)) for one in entries]
        except Exception:  # noqa: S112 - files of other people, which may hold anything
            continue
        for one in made:
            if one.name not in found or one.package < found[one.name].package:
                found[one.name] = one
    return dict(sorted(found.items()))
