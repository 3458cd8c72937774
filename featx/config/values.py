"""What the text of some options stands for: presets, sizes in bytes, layers of a dense head, a share of memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from featx.errors import UsageError

_CONSTANT: Mapping[str, Any] = {"schedule": "constant", "boundaries": (), "rates": ()}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "sgd": {"optimizer": "sgd", "learning_rate": 1e-4, "momentum": 0.9, **_CONSTANT},
    "piecewise": {"schedule": "piecewise", "boundaries": (20, 35), "rates": (1e-4, 5e-4, 1e-3), "epochs": 50},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 1e-4, **_CONSTANT},
}
"""What `preset` stands for"""


def with_preset(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options of a section with those of the preset among them, where they do not say otherwise."""
    preset = values.get("preset")
    return {**(PRESETS.get(preset, {}) if isinstance(preset, str) else {}), **values}


def parse_share(text: str) -> float | None:
    """Read the share of a GPU's memory; None: as it is needed.

    Raises
    ------
    UsageError
        What is neither `grow` nor a number above 0 and up to 1.
    """
    if text == "grow":
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UsageError(f"finetune.gpu_memory is grow, or a share above 0 and up to 1, like 0.5; got {text!r}.")
    return share


def parse_bytes(text: str) -> int:
    """Bytes of a size like `800MB`, `1.5GB` or a plain number.

    Raises
    ------
    UsageError
        When it is no size.
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*([kKmMgGtT]?)i?[bB]?\s*", text)
    try:
        number = float(found[1]) if found else -1.0
    except ValueError:
        number = -1.0
    if not found or number <= 0:
        raise UsageError(f"A size is a number and a unit, like 800MB or 1.5GB; got {text!r}.")
    return int(number * 1000 ** ("kmgt".index(found[2].lower()) + 1 if found[2] else 0))


def parse_hidden(hidden: str) -> tuple[int | float, ...]:
    """Read a list of layers: `256,0.3,128` is 256 units, dropout of 0.3, 128 units. Empty: no hidden layer.

    Raises
    ------
    UsageError
        An item that is neither a whole number above 0 nor a fraction between 0 and 1.
    """
    return tuple(_layer(item.strip()) for item in hidden.split(",") if item.strip())


def _layer(item: str) -> int | float:
    if item.isdecimal() and int(item) > 0:
        return int(item)
    try:
        share = float(item)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise UsageError(
            f"--hidden has units (whole numbers) and dropout (fractions below 1) like 256,0.3,128; got {item!r}."
        )
    return share
