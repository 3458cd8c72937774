"""Content digests: SHA-256 of bytes, of files and of JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from featx.io.urls import is_url, open_remote

_AT_ONCE = 10_000  # items of a list whose text is held


def digest_bytes(content: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(content).digest()


def digest_file(path: str | Path) -> bytes:
    """SHA-256 of the bytes of a file, which may lie on a URL, 32 bytes."""
    if is_url(path):
        return digest_bytes(open_remote().read(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form (sorted keys, no spaces), as hexadecimal text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_json_lists(*lists: Iterable[Any]) -> str:
    """What `digest_json` gives of a list of these lists, without ever holding their text."""
    found = hashlib.sha256()
    for number, one in enumerate(lists):
        found.update(b",[" if number else b"[[")
        items, separator = iter(one), b""
        while some := list(islice(items, _AT_ONCE)):
            found.update(separator + json.dumps(some, sort_keys=True, separators=(",", ":"))[1:-1].encode())
            separator = b","
        found.update(b"]")
    found.update(b"]")
    return found.hexdigest()
