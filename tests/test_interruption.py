"""Ctrl-C and SIGTERM where Python ignores what is raised: in callbacks of weak references, in finalisers."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from featx.cli.interruption import Terminated, interruptible

POSIX = hasattr(signal, "pthread_kill")


class Dropped:
    """What is dropped while a signal arrives."""

    def __init__(self, at_the_end: Callable[[], None] | None = None) -> None:
        self._at_the_end = at_the_end

    def __del__(self) -> None:
        if self._at_the_end:
            self._at_the_end()


def drop(by_reference: bool, number: signal.Signals) -> None:
    """Send this process a signal, which is dealt with in a callback or in a finaliser."""

    def send() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.05)

    dropped = Dropped(None if by_reference else send)
    reference = weakref.ref(dropped, lambda _: send())
    if not by_reference:
        del reference
    del dropped


@pytest.mark.skipif(not POSIX, reason="no process can be sent these signals here")
@pytest.mark.parametrize("by_reference", [True, False])
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_in_a_callback_is_not_lost(
    number: signal.Signals, raised: type[KeyboardInterrupt], by_reference: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    start = time.monotonic()
    with pytest.raises(raised) as ended, interruptible():
        drop(by_reference, number)
        threading.Event().wait(30)  # as where a command waits for its workers
    assert type(ended.value) is raised
    assert time.monotonic() - start < 20
    assert capfd.readouterr().err == ""
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_else_is_ignored_there_is_shown_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    shown = []

    def fail() -> None:
        raise ValueError("of a finaliser")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", lambda lost: shown.append(str(lost.exc_value)))
        with interruptible():
            dropped = Dropped(fail)
            del dropped
    assert shown == ["of a finaliser"]
    assert capfd.readouterr().err == ""
