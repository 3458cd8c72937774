from __future__ import annotations

import errno
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.errors import StoreError
from featx.io.digests import digest_bytes, digest_file, digest_json, digest_json_lists
from featx.io.files import (
    TEMPORARY,
    atomic_directory,
    atomic_path,
    explain_os_error,
    publish,
    remove_stale,
    write_atomic,
    write_json,
)
from featx.io.index import StatIndex
from featx.store.leases import Leases

OLD = time.time() - 3600


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Atomic writes


def make_and_leave(path: Path, content: str) -> None:
    with atomic_directory(path) as temporary:
        (temporary / "file").write_text(content)


def test_a_file_appears_whole_in_a_new_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "file.txt", "Ümläut")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == "Ümläut".encode()
    write_atomic(tmp_path / "a" / "b" / "file.txt", b"\0new")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == b"\0new"
    assert names(tmp_path / "a" / "b") == ["file.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No space left") as caught, atomic_path(tmp_path / "file.h5"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(tmp_path) in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_forbidden_folder_is_a_sentence(code: int, tmp_path: Path) -> None:
    assert "Cannot write to" in str(explain_os_error(OSError(code, os.strerror(code)), tmp_path / "x"))


@pytest.mark.parametrize("code", [errno.EIO, errno.EFBIG])
def test_a_failing_disk_is_a_sentence(code: int, tmp_path: Path) -> None:
    assert "Check the disk" in str(explain_os_error(OSError(code, os.strerror(code)), tmp_path / "x"))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    error = OSError(errno.EISDIR, "Is a directory")
    assert explain_os_error(error, tmp_path) is error


@pytest.mark.parametrize("way", [write_atomic, make_and_leave])
def test_a_file_in_the_place_of_a_folder_is_a_sentence(way: Callable[[Path, str], None], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("file/x.csv", "file/deep/x.csv"):
        with pytest.raises(StoreError, match=r"/file is a file, but a folder is needed\. Choose another"):
            way(tmp_path / name, "content")
    with pytest.raises(StoreError, match="Cannot write into /proc"):
        way(Path("/proc/x.csv"), "content")
    assert names(tmp_path) == ["file"]


def test_json_is_indented_utf8_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"größe": [1, 2.5, None]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "größe" in text
    assert json.loads(text) == {"größe": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "y.json", float("nan"))
    assert names(tmp_path) == ["x.json"]


def test_publish_never_replaces(tmp_path: Path) -> None:
    publish(tmp_path / "part.h5", b"first")
    with pytest.raises(FileExistsError):
        publish(tmp_path / "part.h5", b"second")
    assert (tmp_path / "part.h5").read_bytes() == b"first"
    assert names(tmp_path) == ["part.h5"]


def test_publish_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    publish(tmp_path / "part.h5", b"content")
    assert (tmp_path / "part.h5").read_bytes() == b"content"
    assert names(tmp_path) == ["part.h5"]


def test_a_disk_that_became_read_only_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can the temporary file be removed then, whose error must not hide the first."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    leases = Leases(tmp_path)
    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    for write in (
        lambda: write_atomic(tmp_path / "x", b"1"),
        lambda: publish(tmp_path / "y", b"1"),
        lambda: leases.claim(np.empty(0, "V32")),
    ):
        with pytest.raises(StoreError, match="Read-only file system"):
            write()


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    for name in (f"{TEMPORARY}old", f"{TEMPORARY}new", "kept.h5"):
        (tmp_path / "deep").mkdir(exist_ok=True)
        (tmp_path / "deep" / name).write_bytes(b"12345")
    for name in (f"{TEMPORARY}old", "kept.h5"):
        os.utime(tmp_path / "deep" / name, (OLD - 3600, OLD - 3600))
    assert remove_stale(tmp_path) == 5
    assert names(tmp_path / "deep") == [f"{TEMPORARY}new", "kept.h5"]


# Digests


def test_digests_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert digest_file(tmp_path / "abc").hex() == digest_bytes(b"abc").hex() == known


def test_the_digest_of_json_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 1.5})
    assert digest_json([1, 2]) != digest_json([2, 1])
    lists: tuple[list[Any], ...] = (["a", "é", '"'], list(range(25_000)), [[1, 2], []], [])
    assert digest_json_lists(*map(iter, lists)) == digest_json(list(lists))


# The index


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.jpg"
    path.write_bytes(b"content")
    os.utime(path, (OLD, OLD))
    return path


@pytest.fixture
def index(tmp_path: Path) -> Iterator[StatIndex]:
    with StatIndex(tmp_path / "cache" / "index.sqlite") as one:
        yield one


def ask(index: StatIndex, path: Path) -> bytes | None:
    return index.known_digests([str(path)], [path.stat()])[0]


def remember(index: StatIndex, path: Path, digest: bytes = b"d" * 32) -> None:
    index.remember_digests([(str(path), path.stat(), digest)])


def test_an_index_is_closed_where_it_was_opened(tmp_path: Path) -> None:
    with StatIndex(tmp_path / "index.sqlite") as index:
        index.remember("kind", "key", [1])
        assert index.recall("kind", "key") == [1]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        index.recall("kind", "key")
    assert not (tmp_path / "index.sqlite-wal").exists()  # SQLite tidies up when the last one closes


def test_an_unchanged_file_is_remembered_by_another_process(index: StatIndex, file: Path) -> None:
    assert ask(index, file) is None
    remember(index, file)
    index.close()
    with StatIndex(index.path) as again:
        assert ask(again, file) == b"d" * 32


def test_a_change_of_size_mtime_or_inode_forgets(index: StatIndex, file: Path) -> None:
    remember(index, file)
    file.write_bytes(b"content!")
    os.utime(file, (OLD, OLD))
    assert ask(index, file) is None
    file.write_bytes(b"content")
    os.utime(file, (OLD, OLD))
    assert ask(index, file) == b"d" * 32
    os.utime(file, ns=(int(OLD * 1e9), file.stat().st_mtime_ns + 1))
    assert ask(index, file) is None
    remember(index, file)
    other = file.with_name("other.jpg")
    other.write_bytes(b"CONTENT")
    os.utime(other, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
    os.replace(other, file)
    assert ask(index, file) is None


def test_a_file_written_within_two_seconds_is_not_trusted(index: StatIndex, file: Path) -> None:
    for age, trusted in ((0.0, False), (1.5, False), (-60.0, False), (3.0, True)):  # -60: a clock that is ahead
        os.utime(file, (time.time() - age, time.time() - age))
        remember(index, file)
        assert (ask(index, file) is not None) is trusted, age


def test_a_file_that_is_gone_is_not_known(index: StatIndex, file: Path) -> None:
    remember(index, file)
    assert index.known_digests([str(file), "/nowhere"], [None, file.stat()]) == [None, None]


def test_many_files_keep_their_order(index: StatIndex, file: Path) -> None:
    status = file.stat()
    paths = [f"/images/{number}.jpg" for number in range(1_600)]
    index.remember_digests((path, status, digest_bytes(path.encode())) for path in paths[::2])
    known = index.known_digests(paths, [status] * len(paths))
    assert known == [digest_bytes(path.encode()) if row % 2 == 0 else None for row, path in enumerate(paths)]


def test_bad_images_are_remembered_per_decoder(index: StatIndex) -> None:
    index.remember_unreadable("old", [(b"a" * 32, "truncated"), (b"b" * 31 + b"\0", "empty")])
    assert index.known_unreadable("old") == {b"a" * 32: "truncated", b"b" * 31 + b"\0": "empty"}
    assert index.known_unreadable("new") == {}


def test_facts(index: StatIndex) -> None:
    assert index.recall("identity", "x") is None
    index.remember("identity", "x", {"weights": "abc", "size": [1, 2]})
    index.remember("identity", "x", {"weights": "def"})
    assert index.recall("identity", "x") == {"weights": "def"}
    assert index.recall("other", "x") is None


def test_damage_that_shows_only_when_it_is_asked_begins_the_index_anew(index: StatIndex, file: Path) -> None:
    """The first pages, which opening reads, are whole."""
    index.remember_digests((f"/{number}", file.stat(), b"d" * 32) for number in range(2_000))
    index.remember_unreadable("old", [(b"%031d" % number + b"d", "truncated") for number in range(500)])
    for number in range(500):
        index.remember("identity", str(number), ["x" * 100])
    index.close()
    content = index.path.read_bytes()
    answers: list[Callable[[StatIndex], object]] = [
        lambda one: one.known_digests([f"/{number}" for number in range(2_000)], [file.stat()] * 2_000).count(None),
        lambda one: one.known_unreadable("old"),
        lambda one: one.recall("identity", "250"),
        lambda one: one.remember("identity", "250", "y"),
    ]
    for answer, unknown in zip(answers, (2_000, {}, None, None), strict=True):
        index.path.write_bytes(content[: 4 * 4096] + b"\xff" * (len(content) - 4 * 4096))
        with StatIndex(index.path) as fresh:
            assert answer(fresh) == unknown
            remember(fresh, file)
            assert ask(fresh, file) == b"d" * 32
        assert {"index.sqlite", "index.damaged"} <= set(names(index.path.parent))
        with StatIndex(index.path) as again:
            assert ask(again, file) == b"d" * 32
        (index.path.parent / "index.damaged").unlink()


@pytest.mark.parametrize("damage", [b"this is no database" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_index_is_set_aside_and_begun_anew(index: StatIndex, file: Path, damage: bytes) -> None:
    remember(index, file)
    index.close()
    for name in names(index.path.parent):
        (index.path.parent / name).unlink()
    index.path.write_bytes(damage)
    with StatIndex(index.path) as fresh:
        assert ask(fresh, file) is None
        remember(fresh, file)
        assert ask(fresh, file) == b"d" * 32
    assert "index.damaged" in names(index.path.parent)


def test_a_flipped_digest_is_never_believed(index: StatIndex, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    remember(index, file, b"d" * 32)
    index.close()
    content = index.path.read_bytes()
    index.path.write_bytes(content.replace(b"d" * 32, b"d" * 31 + b"e"))
    with StatIndex(index.path) as fresh:
        assert ask(fresh, file) is None
        remember(fresh, file)
        assert ask(fresh, file) == b"d" * 32
    assert "index.damaged" in names(index.path.parent)
    assert "is damaged (an entry does not match its checksum) and is rebuilt" in caplog.text


def test_damaged_text_begins_the_index_anew(index: StatIndex, file: Path) -> None:
    remember(index, file)
    index.close()
    with sqlite3.connect(index.path) as raw:
        raw.execute("UPDATE files SET path = CAST(x'2fff' AS TEXT)")
    raw.close()
    with StatIndex(index.path) as fresh:
        assert fresh._entries.find("files", "size > ?", (0,)) == []
        assert ask(fresh, file) is None
    assert "index.damaged" in names(index.path.parent)


def test_no_flipped_bit_makes_a_wrong_answer(index: StatIndex, file: Path) -> None:
    status = file.stat()
    digests = {f"/{number}": digest_bytes(b"%d" % number) for number in range(60)}
    index.remember_digests((path, status, digest) for path, digest in digests.items())
    index.remember_unreadable("old", [(digest, f"truncated {path}") for path, digest in digests.items()])
    for path in digests:
        index.remember("identity", path, [path])
    index.close()
    content, generator = index.path.read_bytes(), random.Random(0)
    unreadable = {digest: f"truncated {path}" for path, digest in digests.items()}
    for _ in range(100):
        damaged = bytearray(content)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        index.path.write_bytes(damaged)
        with StatIndex(index.path) as fresh:
            known = fresh.known_digests(list(digests), [status] * len(digests))
            assert all(one in (None, digest) for one, digest in zip(known, digests.values(), strict=True))
            assert fresh.known_unreadable("old").items() <= unreadable.items()
            assert all(fresh.recall("identity", path) in (None, [path]) for path in digests)
            remember(fresh, file)
            assert ask(fresh, file) == b"d" * 32


_AS_0_1_0 = """
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, inode INTEGER, digest BLOB) WITHOUT ROWID;
CREATE TABLE bad (digest BLOB, decoder TEXT, reason TEXT, PRIMARY KEY (digest, decoder)) WITHOUT ROWID;
CREATE TABLE facts (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;
INSERT INTO bad VALUES (x'6162', 'old', 'truncated');
INSERT INTO facts VALUES ('identity', 'x', '[1, 2]');
"""


def test_the_index_of_0_1_0_is_read_and_gets_checksums(tmp_path: Path, file: Path) -> None:
    status = file.stat()
    with sqlite3.connect(tmp_path / "index.sqlite") as raw:
        raw.executescript(_AS_0_1_0)
        row = (str(file), status.st_size, status.st_mtime_ns, status.st_ino, b"d" * 32)
        raw.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", row)
    raw.close()
    for _ in range(2):
        with StatIndex(tmp_path / "index.sqlite") as index:
            assert ask(index, file) == b"d" * 32
            assert index.known_unreadable("old") == {b"ab": "truncated"}
            assert index.recall("identity", "x") == [1, 2]
            index.remember("identity", "y", 3)
    content = (tmp_path / "index.sqlite").read_bytes()
    (tmp_path / "index.sqlite").write_bytes(content.replace(b"d" * 32, b"d" * 31 + b"e"))
    with StatIndex(tmp_path / "index.sqlite") as index:
        assert ask(index, file) is None


def test_who_finds_the_index_begun_anew_leaves_it(index: StatIndex, file: Path) -> None:
    remember(index, file)
    other = StatIndex(index.path)
    with sqlite3.connect(index.path) as raw:
        raw.execute("UPDATE files SET digest = x'00'")
    raw.close()
    assert ask(index, file) is None
    remember(index, file)
    assert ask(other, file) is None  # it has the old one open still
    assert ask(other, file) == b"d" * 32
    other.close()


def test_an_index_that_is_locked_costs_only_memory(
    index: StatIndex, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **{**options, "timeout": 0.05}))
    impatient = StatIndex(index.path)
    blocker = connect(index.path)
    blocker.execute("BEGIN EXCLUSIVE")
    remember(impatient, file)
    blocker.rollback()
    assert ask(impatient, file) is None
    remember(impatient, file)
    assert ask(impatient, file) == b"d" * 32
    blocker.close()
    impatient.close()


def test_threads_and_processes_can_write_at_once(index: StatIndex, file: Path) -> None:
    other = StatIndex(index.path)
    status = file.stat()

    def write(target: StatIndex, start: int) -> None:
        for number in range(start, start + 50):
            target.remember_digests([(f"/{number}", status, b"d" * 32)])

    threads = [threading.Thread(target=write, args=(target, start)) for target, start in ((index, 0), (other, 50))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = index.known_digests([f"/{number}" for number in range(100)], [status] * 100)
    assert known == [b"d" * 32] * 100
    other.close()
