"""A bundle as one `.featx` file: a stored zip, with `bundle.json` first."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from featx.bundle.field_checks import is_plain_name
from featx.bundle.sealing import MANIFEST, parse_manifest, read_manifest, require_size, verify_files
from featx.errors import BundleError
from featx.io.files import atomic_directory
from featx.io.zips import require_stored_members

# What zipfile raises for a damaged, encrypted or oddly compressed file
_NO_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def unpack(path: Path, directory: Path, replace: bool = False) -> None:
    """Unpack a `.featx` file into a directory that must not exist, which appears only when every checksum holds.

    Only the files that it declares are written.

    replace : a directory that is there goes, where it holds a bundle or nothing
    """
    if directory.exists() and not (replace and _may_go(directory)):
        raise BundleError(f"{directory} exists already. Name a folder that does not.")
    with atomic_directory(directory, replace) as temporary:
        extract_archive(path, temporary)
        verify_files(temporary, read_manifest(temporary))


def _may_go(directory: Path) -> bool:
    """Whether a directory is a bundle, or an empty one: nothing else is lost by replacing it."""
    return directory.is_dir() and ((directory / MANIFEST).is_file() or not any(directory.iterdir()))


def extract_archive(path: Path, directory: Path) -> None:
    """Unpack the files that a `.featx` declares; raise BundleError where it is not whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            require_stored_members(archive, path)
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            if MANIFEST not in names:
                if _begins_as_packed(path):  # cut off behind a file that is a zip itself, whose end was taken for ours
                    raise zipfile.BadZipFile("its end is missing")
                raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}.")
            outside = [name for name in names if not is_plain_name(name)]
            if outside:
                raise BundleError(f"{path} holds {outside[0]!r}, which would lie outside of it. Do not use it.")
            require_size(archive.getinfo(MANIFEST).file_size, path)
            manifest = parse_manifest(archive.read(MANIFEST), path)
            if manifest.head.kind == "pickle":
                raise BundleError(f"{path} holds a pickle, which may run any code when it is loaded. Do not use it.")
            declared = {MANIFEST, *manifest.files}
            for name in names:
                if name in declared:
                    archive.extract(name, directory)
    except (*_NO_ZIP, OSError, ValueError) as error:
        raise BundleError(f"{path} is not a complete .featx file: {error}. Copy it again.") from error


def _begins_as_packed(path: Path) -> bool:
    """Whether the first file in a zip is `bundle.json`, where `pack` puts it."""
    with open(path, "rb") as file:
        return file.read(30 + len(MANIFEST))[30:] == MANIFEST.encode()
