"""The source of an image: a path, a URL, or the bytes of a file; and its name in messages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from featx.io.urls import is_url


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

    def note(self, content: bytes) -> None:
        """Remember what has to be known of its content."""
        self.digest = hashlib.sha256(content).digest()


@dataclass(eq=False)
class Held(Hashed):
    """A URL whose content is held from when it is read until it is taken, so that it is not read once more."""

    content: bytes | None = None

    def note(self, content: bytes) -> None:
        """Hold it."""
        self.content = content

    def take(self) -> str | bytes:
        """The content, which is held no longer; the URL where it could not be read."""
        content, self.content = self.content, None
        return self.url if content is None else content


Source = str | Path | bytes | Pinned | Hashed


def held(source: str | Path | bytes) -> Source:
    """A source that is read once, though it is decoded several times."""
    return Held(str(source)) if is_url(source) else source


def taken(source: Source) -> str | Path | bytes:
    """What to decode a source from again, when it has been decoded."""
    if isinstance(source, Held):
        return source.take()
    return str(source) if isinstance(source, Pinned | Hashed) else source


def path_of(source: Source) -> str | None:
    """The path or URL of a source; None for bytes, which have none."""
    return None if isinstance(source, bytes) else str(source)


def source_name(source: Source, row: int) -> str:
    """What an image is called in messages and answers: its path or URL, or its number among those given."""
    return path_of(source) or f"image {row + 1}"
