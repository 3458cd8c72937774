"""System limits of memory, threads and processes, recognised in the messages of any library.

No file and no network is at fault then, whatever was being done with it.
"""

from __future__ import annotations

import errno
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

from featx.errors import LimitError

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


def memory_left() -> int | None:
    """The bytes of addresses that a limit of this process (`ulimit -v`) leaves; None without one, or if not known."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    with suppress(OSError, ValueError, IndexError):
        return int(limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize())
    return None


def require_room(library: str, room: int, threads: int) -> None:
    """Refuse to start a library that would end the process, without a word, where it gets no memory or no thread.

    room : bytes of addresses that it takes at least; threads : that it starts

    Raises
    ------
    LimitError
        A limit of this process leaves less.
    """
    left = memory_left()
    if left is not None and left < room:
        raise LimitError(
            f"{library} needs {room / 1e9:.2f} GB of memory at least, and the limit of this process (ulimit -v) leaves "
            f"{max(left, 0) / 1e9:.2f} GB. Raise the limit, as by: ulimit -v unlimited"
        )
    started = threads_to_be_had(threads)
    if started < threads:
        raise LimitError(
            f"{library} needs {threads} threads at least, and this system lets featx start {started}. Raise the limit "
            "of processes (ulimit -u, or that of the container)."
        )


def threads_to_be_had(most: int) -> int:
    """How many threads this process can start now, up to `most`; they are started for it, and end at once."""
    enough, started = threading.Event(), []
    with suppress(RuntimeError):
        for _ in range(most):
            one = threading.Thread(target=enough.wait, daemon=True)
            one.start()
            started.append(one)
    enough.set()
    for one in started:
        one.join()
    return len(started)
