"""Limits of one request, and of concurrent ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is refused beyond; together they bound the memory that requests can take.

    Attributes
    ----------
    upload : bytes of a request's body
    images : in one request
    megapixels : of one image; a larger one is refused by its header
    seconds : until a request has arrived, and again until it is answered; head : until its headers have
    requests : at work at once, and as many times `upload` bytes held
    connections : open at once; connections_of_one : of one address that is not this machine's
    ratio : of the sides of an image, from `side` pixels on; a longer and narrower one is refused by its header
    """

    upload: int = 32_000_000
    images: int = 32
    megapixels: float = 64.0
    seconds: float = 30.0
    requests: int = 32
    connections: int = 1024
    connections_of_one: int = 64
    head: float = 5.0
    ratio: float = 200.0
    side: int = 10_000

    @property
    def pixels(self) -> int:
        """The pixels that one image may have."""
        return int(self.megapixels * 1e6)

    def is_strip(self, width: int, height: int) -> bool:
        """Whether an image is too long and narrow: resampling takes time and memory by the longer side."""
        longer, shorter = max(width, height), max(1, min(width, height))
        return longer > self.side and longer > self.ratio * shorter
