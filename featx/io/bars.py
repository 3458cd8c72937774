"""Progress on stderr: a bar in a terminal or notebook, otherwise a line every ten seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from featx.io.progress import Progress, no_progress
from featx.io.shown import as_lines

if TYPE_CHECKING:
    from tqdm import tqdm

_EVERY = 10.0  # seconds between lines where there is no terminal
_LOOK = 0.5  # seconds between looks at the clock, for stages that cannot count what they do
_UNITS = {"verify": "files", "compare": "combinations"}  # of stages that count something else than images


class Bars:
    """A bar on stderr for the stage that runs: rate, time left, counts; without a terminal a line every ten seconds.

    A stage that counts nothing (`total` 0) is shown with the seconds that it has taken.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._notebook = "ipykernel" in sys.modules
        self._lines = not (self._notebook or sys.stderr.isatty())
        self._begun = time.monotonic()
        self._due = self._begun + _EVERY
        self._stage, self._done, self._total = "", 0, 0
        self._bar: tqdm[NoReturn] | None = None
        self._lock, self._ended = threading.RLock(), threading.Event()

    def __enter__(self) -> Bars:
        if not self._quiet:
            threading.Thread(target=self._watch, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with self._lock:
            self._close()

    def __call__(self, stage: str, done: int, total: int, /, **counts: int) -> None:
        """Show that `done` of `total` are done in `stage`."""
        if self._quiet:
            return
        with self._lock:
            if stage != self._stage:
                self._close()
                self._stage, self._begun = stage, time.monotonic()
            self._done, self._total = done, total
            if done == total > 0:
                self._begun = time.monotonic()
            if self._lines:
                self._print_when_due()
            else:
                self._draw(counts)

    def _draw(self, counts: dict[str, int]) -> None:
        if self._bar is None:
            self._bar = self._new_bar()
        if counts:
            self._bar.set_postfix(counts, refresh=False)
        self._bar.update(self._done - self._bar.n)

    def _new_bar(self) -> tqdm[NoReturn]:
        if self._notebook:
            from tqdm.auto import tqdm
        else:
            from tqdm import tqdm
        if not self._total:
            form = "{desc}: {elapsed}"
            return tqdm(total=None, desc=self._stage, file=sys.stderr, leave=False, bar_format=form)
        unit, leave = f" {_unit(self._stage, 2)}", self._done < self._total
        return tqdm(total=self._total, desc=self._stage, unit=unit, file=sys.stderr, leave=leave, mininterval=0.2)

    def _watch(self) -> None:
        """Show that work goes on where nobody calls."""
        while not self._ended.wait(_LOOK):
            with self._lock:
                if self._ended.is_set():
                    return
                if self._lines:
                    self._print_when_due()
                elif self._bar is not None and not self._total:
                    self._bar.refresh()

    def _print_when_due(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _EVERY
        with suppress(OSError, ValueError):  # where stderr is full or closed, the work goes on
            sys.stderr.write(as_lines(self._line(now)) + "\n")
            sys.stderr.flush()

    def _line(self, now: float) -> str:
        if self._done < self._total:
            return f"{self._stage}: {self._done:,} of {self._total:,} {_unit(self._stage, self._total)}"
        stage = f"{self._stage} is done, the next step goes on" if self._total else self._stage or "starting"
        return f"{stage}: {now - self._begun:,.0f} s"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._stage, self._done, self._total = "", 0, 0


def _unit(stage: str, count: int) -> str:
    many = _UNITS.get(stage, "images")
    return many[:-1] if count == 1 else many


@contextmanager
def shown_by(progress: Progress | bool) -> Iterator[Progress]:
    """What shows progress to a caller of a public function: bars for True, nothing for False, else what was given."""
    if callable(progress):
        yield progress
    elif progress:
        with Bars() as bars:
            yield bars
    else:
        yield no_progress
