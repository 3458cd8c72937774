"""In front of all routes: who may ask, how many at once, and what browsers may do with the answers.

Three things protect a server that only this machine can reach from the web pages that its user visits: it answers to
names of this machine alone (a foreign name that resolves to 127.0.0.1 is somebody's trick), it takes no images from
other sites, and no other site may read or frame what it sends. With a key the name does not matter.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featx.serve.limits import Limits

OPEN_PATHS = frozenset({"/health"})  # need no key
KEY_HEADER = "X-API-Key"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """An ASGI application around another one.

    key : that every request must give, None for none
    local : whether only this machine can reach it, and names of other machines are refused; hosts : names besides its
        addresses and localhost
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, key: str | None = None, local: bool = True, hosts: Iterable[str] = ()
    ) -> None:
        self.app, self.limits, self.key, self.local = app, limits, key, local
        self.hosts = frozenset(map(str.lower, hosts))
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
            await send(message)

        refusal = self._refuse(scope)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        counts = scope["method"] == "POST"
        self._under_way += counts
        try:
            await self.app(scope, receive, send_guarded)
        finally:
            self._under_way -= counts

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self.local and self.key is None and not self._is_known(headers.get("host", "")):
            return _refusal(421, "This server answers to localhost alone. Start it with --api-key to use another name.")
        if scope["method"] == "POST" and headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
            return _refusal(403, "Images from other web sites are not taken.")
        if self.key is not None and scope["path"] not in OPEN_PATHS and not _has_key(headers, self.key):
            challenge = {"WWW-Authenticate": 'Basic realm="featx", charset="UTF-8"'}
            return _refusal(401, f"A key is needed: the header {KEY_HEADER}, or the password of any user.", challenge)
        if scope["method"] == "POST" and self._under_way >= self.limits.requests:
            busy = f"{self.limits.requests} requests are under way, and that is the limit. Try again in a second."
            return _refusal(429, busy, {"Retry-After": "1"})
        return None

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


def _has_key(headers: Headers, key: str) -> bool:
    """Whether any of the ways to give a key gives this one; how long that takes says nothing of the key."""
    given = [headers.get(KEY_HEADER, "").encode("latin-1"), *_authorization(headers.get("authorization", ""))]
    return any(hmac.compare_digest(one, key.encode()) for one in given)


def _authorization(header: str) -> list[bytes]:
    """The key in a header Authorization: of `Bearer` the token, of `Basic` the password."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return [value.strip().encode("latin-1")]
    if scheme.lower() != "basic":
        return []
    try:
        return [base64.b64decode(value.strip(), validate=True).partition(b":")[2]]
    except (binascii.Error, ValueError):
        return []
