"""Repeated log lines are written once a minute, with their count."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

_PERIOD = 60.0  # seconds
_MOST = 256  # different lines that are remembered


@dataclass
class _Line:
    """A line as it was last written, and how often it was left out since."""

    text: str
    written: float
    left_out: int = 0


class Repeats(logging.Filter):
    """A filter of loggers that lets a line through once in a minute, and how often it was left out with the next."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int, str], _Line] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a line; one that has been left out meanwhile says how often."""
        key, now = (record.name, record.levelno, str(record.msg)), time.monotonic()
        line = self._seen.get(key)
        if line is not None and now - line.written < _PERIOD:
            line.left_out += 1
            return False
        if len(self._seen) >= _MOST:
            self._seen.clear()
        self._seen[key] = _Line(record.getMessage().partition("\n")[0], now)
        if line is not None and line.left_out:
            record.msg, record.args = f"{record.getMessage()} ({_times(line.left_out)} more since)", ()
        return True

    def finish(self) -> None:
        """Write how often lines were left out since they were last written; to be called when it filters no more."""
        for (name, level, _), line in self._seen.items():
            if line.left_out:
                logging.getLogger(name).log(level, "%s (%s more)", line.text, _times(line.left_out))
        self._seen.clear()


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
