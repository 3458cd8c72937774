"""Ctrl-C and SIGTERM, which end a command wherever it is.

Both raise in the main thread, between two of its instructions. Where these are a finaliser's or a weak reference's
callback, Python prints the exception and goes on as if nothing had been typed: then the signal is sent once more.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_SOON = 0.01  # seconds: until the callback has ended


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems and containers send: everything ends as with Ctrl-C."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on Ctrl-C and `Terminated` on SIGTERM, the latter where it would end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual, shown, here = signal.getsignal(signal.SIGTERM), sys.unraisablehook, threading.get_ident()
    sending: list[threading.Timer] = []

    def send_again(lost: UnraisableHookArgs) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt):
            number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
            sending.append(threading.Timer(_SOON, _send, [here, number]))
            sending[-1].start()
        else:
            shown(lost)

    terminable = usual is signal.SIG_DFL
    if terminable:
        signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        for timer in sending:  # what has ended needs no interruption
            timer.cancel()
        sys.unraisablehook = shown
        if terminable:
            signal.signal(signal.SIGTERM, usual)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _send(thread: int, number: signal.Signals) -> None:
    """Send the main thread a signal, which ends its waiting, too, where the system has such signals."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, number)
    else:
        _thread.interrupt_main(number)
