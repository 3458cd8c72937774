"""`bundle.json` as a file: written with the checksum of every other file of a bundle, read when these hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from featx.bundle.manifest import SCHEMA, Manifest
from featx.errors import BundleError
from featx.io.digests import digest_file, digest_json
from featx.io.files import write_json

MANIFEST = "bundle.json"
_AGAIN = "Take the bundle from where it came again."


def seal(directory: Path, manifest: Manifest) -> Manifest:
    """Write `bundle.json` with the checksum of every file in `directory`; return it as it is then."""
    files = {
        path.relative_to(directory).as_posix(): digest_file(path).hex()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    sealed = replace(manifest, schema=SCHEMA, files=files, digest="")
    content = sealed.as_json()
    sealed = replace(sealed, digest=digest_json(content))
    write_json(directory / MANIFEST, sealed.as_json())
    return sealed


def read_manifest(directory: Path) -> Manifest:
    """Read `bundle.json` of a bundle's directory; the other files are not looked at.

    Raises
    ------
    BundleError
        It is absent, damaged, changed, or of a newer schema; or a field is wrong.
    """
    path = directory / MANIFEST
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{directory} is not a bundle: it has no {MANIFEST}. featx fit-head makes one.") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. Check the rights of the file.") from error
    return parse_manifest(text, path)


def parse_manifest(text: bytes, where: Path) -> Manifest:
    """Return what `bundle.json` holds.

    text : its content; where : it, or the packed bundle that has it

    Raises
    ------
    BundleError
        It is damaged, changed, or of a newer schema; or a field is wrong.
    """
    try:
        content = json.loads(text.decode())
        schema = int(content["schema"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(f"{where} is damaged: {error}. {_AGAIN}") from error
    if schema > SCHEMA:
        raise BundleError(
            f"{where} has bundle schema {schema} and this featx reads up to {SCHEMA}. "
            "Update it: pip install --upgrade featx"
        )
    claimed = content.pop("digest", None)
    if claimed != digest_json(content):
        raise BundleError(f"{where} was changed after it was written. {_AGAIN}")
    return Manifest.from_json(content | {"digest": claimed}, where)


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Compare every file of a bundle with its checksum; raise BundleError at the first that differs."""
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise BundleError(f"{directory} lacks {name}. {_AGAIN}")
        if digest_file(path).hex() != expected:
            raise BundleError(f"{path} is damaged or was changed: its checksum does not hold. {_AGAIN}")
