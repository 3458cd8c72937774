"""The API key of requests, and the cost of wrong ones."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections import OrderedDict

from starlette.datastructures import Headers

KEY_HEADER = "X-API-Key"
_REMEMBERED = 60.0  # seconds that a wrong key counts
_FREE = 2  # wrong keys that cost nothing: people mistype
_SHORTEST, _LONGEST = 0.25, 4.0  # seconds
_MOST = 4096  # addresses that are remembered
WAITING = 32  # requests that may wait at once


class WrongKeys:
    """Wrong keys of the last minute, by address.

    A key from an address that has given some is looked at only after a while, so that trying many at once shows nothing
    sooner. Who has given none never waits, and neither does a request without a key.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str | None, tuple[int, float]] = OrderedDict()
        self.waiting = 0

    def delay(self, address: str | None) -> float:
        """Seconds to wait before the next key of an address is looked at."""
        count, last = self._of.get(address, (0, 0.0))
        if count <= _FREE or time.monotonic() - last > _REMEMBERED:
            return 0.0
        return float(min(_LONGEST, _SHORTEST * 2.0 ** min(count - _FREE - 1, 10)))

    def add(self, address: str | None) -> None:
        """Count a wrong key."""
        count, last = self._of.pop(address, (0, 0.0))
        now = time.monotonic()
        self._of[address] = (count + 1 if now - last <= _REMEMBERED else 1, now)
        while len(self._of) > _MOST:
            self._of.popitem(last=False)


def given_keys(headers: Headers) -> list[bytes]:
    """What a request gives as its key, in any of the ways; empty where it gives none."""
    header = headers.get(KEY_HEADER, "").encode("latin-1")
    return [one for one in (header, *_authorization(headers.get("authorization", ""))) if one]


def is_right(given: list[bytes], key: str) -> bool:
    """Whether one of them is the key; how long that takes says nothing of the key."""
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
