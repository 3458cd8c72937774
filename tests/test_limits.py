"""Limits of a system: a library that would end the process is not started, and nothing else is blamed."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from featx.cli.failures import Failure
from featx.errors import LimitError
from featx.io import limits
from featx.io.limits import memory_left, require_room, threads_to_be_had

RESOURCE = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")


def _without_threads(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    begun: list[threading.Thread] = []
    usual = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if len(begun) >= allowed:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        usual(thread)

    monkeypatch.setattr(threading.Thread, "start", start)


def test_threads_are_counted_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    assert threads_to_be_had(5) == 5
    assert threading.active_count() == before
    _without_threads(monkeypatch, 3)
    with pytest.raises(LimitError, match=r"A needs 8 threads at least, and .* lets featx start 3\."):
        require_room("A", 1, 8)
    assert threading.active_count() == before


def test_a_limit_of_memory_is_named_before_a_library_meets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory_left", lambda: 2_000_000_000)
    require_room("A", 1_900_000_000, 1)
    with pytest.raises(LimitError, match=r"A needs 2.40 GB of memory at least, and .* \(ulimit -v\) leaves 2.00 GB"):
        require_room("A", 2_400_000_000, 1)
    failure = Failure.of(LimitError("x"))
    assert (failure.kind, failure.status) == ("memory", 1)


def test_an_interrupt_without_threads_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBLAS raises SIGINT where it cannot start its threads."""
    assert Failure.interrupted(False).status == 130
    _without_threads(monkeypatch, 0)
    assert Failure.interrupted(False).kind == "memory"
    assert Failure.interrupted(True).status == 143


@RESOURCE
def test_a_real_limit_of_memory_ends_in_one_sentence(tmp_path: Path) -> None:
    assert memory_left() is None or memory_left() != 0
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, resource.RLIM_INFINITY))\n"
        "from featx.backbones.runtime import import_keras\n"
        "from featx.errors import LimitError\n"
        "try: import_keras()\n"
        "except LimitError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.startswith("TensorFlow needs 2.40 GB of memory at least")
