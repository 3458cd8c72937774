"""Heavy libraries, imported without the parts that featx does not use."""

from __future__ import annotations

import sys
from typing import Any

from featx.io.lazy import hidden
from featx.io.limits import require_room

_ROOM, _THREADS = 720_000_000, 2  # to predict with a small network on two cores


def import_openvino() -> Any:
    """OpenVINO without its converter, which takes as long to import as the rest, and without its telemetry.

    OpenVINO itself goes without either where it cannot be imported.
    """
    if "openvino" not in sys.modules:
        require_room("OpenVINO", _ROOM, _THREADS)
    with hidden("openvino.tools.ovc"), hidden("openvino_telemetry"):
        import openvino
    return openvino
