"""Content digests: SHA-256 of bytes, of files and of JSON values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from featx.io.urls import is_url, open_remote


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
