"""Connections to the server: their maximum number, and how long each may take to send a request.

uvicorn waits for ever for the rest of a request that has begun, and answers nobody once all file descriptors are taken.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from featx.serve.limits import Limits

_logger = logging.getLogger("featx.serve")
_SLOW = 5.0  # seconds of a body after which its connection may be closed in favour of a new one
_ANSWERED = 60.0  # seconds for an answer to be taken, beyond those for the request and the answer
_FULL = "%d connections are open, which is the limit: those that ask for nothing are closed first"
_CROWD = "%d connections come from one address, which is the limit: those that ask for nothing are closed first"

State = Literal["waiting", "arriving", "answered"]


class Watched(asyncio.Protocol):
    """What is added to uvicorn's protocol, whichever it is; it stands before that in the order of base classes.

    open_ones : the connections of its server
    cycle : uvicorn's, the request at hand
    """

    open_ones: Connections
    cycle: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or close it at once."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        if not self.open_ones.admit(self, transport):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Go on with the request that arrives."""
        super().data_received(data)
        self.open_ones.heard(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.open_ones.forget(self)
        super().connection_lost(exc)


@dataclass
class _Place:
    """An open connection.

    address : None for this machine, from which any number may come
    cycle, since : the request at hand, and when it was there; clock : when what is not yet a request began
    """

    transport: asyncio.Transport
    address: str | None
    since: float
    clock: float | None
    cycle: Any = None


class Connections:
    """All open connections of a server.

    most : that may be open, no more than `limits` have
    """

    def __init__(self, limits: Limits, most: int) -> None:
        self.limits, self.most = limits, most
        self._open: dict[Watched, _Place] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, protocol: Watched, transport: asyncio.Transport) -> bool:
        """Whether a new connection may stay; where there are too many, one that asks for nothing makes way."""
        now = time.monotonic()
        address = address_of(transport.get_extra_info("peername"))
        near = [one for one, place in self._open.items() if address is not None and place.address == address]
        if len(near) >= self.limits.connections_of_one and not self._make_way(near, now):
            _logger.warning(_CROWD, self.limits.connections_of_one)
            return False
        if len(self._open) >= self.most:
            _logger.warning(_FULL, self.most)
            if not self._make_way(list(self._open), now):
                return False
        self._open[protocol] = _Place(transport, address, now, now)
        return True

    def heard(self, protocol: Watched) -> None:
        """Note that bytes have come."""
        place = self._open.get(protocol)
        if place is not None:
            now = time.monotonic()
            if self._state(protocol, place, now) == "waiting" and place.clock is None:
                place.clock = now

    def forget(self, protocol: Watched) -> None:
        """Note that a connection is closed."""
        self._open.pop(protocol, None)

    def sweep(self) -> None:
        """Close the connections whose time is over."""
        now, seconds = time.monotonic(), self.limits.seconds
        for protocol, place in list(self._open.items()):
            state = self._state(protocol, place, now)
            if state == "waiting":
                refused = place.cycle is not None and place.cycle.more_body  # what follows is the body of that request
                over = place.clock is not None and now - place.clock > (seconds if refused else self.limits.head)
            else:  # the application refuses what is late with words, before this
                over = now - place.since > (seconds + _SLOW if state == "arriving" else 2 * seconds + _ANSWERED)
            if over:
                self._close(protocol)

    def _state(self, protocol: Watched, place: _Place, now: float) -> State:
        cycle = protocol.cycle
        if cycle is not place.cycle:
            place.cycle, place.since, place.clock = cycle, now, None
        if cycle is None or cycle.response_complete:
            return "waiting"
        return "arriving" if cycle.more_body else "answered"

    def _make_way(self, among: list[Watched], now: float) -> bool:
        """Close the one of some connections that is missed least: one that never asked, the oldest first."""
        states = {one: self._state(one, self._open[one], now) for one in among}
        order = (
            [one for one in among if self._open[one].cycle is None],
            [one for one in among if states[one] == "waiting"],
            [one for one in among if states[one] == "arriving" and now - self._open[one].since > _SLOW],
        )
        for some in order:
            if some:
                self._close(some[0])
                return True
        return False

    def _close(self, protocol: Watched) -> None:
        place = self._open.pop(protocol)
        place.transport.abort()


def address_of(peer: Any) -> str | None:
    """By what one who asks is known: the address, of IPv6 the network of 64 bits; None for this machine."""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except (TypeError, LookupError, ValueError):
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def most_connections(wanted: int) -> int:
    """How many of these connections the file descriptors of this process suffice for; it is allowed more if it may."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are not counted
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + 512  # those that are about to be closed, and files
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if soft == resource.RLIM_INFINITY else max(4, min(wanted, (soft - 128) // 2))
