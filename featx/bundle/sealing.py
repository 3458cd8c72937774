"""`bundle.json` as a file: written with the checksums of all other files of a bundle, read only if they match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from featx.bundle.faults import AGAIN
from featx.bundle.manifest import SCHEMA, Manifest
from featx.errors import BundleError
from featx.io.commands import without_folder
from featx.io.commands import without_folders as shorten
from featx.io.digests import digest_file, digest_json
from featx.io.files import write_json
from featx.io.jsontypes import Json, parse_json

MANIFEST = "bundle.json"
_MOST_BYTES = 64 << 20  # of `bundle.json`: hundreds of times what one of a thousand classes takes


def seal(directory: Path, manifest: Manifest) -> Manifest:
    """Write `bundle.json` with the checksum of every file in `directory`; return it as it is then."""
    files = {
        path.relative_to(directory).as_posix(): digest_file(path).hex()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    sealed = digested(replace(manifest, schema=SCHEMA, files=files))
    write_json(directory / MANIFEST, sealed.as_json())
    return sealed


def without_folders(manifest: Manifest) -> Manifest:
    """The manifest, its command and options without the folders of the machine on which they were typed."""
    tuned, baseline = manifest.finetune, manifest.baseline
    return replace(
        manifest,
        command=shorten(manifest.command),
        finetune=tuned and replace(tuned, options=_bare(tuned.options)),
        baseline=baseline and replace(baseline, options=_bare(baseline.options)),
    )


def _bare(options: Mapping[str, Json]) -> dict[str, Json]:
    return {name: without_folder(value) if isinstance(value, str) else value for name, value in options.items()}


def digested(manifest: Manifest) -> Manifest:
    """The manifest with the digest of what it holds."""
    return replace(manifest, digest=digest_json(replace(manifest, digest="").as_json()))


def read_manifest(directory: Path) -> Manifest:
    """Read `bundle.json` of a bundle's directory; the other files are not looked at.

    Raises
    ------
    BundleError
        It is absent, damaged, changed, or of a newer schema; or a field is wrong.
    """
    path = directory / MANIFEST
    try:
        if path.exists() and not path.is_file():
            raise BundleError(f"{path} is not a file, but a device, a pipe or a folder. Do not use this bundle.")
        require_size(path.stat().st_size, path)
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{directory} is not a bundle: it has no {MANIFEST}. featx fit-head makes one.") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. Check the rights of the file.") from error
    return parse_manifest(text, path)


def require_size(size: int, where: Path) -> None:
    """Refuse a `bundle.json` of more bytes than one can have, before it is read: `BundleError`."""
    if size > _MOST_BYTES:
        raise BundleError(f"{where} is not a bundle: its {MANIFEST} has {size / 1e6:,.0f} MB. Do not use it.")


def parse_manifest(text: bytes, where: Path) -> Manifest:
    """Return what `bundle.json` holds.

    text : its content; where : it, or the packed bundle that has it

    Raises
    ------
    BundleError
        It is damaged, changed, or of a newer schema; or a field is wrong.
    """
    try:
        content = parse_json(text.decode())
        schema = content["schema"]
        if not isinstance(schema, int | float):
            raise TypeError(f"schema must be a whole number, got {schema!r:.40}")
        claimed = content.pop("digest", None)
        holds = claimed == digest_json(content)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise BundleError(f"{where} is damaged: {error}. {AGAIN}") from error
    if isinstance(schema, int) and schema > SCHEMA:
        raise BundleError(
            f"{where} has bundle schema {str(schema)[:9]} and this featx reads up to {SCHEMA}. "
            "Update it: pip install --upgrade featx"
        )
    if not holds:
        raise BundleError(f"{where} was changed after it was written. {AGAIN}")
    return Manifest.from_json(content | {"digest": claimed}, where)


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Compare every file of a bundle with its checksum; raise BundleError at the first that differs."""
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise BundleError(f"{directory} lacks {name}. {AGAIN}")
        if digest_file(path).hex() != expected:
            raise BundleError(f"{path} is damaged or was changed: checksum mismatch. {AGAIN}")
