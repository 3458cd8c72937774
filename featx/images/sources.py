"""The source of an image: a path, a URL, or the bytes of a file; and its name in messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pinned:
    """A URL, and the SHA-256 that its content must have (32 bytes): a server reports no change unless it is asked."""

    url: str
    digest: bytes

    def __str__(self) -> str:
        return self.url


@dataclass(eq=False)
class Hashed:
    """A URL whose SHA-256 is noted when it is read, so that it is not read once more for that."""

    url: str
    digest: bytes | None = None

    def __str__(self) -> str:
        return self.url


Source = str | Path | bytes | Pinned | Hashed


def path_of(source: Source) -> str | None:
    """The path or URL of a source; None for bytes, which have none."""
    return None if isinstance(source, bytes) else str(source)


def source_name(source: Source, row: int) -> str:
    """What an image is called in messages and answers: its path or URL, or its number among those given."""
    return path_of(source) or f"image {row + 1}"
