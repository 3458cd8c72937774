"""Lazy imports: names imported on use, and imports left out."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast


def import_on_use(package: str, names: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package (PEP 562).

    names : module of the package -> the names that it gives
    """
    home = {name: module for module, given in names.items() for name in given}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return find


_MANY = 100  # modules


class _KeptImports:
    """wanted : whether what there is after an import is never looked over for garbage again"""

    wanted = False


def keep_imports() -> None:
    """Look for garbage among later objects only, once large libraries are imported, as a program of ours may.

    They make 400,000 objects, and looking them over again and again costs 6 % of a fine-tune of a small network.
    """
    _KeptImports.wanted = True


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import without looking for garbage: what modules make lives to the end, and looking costs 6 % of a prediction."""
    enabled, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if _KeptImports.wanted and len(sys.modules) > modules + _MANY:
            gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let the import of a module fail, if it has not been imported before."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = cast("Any", None)  # what the language has for this
    try:
        yield
    finally:
        del sys.modules[module]
