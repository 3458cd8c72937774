"""Third-party modules: imported because somebody named them, never because a file does."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from featx.errors import ModuleError
from featx.io.digests import digest_file
from featx.io.shown import error_line

_WHERE = "The module must be installed, or lie in the folder you are in."


class NamedModules:
    """The modules that may be imported in this process."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def allow(self, names: str | Iterable[str]) -> None:
        """Let these be imported when something needs them; the working directory is searched for them, too."""
        asked = [names] if isinstance(names, str) else names
        self.names += [name for name in asked if name not in self.names]

    def allow_found(self, names: Iterable[str]) -> None:
        """The same for modules that are needed.

        Raises
        ------
        ModuleError
            No such module; none of the names is allowed then, and what comes later does without.
        """
        asked = list(names)
        for name in asked:
            if name not in self.names:
                _find(name)
        self.allow(asked)

    def load(self, name: str) -> ModuleType:
        """Import one of them, from where it is installed or from the working directory.

        Raises
        ------
        ModuleError
            It cannot be imported, whatever its code raises; it is not among them any more then.
        """
        try:
            return import_named(name)
        except ModuleError:
            self.names.remove(name)
            raise

    def hold(self, module: str) -> bool:
        """Whether a module, or a package around it, is among them."""
        return any(module == name or module.startswith(f"{name}.") for name in self.names)


@cache
def named_modules() -> NamedModules:
    """Those of this process."""
    return NamedModules()


def import_named(name: str) -> ModuleType:
    """Import a module, from where it is installed or from the working directory.

    Raises
    ------
    ModuleError
        It cannot be imported, whatever its code raises.
    """
    try:
        with _from_here():
            return importlib.import_module(name)
    except Exception as error:  # whatever the code of somebody else raises
        reason = error_line(error)
        raise ModuleError(
            f"Cannot import {name} (--import {name}): {type(error).__name__}: {reason}. {_WHERE}"
        ) from error


@contextmanager
def _from_here() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def module_digests(names: Iterable[str]) -> list[str]:
    """Digests of the code of modules, since the same names computed otherwise give other numbers; nothing is run.

    Raises
    ------
    ModuleError
        No such module.
    """
    return [f"{name} {digest_file(file).hex()}" for name in names for file in _files_of(name)]


def _files_of(name: str) -> list[Path]:
    """The source of a module; of a package that of all its modules."""
    top = _find(name)
    folders = list(top.submodule_search_locations or ())
    return sorted(file for folder in folders for file in Path(folder).rglob("*.py")) or [Path(top.origin or "")]


def _find(name: str) -> ModuleSpec:
    """Where a module, or the package that it is in, comes from; nothing is run."""
    with _from_here():
        top = find_spec(name.partition(".")[0])
    if top is None or (top.origin is None and not top.submodule_search_locations):
        raise ModuleError(
            f"No module {name!r} (--import {name}). It must be installed, or lie in the folder you are in."
        )
    return top
