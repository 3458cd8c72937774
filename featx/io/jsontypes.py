"""The type of JSON content, and reading it from untrusted files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

_DEEPEST = 200  # levels, of one in another; networks within networks take some 60

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises
    ------
    ValueError
        It is not JSON, or it is nested so deeply that what goes through it level by level would not come to its end.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for one in level for child in _children(one)]
        if not level:
            return value
    raise ValueError("it is nested too deeply")


def _children(value: Json) -> Sequence[Json]:
    """What is in an array or an object."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()
