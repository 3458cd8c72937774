"""Modules with layers of one's own: imported because somebody named them, never because a file does."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from featx.backbones.runtime import KerasTensor, import_keras
from featx.errors import BackboneError
from featx.io.digests import digest_file

CustomObjects = dict[str, type | Callable[..., KerasTensor]]
_OWN = ("keras", "keras_hub", "builtins")  # whose classes need no --import


class CustomModules:
    """The modules that may be imported in this process."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def allow(self, names: Iterable[str]) -> None:
        """Let these be imported when a network is loaded; the working directory is searched for them, too."""
        self.names += [name for name in names if name not in self.names]

    def objects(self) -> CustomObjects:
        """Layers and functions of the modules, by the names that a `.keras` file has for them.

        Raises
        ------
        BackboneError
            A module that cannot be imported.
        """
        found: CustomObjects = {}
        for name in self.names:
            content = vars(_import(name))
            found |= {key: one for key, one in content.items() if getattr(one, "__module__", None) == name}
        return found


@cache
def custom_modules() -> CustomModules:
    """Those of this process."""
    return CustomModules()


def _import(name: str) -> object:
    import_keras()  # on TensorFlow, before the module imports it
    try:
        with _from_here():
            return importlib.import_module(name)
    except Exception as error:  # whatever the code of somebody else raises
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"Cannot import {name} (--import {name}): {type(error).__name__}: {reason}. The module must be installed, "
            "or lie in the folder you are in."
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
    """Digests of the code of modules, since the same layers computed otherwise are another network; nothing is run.

    Raises
    ------
    BackboneError
        No such module.
    """
    return [f"{name} {digest_file(file).hex()}" for name in names for file in _files_of(name)]


def _files_of(name: str) -> list[Path]:
    """The source of a module; of a package that of all its modules."""
    with _from_here():
        top = find_spec(name.partition(".")[0])
    folders = [] if top is None else list(top.submodule_search_locations or ())
    if folders:
        return sorted(file for folder in folders for file in Path(folder).rglob("*.py"))
    if top is None or top.origin is None:
        raise BackboneError(
            f"No module {name!r} (--import {name}). It must be installed, or lie in the folder you are in."
        )
    return [Path(top.origin)]


def unknown_class(network: Path) -> str | None:
    """A sentence about the first class of a `.keras` file that Keras does not find; None where it finds all."""
    try:
        with zipfile.ZipFile(network) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError):
        return None
    known = custom_modules().objects() if custom_modules().names else {}
    registered = import_keras().saving.get_registered_object
    for module, name, full in _classes(config):
        if name not in known and registered(full) is None:
            wanted = "MODULE" if module in {"", "__main__"} else module
            return (
                f"{network.name} has a layer of class {name}, which is not part of Keras. Give --import {wanted}, "
                "the module that defines it"
                + (", or features.imports in a pipeline file." if wanted != "MODULE" else " (a .py file of that name).")
            )
    return None


def _classes(value: object) -> Iterator[tuple[str, str, str]]:
    """(module, class, registered name) of everything of a configuration that is not Keras' own."""
    if isinstance(value, dict):
        registered = value.get("registered_name")
        if isinstance(registered, str) and isinstance(value.get("class_name"), str):
            module = str(value.get("module") or "")
            if module.partition(".")[0] not in _OWN:
                yield module, str(value["class_name"]), registered
        for one in value.values():
            yield from _classes(one)
    elif isinstance(value, list):
        for one in value:
            yield from _classes(one)
