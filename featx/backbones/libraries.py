"""Heavy libraries, imported without what featx does not use of them."""

from __future__ import annotations

from typing import Any

from featx.io.lazy import hidden


def import_openvino() -> Any:
    """OpenVINO without its converter, which takes as long to import as the rest, and without its telemetry.

    OpenVINO itself goes without either where it cannot be imported.
    """
    with hidden("openvino.tools.ovc"), hidden("openvino_telemetry"):
        import openvino
    return openvino
