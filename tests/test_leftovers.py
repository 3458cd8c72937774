"""What killed processes leave is removed by later ones, and what living ones use is not."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import forked
import pytest
from fitted import Lab, write_backbone, write_pictures

from featx.backbones.keras_files import save_network
from featx.bundle.bundle import pack
from featx.errors import StoreError
from featx.io.digest_arrays import digest_array
from featx.io.files import TEMPORARY
from featx.io.index import StatIndex
from featx.io.temporary import make_temporary_folder, temporary_folder
from featx.store.cache import Cache
from featx.store.leases import Leases

OLD = (1_600_000_000, 1_600_000_000)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_temporary_folders_of_the_dead_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    host, mine = socket.gethostname(), os.getpid()
    old = [f"featx-{host}-{dead}-a", f"featx-{host}-{mine}-b", f"featx-elsewhere-{dead}-c", "featx-notes-of-mine", "x"]
    for name in [*old, f"featx-{host}-{dead}-young"]:
        (tmp_path / name).mkdir()
    for name in old:
        os.utime(tmp_path / name, OLD)
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert {path.name for path in tmp_path.iterdir()} - {folder.name} == {*old[1:], f"featx-{host}-{dead}-young"}
    assert not folder.exists()


def test_prune_removes_temporary_folders_of_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"featx-{socket.gethostname()}-{dead}-a"
    left.mkdir()
    os.utime(left, OLD)
    assert Cache(tmp_path / "cache").remove_stale() == 0
    assert not left.exists()


def test_sqlite_that_does_not_work_at_all_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    monkeypatch.setattr(sqlite3, "connect", fail)
    with pytest.raises(StoreError, match="SQLite cannot be used here"):
        StatIndex(tmp_path / "index.sqlite")


def test_a_temporary_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StoreError, match="set TMPDIR to a folder that can be written to"):
        make_temporary_folder()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_temporary_folder_that_fills_up_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StoreError) as full, temporary_folder() as folder:
        (folder / "network").symlink_to("/dev/full")
        with open(folder / "network", "wb", buffering=0) as file:
            file.write(b"x")  # the error of a write names no file
    assert str(full.value) == (
        f"Nothing more can be written to {tmp_path}: No space left on device. "
        "Free some space there, or set TMPDIR to a folder that can be written to."
    )
    elsewhere = OSError(errno.ENOSPC, "No space left on device", "/srv/models/x")
    with pytest.raises(OSError, match="/srv/models/x"), temporary_folder():
        raise elsewhere
    assert list(tmp_path.iterdir()) == []


def test_a_pack_removes_what_a_killed_one_left(lab: Lab, tmp_path: Path, dead: int) -> None:
    killed = f"{TEMPORARY}{dead}-0123abcd-model.featx"
    running = f"{TEMPORARY}{os.getpid()}-0123abcd-model.featx"
    for name in (killed, running, f"{TEMPORARY}of-somebody"):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, OLD)
    pack(lab.bundle("logreg"), tmp_path / "model.featx")
    assert {path.name for path in tmp_path.iterdir()} == {"model.featx", running, f"{TEMPORARY}of-somebody"}


def test_the_lock_of_a_killed_process_costs_no_time(tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr("featx.store.leases.time.sleep", naps.append)
    with Leases(tmp_path) as leases:
        (tmp_path / "claim.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": dead}))
        with leases.exclusive():
            leases.claim(digest_array([b"x" * 32]))
            assert json.loads((tmp_path / "claim.lock").read_text())["pid"] == os.getpid()
        assert sum(naps) < 0.1
        assert not (tmp_path / "claim.lock").exists()


def test_a_full_disk_while_a_graph_is_copied_is_one_sentence(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, copyfile = lab.bundle("logreg"), shutil.copyfile

    def fail(source: str, target: str) -> object:
        if Path(target).name == "graph.bin":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)
        return copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", fail)
    from featx.bundle.bundle import save_bundle

    sources = {path.name: path for path in bundle.path.iterdir() if path.name != "report"}
    with pytest.raises(StoreError, match="No space left on the disk"):
        save_bundle(tmp_path / "run" / "1-logreg", bundle.manifest, sources)
    assert list((tmp_path / "run").iterdir()) == []


_TRACED = """
import os, sys
from featx.cli.app import main

fit = ["pictures", "--backbone", "tiny.keras", "--cache", "cache", "--split", "0.5,0.25,0.25", "--no-html"]
for command in (
    ["fit-head", *fit, "--strength", "1", "--engine", "tensorflow"],
    ["fit-head", *fit, "--clf", "dense", "--epochs", "2", "--batch-size", "2"],
    ["finetune", *fit, "--epochs", "1", "--batch-size", "8", "--unfreeze", "last"],
    ["predict", "pictures", "--model", "runs/pictures"],
):
    try:
        main(command)
    except SystemExit as end:
        assert not end.code, (command, end.code)
sys.stdout.flush()
os._exit(0)  # as when it is killed: nothing is cleaned up at exit
"""


@pytest.mark.slow
def test_traced_functions_leave_no_python_files_in_the_temporary_folder(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 6)
    write_backbone(tmp_path / "tiny.keras")
    (tmp_path / "temporary").mkdir()
    done = forked.run([], tmp_path, {**os.environ, "TMPDIR": str(tmp_path / "temporary")}, code=_TRACED)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "temporary").iterdir()) == []


def test_keras_leaves_nothing_where_a_network_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    network = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with monkeypatch.context() as full:
        full.setattr(tempfile, "TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            save_network(network, tmp_path / "network.keras")
    assert list(folder.iterdir()) == []
    with monkeypatch.context() as failing:
        failing.setattr(keras.layers.Dense, "save_own_variables", lambda *_: (_ for _ in ()).throw(OSError("broken")))
        with pytest.raises(OSError, match="broken"):
            save_network(network, tmp_path / "network.keras")
    assert list(folder.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        save_network(network, tmp_path / "nowhere" / "network.keras")
    save_network(network, tmp_path / "network.keras")
    assert list(folder.iterdir()) == []
