"""`bundle.json`: its schema, and the checksum of every other file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from featx.bundle.fields import is_plain_name
from featx.bundle.manifest import SCHEMA
from featx.errors import BundleError
from featx.io.digests import digest_file, digest_json
from featx.io.files import write_json

ABOUT = "bundle.json"
_NEEDED = ("files", "classes", "outputs", "backbone", "head", "split", "score")


def seal(directory: Path, about: dict[str, Any]) -> None:
    """Write `bundle.json` with the schema and the checksum of every file in `directory`."""
    files = {
        path.relative_to(directory).as_posix(): digest_file(path).hex()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ABOUT
    }
    content = {"schema": SCHEMA, **about, "files": files}
    write_json(directory / ABOUT, content | {"digest": digest_json(content)})


def read_about(directory: Path) -> dict[str, Any]:
    """Read `bundle.json` of a bundle's directory; raise BundleError where it is absent, damaged or newer."""
    path = directory / ABOUT
    if not path.is_file():
        raise BundleError(f"{directory} is not a bundle: it has no {ABOUT}. featx fit-head makes one.")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        schema = int(about["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Take the bundle from where it came again.") from error
    if schema > SCHEMA:
        raise BundleError(
            f"{directory} has bundle schema {schema} and this featx reads up to {SCHEMA}. "
            "Update it: pip install --upgrade featx"
        )
    claimed = about.pop("digest", None)
    if claimed != digest_json(about):
        raise BundleError(f"{path} was changed after it was written. Take the bundle from where it came again.")
    absent = [name for name in _NEEDED if name not in about]
    if absent:
        raise BundleError(f"{path} says nothing of {', '.join(absent)}. Take the bundle from where it came again.")
    return dict(about) | {"digest": claimed}


def verify_files(directory: Path, about: dict[str, Any]) -> None:
    """Compare every file of a bundle with its checksum; raise BundleError at the first that differs."""
    for name, expected in about["files"].items():
        if not is_plain_name(name):
            raise BundleError(f"{directory} names the file {name!r}, which would lie outside of it. Do not use it.")
        path = directory / name
        if not path.is_file():
            raise BundleError(f"{directory} lacks {name}. Take the bundle from where it came again.")
        if digest_file(path).hex() != expected:
            raise BundleError(
                f"{path} is damaged or was changed: its checksum does not hold. "
                "Take the bundle from where it came again."
            )
