"""In front of all routes: who may connect, how many at once, and what browsers may do with the answers.

Three things protect a server that only this machine can reach from the web pages that its user visits: it answers to
names of this machine alone (a foreign name that resolves to 127.0.0.1 is somebody's trick), it takes no images from
other sites, and no other site may read or frame what it sends. With a key the name does not matter.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featx.serve.connections import address_of
from featx.serve.keys import KEY_HEADER, WAITING, WrongKeys, given_keys, is_right
from featx.serve.slots import LATER, Slots

OPEN_PATHS = frozenset({"/health"})  # need no key
_MUCH_LATER = {"Retry-After": "60"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """An ASGI application around another one.

    slots : what is under way; key : that every request must give, None for none
    local : whether only this machine can reach it, and names of other machines are refused; hosts : names besides its
        addresses and localhost
    """

    def __init__(
        self, app: ASGIApp, slots: Slots, key: str | None = None, local: bool = True, hosts: Iterable[str] = ()
    ) -> None:
        self.app, self.slots, self.key, self.local = app, slots, key, local
        self.hosts = frozenset(map(str.lower, hosts))
        self._wrong = WrongKeys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
            await send(message)

        refusal = self._refuse(scope) or await self._refuse_key(scope) or self._refuse_busy(scope)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
        elif scope["method"] == "POST":
            await self._answer_whole(scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)

    async def _answer_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with a body, whose bytes count."""
        held = 0

        async def receive_counted() -> Message:
            nonlocal held
            message = await receive()
            size = len(message.get("body", b""))
            self.slots.hold(size)
            held += size
            return message

        try:
            await self.app(scope, receive_counted, send)
        finally:
            self.slots.release(held)

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self.local and self.key is None and not self._is_known(headers.get("host", "")):
            return _refusal(421, "This server answers to localhost only. Start it with --api-key to use another name.")
        if scope["method"] == "POST" and _is_foreign(headers):
            return _refusal(403, "Images from other web sites are not accepted.")
        return None

    async def _refuse_key(self, scope: Scope) -> JSONResponse | None:
        """Refuse a request without the right key; where wrong ones came from its address, after a while."""
        if self.key is None or scope["path"] in OPEN_PATHS:
            return None
        given, address = given_keys(Headers(scope=scope)), address_of(scope.get("client"))
        seconds = self._wrong.delay(address) if given else 0.0
        if seconds:
            if self._wrong.waiting >= WAITING:
                return _refusal(429, "Too many wrong keys from this address. Try again in a minute.", _MUCH_LATER)
            self._wrong.waiting += 1
            try:
                await asyncio.sleep(seconds)
            finally:
                self._wrong.waiting -= 1
        if is_right(given, self.key):
            return None
        if given:
            self._wrong.add(address)
        challenge = {"WWW-Authenticate": 'Basic realm="featx", charset="UTF-8"'}
        return _refusal(401, f"A key is needed: the header {KEY_HEADER}, or the password of any user.", challenge)

    def _refuse_busy(self, scope: Scope) -> JSONResponse | None:
        reason = self.slots.refusal if scope["method"] == "POST" else None
        return None if reason is None else _refusal(429, reason, LATER)

    def _is_known(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower().rstrip(".")
        if name in self.hosts or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def _refusal(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def _add_headers(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)


def _is_foreign(headers: Headers) -> bool:
    """Whether a page of another web site asks; browsers name the site of the page where they say no more than that."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"cross-site", "same-site"}
    origin = headers.get("origin")
    if origin is None:  # no browser
        return False
    name = origin.partition("://")[2].lower()
    # the second is what a server in front was asked for; no page can send it elsewhere without being allowed to
    asked = {headers.get("host", "").lower(), headers.get("x-forwarded-host", "").lower()}
    return not name or name not in asked
