"""Work in progress: active requests, those with large images, and the bytes that all hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException

from featx.serve.limits import Limits

LATER = {"Retry-After": "1"}
_SHARE = 4  # of all requests, one in so many may have large images, which are decoded one at a time


class Slots:
    """What requests have taken of the limits.

    A request that is still arriving holds bytes and no slot: who sends slowly is in nobody's way.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._at_work = 0
        self._large = 0
        self._held = 0

    @property
    def refusal(self) -> str | None:
        """Why no more requests are taken, None where they are."""
        most = self.limits.requests
        return _busy(f"{most} requests", most) if self._at_work >= most else None

    def hold(self, size: int) -> None:
        """Take so many bytes; `release` gives them back.

        Raises
        ------
        HTTPException
            429: all requests together hold too many.
        """
        if self._held + size > self.limits.upload * self.limits.requests:
            raise HTTPException(429, "Incoming requests take too much memory. Try again in a second.", LATER)
        self._held += size

    def release(self, size: int) -> None:
        """Give bytes back."""
        self._held -= size

    @contextmanager
    def work(self, large: bool) -> Iterator[None]:
        """Take a slot for the block; requests with large images have a few of their own.

        Raises
        ------
        HTTPException
            429: all are taken.
        """
        most = max(1, self.limits.requests // _SHARE)
        reason = self.refusal
        if large:
            reason = _busy(f"{most} requests with large images", most) if self._large >= most else None
        if reason is not None:
            raise HTTPException(429, reason, LATER)
        self._large += large
        self._at_work += not large
        try:
            yield
        finally:
            self._large -= large
            self._at_work -= not large


def _busy(what: str, most: int) -> str:
    one = what.replace("requests", "request", 1)
    return f"{one if most == 1 else what} {'is' if most == 1 else 'are'} under way, the limit. Try again in a second."
