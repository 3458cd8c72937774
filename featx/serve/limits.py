"""How much one request may ask for, and how many may ask at once."""

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
    seconds : until a request has arrived, and again until it is answered
    requests : under way at once
    """

    upload: int = 32_000_000
    images: int = 32
    megapixels: float = 64.0
    seconds: float = 30.0
    requests: int = 32

    @property
    def pixels(self) -> int:
        """The pixels that one image may have."""
        return int(self.megapixels * 1e6)
