"""Custom layers from the modules named with --import."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from featx.backbones.runtime import KerasTensor, import_keras
from featx.io.jsontypes import parse_json
from featx.io.modules import named_modules

CustomObjects = dict[str, type | Callable[..., KerasTensor]]
_OWN = ("keras", "keras_hub", "builtins")  # whose classes need no --import


def custom_objects() -> CustomObjects:
    """Layers and functions of the modules that may be imported, by the names that a `.keras` file has for them.

    Raises
    ------
    ModuleError
        A module that cannot be imported.
    """
    found: CustomObjects = {}
    for name in list(named_modules().names):
        import_keras()  # on TensorFlow, before the module imports it
        content = vars(named_modules().load(name))
        found |= {key: one for key, one in content.items() if getattr(one, "__module__", None) == name}
    return found


def unknown_class(network: Path) -> str | None:
    """A sentence about the first class of a `.keras` file that Keras does not find; None where it finds all."""
    try:
        with zipfile.ZipFile(network) as archive:
            config = parse_json(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError):
        return None
    known = custom_objects()
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
