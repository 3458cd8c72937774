"""The state of servers: which respond, which are down, which fail; and when a request is retried."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from featx.errors import DataError, FeatxError
from featx.io.faults import is_transient, translate
from featx.io.urls import AT_ONCE, server_of

Answer = TypeVar("Answer")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds.

    tries : before a request is made again that failed for a transient reason, the first time, the second and so on
    pause : for which a server that cannot be reached is not tried again
    wait : for which a server that has answered before is waited for
    first_probe, longest_probe : between the first tries of a server that is away, and between the last
    """

    tries: tuple[float, ...] = (0.3, 1.0, 2.0)
    pause: float = 10.0
    wait: float = 30.0
    first_probe: float = 0.25
    longest_probe: float = 4.0


@dataclass(frozen=True)
class _Away:
    """A server that cannot be reached: since when (by the monotonic clock), and why."""

    since: float
    why: str


class Servers:
    """What this process knows of servers.

    Libraries try again for many seconds before they give up: with thousands of images, that would be hours. So a server
    that could not be reached is left alone for a while, one that has answered before is waited for by one thread for
    all, and one that fails request after request is asked once for each file.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._away: dict[str, _Away] = {}
        self._answered: set[str] = set()
        self._failing: Counter[str] = Counter()  # requests in a row that failed however often they were made
        self._probing = threading.Lock()  # held by the one thread that tries a server which is away

    def forget_answers(self) -> None:
        """Wait for no server from here on, until it has answered once more."""
        self._answered.clear()

    def try_again(self) -> None:
        """Try servers anew that could not be reached."""
        self._away.clear()

    def trust(self, urls: Iterable[str]) -> None:
        """Wait for the servers of these: another process has had answers from them."""
        self._answered.update(map(server_of, urls))

    def request(self, url: str, ask: Callable[[], Answer]) -> Answer:
        """What a server answers; `ask` is called again where its failure is transient.

        Unless this server fails one request after the other: thousands would take hours.

        Raises
        ------
        OSError
            No such file, no permission, a server that cannot be reached or does not answer.
        DataError
            No credentials, a missing package, an unknown scheme; a server that has answered, and was waited for in
            vain.
        """
        server = server_of(url)
        pauses = iter(self.patience.tries if self._failing[server] < AT_ONCE else ())
        while True:
            try:
                answer = self._reach(server, url, ask)
            except OSError as fault:
                if not is_transient(fault):
                    raise
                pause = next(pauses, None)
                if pause is None:
                    self._failing[server] += 1
                    raise
            else:
                self._failing[server] = 0
                return answer
            time.sleep(pause)

    def _reach(self, server: str, url: str, ask: Callable[[], Answer]) -> Answer:
        """An answer of a server. One that has answered before is waited for; another is left alone for a while."""
        self._refuse_away(server)
        try:
            return self._ask_once(server, url, ask)
        except ConnectionError as fault:
            if server not in self._answered:
                self._away[server] = _Away(time.monotonic(), str(fault.strerror))
                raise
        with self._probing:  # the other threads wait here until one of them has had an answer, or has given up
            self._refuse_away(server)
            return self._wait_for(server, url, ask)

    def _refuse_away(self, server: str) -> None:
        away = self._away.get(server)
        if away is None or time.monotonic() - away.since >= self.patience.pause:
            return
        if server not in self._answered:
            raise ConnectionError(errno.EHOSTUNREACH, away.why)
        # Else all images that are left would be unreadable, and a head would be fitted on the few that are not.
        raise DataError(
            f"{away.why}, though it answered before. What was finished is kept: run the same command again."
        )

    def _wait_for(self, server: str, url: str, ask: Callable[[], Answer]) -> Answer:
        """Try again and again, as long as a restart of a server may take."""
        patience = self.patience
        pause, end = patience.first_probe, time.monotonic() + patience.wait
        while True:
            try:
                return self._ask_once(server, url, ask)
            except ConnectionError as fault:
                if time.monotonic() >= end:
                    self._away[server] = _Away(time.monotonic(), str(fault.strerror))
                    self._refuse_away(server)
            if pause == patience.first_probe:
                _logger.warning("%s cannot be reached any more: retrying for %.0f seconds.", server, patience.wait)
            time.sleep(pause)
            pause = min(2 * pause, patience.longest_probe)

    def _ask_once(self, server: str, url: str, ask: Callable[[], Answer]) -> Answer:
        try:
            answer = ask()
        except FeatxError:
            raise
        except Exception as error:  # every library behind fsspec has its own
            raise translate(error, url) from error
        self._answered.add(server)
        self._away.pop(server, None)
        return answer
