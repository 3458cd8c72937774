"""Limits of the system, of memory, threads and processes: known by the words of whatever library has met one.

No file and no network is at fault then, whatever was being done with it.
"""

from __future__ import annotations

import errno
from typing import Literal, TypeAlias

Limit: TypeAlias = Literal["memory", "threads"]

_NUMBERS: dict[int | None, Limit] = {errno.ENOMEM: "memory", errno.EAGAIN: "threads"}
_WORDS: dict[Limit, tuple[str, ...]] = {
    "memory": (
        "Failed to allocate",  # TensorFlow and OpenVINO
        "OOM when allocating",
        "std::bad_alloc",
        "Cannot allocate memory",  # the system's words for ENOMEM
        "failed to map segment from shared object",  # the loader's, of a library that finds no room
    ),
    "threads": (
        "can't start new thread",  # Python's
        "Resource temporarily unavailable",  # the system's words for EAGAIN
    ),
}


def limit_of(error: BaseException) -> Limit | None:
    """Which limit an error stands for, None for none."""
    if isinstance(error, MemoryError):
        return "memory"
    text, number = str(error), getattr(error, "errno", None)
    by_words = next((kind for kind, some in _WORDS.items() if any(words in text for words in some)), None)
    return _NUMBERS.get(number, by_words)
