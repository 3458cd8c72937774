"""Ctrl-C and SIGTERM where Python ignores what is raised: in callbacks of weak references, in finalisers."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from conftest import environment

# In a process of its own, which has the signals' usual handlers, as a command has.
SCRIPT = """
import os, signal, sys, threading, time, weakref
from featx.cli.interruption import interruptible

signal.signal(signal.SIGINT, signal.default_int_handler)
number, by_reference = int(sys.argv[1]), sys.argv[2] == "reference"


def arrive(*_):
    os.kill(os.getpid(), number)
    time.sleep(0.05)


class Dropped:
    def __del__(self):
        if not by_reference:
            arrive()


try:
    with interruptible():
        dropped = Dropped()
        reference = weakref.ref(dropped, arrive) if by_reference else None
        del dropped
        threading.Event().wait(30)  # as where a command waits for its workers
    print("nothing")
except KeyboardInterrupt as ended:
    print(type(ended).__name__, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""

OTHER = """
import sys
from featx.cli.interruption import interruptible


class Dropped:
    def __del__(self):
        raise ValueError("of a finaliser")


with interruptible():
    dropped = Dropped()
    del dropped
print("went on")
"""


def run(script: str, *arguments: str) -> tuple[str, str]:
    """What a script prints on stdout and stderr."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip(), done.stderr.strip()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no process can be sent these signals here")
@pytest.mark.parametrize("place", ["reference", "finaliser"])
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")])
def test_a_signal_in_a_callback_is_not_lost(number: signal.Signals, raised: str, place: str) -> None:
    assert run(SCRIPT, str(int(number)), place) == (f"{raised} True", "")


def test_what_else_is_ignored_there_is_shown_as_before() -> None:
    out, shown = run(OTHER)
    assert out == "went on"
    assert shown.endswith("ValueError: of a finaliser")
