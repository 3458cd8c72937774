"""A port with a server on it until somebody stops it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from featx.errors import FeatxError, UsageError
from featx.io.shown import as_line
from featx.serve.connections import Connections, Watched, most_connections
from featx.serve.limits import Limits
from featx.serve.repeats import Repeats
from featx.serve.service import Service

if TYPE_CHECKING:
    import uvicorn

    from featx.serve.guard import Guard

GRACE = 5  # seconds for requests that are under way when the server ends
_QUEUE = 1024  # connections that the system keeps until they are accepted
_TOGETHER = 64  # that asyncio accepts before it looks at any of them; with more, file descriptors run out
_BETWEEN = 0.5  # seconds between two looks for connections whose time is over
_REPEATING = ("uvicorn.error", "asyncio", "featx.serve")  # loggers of what anybody can bring about


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; connections wait in it until the server runs. Port 0 is any free one.

    Raises
    ------
    FeatxError
        A port that is in use or not permitted, or a host that is not this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"--host {host} is not an address of this machine. 127.0.0.1 is, and 0.0.0.0 is all."
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where the other option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_QUEUE)
    except OSError as error:
        listener.close()
        raise FeatxError(_describe(error, host, port)) from error
    return listener


def _describe(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use. Choose another: --port {port + 1}, or --port 0 for any that is free."
    if isinstance(error, PermissionError):
        return f"Port {port} is not permitted to this user. Choose one from 1024 on: --port 8000"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is not an address of this machine. 127.0.0.1 is, and 0.0.0.0 is all."
    return f"Cannot listen on port {port} of {host}: {error.strerror or error}. Choose others: --host, --port"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0]).is_loopback


def url(host: str, listener: socket.socket) -> str:
    """Where the page is, with the port that was really taken."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def reachable_url(host: str, listener: socket.socket) -> str:
    """Where other machines of the network find the page: at the address of this one, if it listens on all of them."""
    address = ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0])
    return url(_own_address(address.version) if address.is_unspecified else host, listener)


def _own_address(version: int) -> str:
    """The address by which this machine goes into its network; nothing is sent to find out."""
    family, elsewhere = (socket.AF_INET, "192.0.2.1") if version == 4 else (socket.AF_INET6, "2001:db8::1")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            return str(probe.getsockname()[0])
    except OSError:  # no network but this machine's own
        return socket.gethostname()


def make_server(
    service: Service, listener: socket.socket, key: str | None = None, host: str = "", access_log: bool = False
) -> uvicorn.Server:
    """What answers for a service that has been started, on a socket that listens.

    key : that requests must give; host : a name by which this machine is known; access_log : a line for every request
    """
    from featx.serve.app import make_app
    from featx.serve.guard import Guard
    from featx.serve.slots import Slots

    if access_log:
        _log_requests()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the answer names what is wrong with a form
    slots = Slots(service.limits)
    app = Guard(make_app(service, slots, key), slots, key, is_local(listener), [host] if host else ())
    return serve_app(app, service.limits, access_log)


def serve_app(app: Guard, limits: Limits, access_log: bool = False) -> uvicorn.Server:
    """A server of routes behind their guard."""
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    connections = Connections(limits, most_connections(limits.connections))
    config = uvicorn.Config(
        app,
        http=type("WatchedProtocol", (Watched, AutoHTTPProtocol), {"open_ones": connections}),
        backlog=_TOGETHER,
        log_config=None,
        access_log=access_log or logging.getLogger().isEnabledFor(logging.INFO),
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    return _watching(connections)(config)


def _log_requests() -> None:
    """Let uvicorn write a line for every request on stderr: when, from where, what, and the status of the answer."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Dated("%(asctime)s %(message)s"))
    logger = logging.getLogger("uvicorn.access")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


class _Dated(logging.Formatter):
    """Lines that begin with the time, with the offset from UTC, and that a terminal does not obey."""

    default_time_format = "%Y-%m-%dT%H:%M:%S%z"
    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return as_line(super().format(record))


def _watching(connections: Connections) -> type[uvicorn.Server]:
    """Uvicorn's server, which looks after its connections and repeats no line of the log."""
    import uvicorn

    repeats = Repeats()

    class WatchingServer(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            for name in _REPEATING:
                logging.getLogger(name).addFilter(repeats)
            await super().startup(sockets)
            for listener in sockets or ():
                listener.listen(_QUEUE)
            self.sweeping = asyncio.create_task(_sweep(connections))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            self.sweeping.cancel()
            await super().shutdown(sockets)
            for name in _REPEATING:
                logging.getLogger(name).removeFilter(repeats)
            repeats.finish()

    return WatchingServer


async def _sweep(connections: Connections) -> None:
    while True:
        await asyncio.sleep(_BETWEEN)
        connections.sweep()


def run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that are under way are still answered."""
    try:
        with _ended_alike():
            server.run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn passes on the signal that has ended it
        pass


@contextmanager
def _ended_alike() -> Iterator[None]:
    """Let SIGTERM end the server as Ctrl-C does, so that what was unpacked for it is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
