"""A file that cannot be decoded, and its symptom."""

from __future__ import annotations

import struct
import zlib

from featx.errors import DataError
from featx.io.shown import as_line

# What Pillow's decoders raise on damaged files, found by flipping bytes of files of every format.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class BadImage(DataError):  # noqa: N818 - named for the image
    """A file of which no image can be made.

    Attributes
    ----------
    reason : what is the matter with it, without its path
    transient : whether it may be read another time, unchanged (as when a file server is down)
    """

    def __init__(self, reason: str, path: str | None = None, transient: bool = False) -> None:
        self.reason = as_line(reason)  # some has words of the file in it
        super().__init__(self.reason if path is None else f"{path}: {self.reason}")
        self.transient = transient


class DamagedScan(BadImage):
    """A JPEG file whose pixels can be decoded, and are those of the picture no further than to some place."""
