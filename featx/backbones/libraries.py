"""Heavy libraries, imported without what featx does not use of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


def import_openvino() -> Any:
    """OpenVINO without its converter, which takes as long to import as the rest, and without its telemetry.

    OpenVINO itself goes without either where it cannot be imported.
    """
    with hidden("openvino.tools.ovc"), hidden("openvino_telemetry"):
        import openvino
    return openvino


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
