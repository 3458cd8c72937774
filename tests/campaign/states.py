"""What a folder holds, as one digest that two runs share where nothing differs but times, process numbers and inodes.

Most faults leave what many others have left. What the next run makes of a folder is a function of what is in it, so
it is run once for each content. Files with a temporary name are never read, so of these the names alone count.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
import tempfile
import zipfile
from pathlib import Path

_RUN = re.compile(r"\d{8}T\d{6}\.\d+-[\w.-]+?-\d+-[0-9a-f]{8}|\.tmp-\d+-[0-9a-f]{8}|-\d+-")
_NUMBER = re.compile(rb"\d+")
_TEXTS = {".json", ".csv", ".md", ".html"}
_DATABASE = "index.sqlite"


def state_of(folder: Path) -> str:
    """The digest of all names below a folder and of what the files hold."""
    found = hashlib.sha256()
    named = sorted((_RUN.sub("#", str(path.relative_to(folder))), path) for path in folder.rglob("*"))
    for name, path in named:
        if path.name.startswith(_DATABASE) and path.name != _DATABASE:
            continue  # its log is read with it
        found.update(name.encode() + b"\0")
        found.update(_content(path) if path.is_file() else b"folder")
    return found.hexdigest()


def _content(path: Path) -> bytes:
    if any(name.startswith(".tmp-") for name in path.parts):
        return b"temporary"
    raw = path.read_bytes()
    if path.name == _DATABASE:
        raw = _rows(path) or raw
    elif path.suffix in _TEXTS:  # dates, seconds and digests of what has them
        raw = _NUMBER.sub(b"#", raw)
    elif path.suffix == ".keras":
        raw = _members(path) or raw
    elif path.suffix == ".png" and raw.endswith(b"IEND\xaeB`\x82"):
        raw = raw if "pictures" in path.parts else b"a plot"
    return hashlib.sha256(raw).digest()


def _members(path: Path) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return repr([(one.filename, one.file_size) for one in archive.infolist()]).encode()
    except zipfile.BadZipFile:
        return None


def _rows(path: Path) -> bytes | None:
    """All rows of the index, without the times and inodes of files; of a copy, since opening it may change it."""
    with tempfile.TemporaryDirectory() as aside:
        for one in path.parent.glob(f"{_DATABASE}*"):
            shutil.copy(one, aside)
        connection = sqlite3.connect(Path(aside, _DATABASE))
        try:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
            rows = [(name, sorted(map(_known, connection.execute(f"SELECT * FROM '{name}'")))) for name in tables]
        except sqlite3.Error:
            return None
        finally:
            connection.close()
    return repr(rows).encode()


def _known(row: tuple[object, ...]) -> str:
    return repr([_NUMBER.sub(b"#", str(value).encode()) if isinstance(value, str) else None if isinstance(value, int)
                 else value for value in row])  # fmt: skip
