"""Leases: processes that extract into one store share the work, and none waits for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import extract, list_stores
from conftest import environment, write_images
from forked import Forked

from featx.config import FeaturesOptions
from featx.dataset.folders import read_files
from featx.errors import StoreError
from featx.extraction.flow import Extraction
from featx.io.digests import digest_file
from featx.store import leases as module
from featx.store.leases import Leases

A, B, C = (np.array([bytes([value]) * 32], "V32") for value in (1, 2, 3))


def foreign(directory: Path, name: str, digests: np.ndarray, **owner: object) -> Path:
    """The lease of another process."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.lease"
    path.write_bytes(json.dumps(owner).encode() + b"\n" + digests.tobytes())
    return path


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- one lease ---------------------------------------------------------------------------------------------------


def test_others_see_what_is_claimed_and_one_self_does_not(tmp_path: Path) -> None:
    with Leases(tmp_path / "leases") as one, Leases(tmp_path / "leases") as two:
        one.claim(np.concatenate([B, A]))
        assert two.of_others().tolist() == [*A.tolist(), *B.tolist()]
        assert one.of_others().tolist() == []
        one.claim(C)
        assert two.of_others().tolist() == C.tolist()
    assert list((tmp_path / "leases").iterdir()) == []


def test_digests_that_end_in_a_zero_byte(tmp_path: Path) -> None:
    digest = np.array([b"x" * 31 + b"\0", b"\0" * 32, b"\n" * 32], "V32")
    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        one.claim(digest)
        assert np.isin(digest, two.of_others()).all()


def test_a_lease_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    path = foreign(tmp_path, "dead", A, host=module.socket.gethostname(), pid=dead_pid())
    with Leases(tmp_path) as mine:
        assert mine.of_others().tolist() == []
    assert not path.exists()


def test_a_lease_of_another_host_counts_until_it_expires(tmp_path: Path) -> None:
    path = foreign(tmp_path, "far", A, host="elsewhere", pid=dead_pid())
    with Leases(tmp_path) as mine:
        assert mine.of_others().tolist() == A.tolist()
        long_ago = time.time() - module.EXPIRY - 5
        os.utime(path, (long_ago, long_ago))
        assert mine.of_others().tolist() == []
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_not_a_lease(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "far-1-0.lease")
    with Leases(tmp_path) as mine:
        assert mine.of_others().tolist() == []


def test_a_lease_with_a_time_to_come_holds_nobody_for_ever(tmp_path: Path) -> None:
    path = foreign(tmp_path, "far", A, host="elsewhere", pid=1)  # as of a copied folder, or a clock that was set back
    later = time.time() + 86_400
    os.utime(path, (later, later))
    with Leases(tmp_path) as mine:
        assert mine.of_others().tolist() == []
    assert not path.exists()


@pytest.mark.parametrize(
    "content", [b"", b"no json\n", b"[]\n", b"{}\n", b'{"host": 1}\n', b"\xff\xfe\n", b"null\n" + b"x" * 32]
)
def test_what_is_no_lease_claims_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.lease").write_bytes(content)
    with Leases(tmp_path) as mine:
        assert mine.of_others().tolist() == []


@pytest.mark.parametrize("pid", ["x", 10**30, None])
def test_a_lease_with_an_impossible_process_claims_nothing(tmp_path: Path, pid: object) -> None:
    foreign(tmp_path, "odd", A, host=module.socket.gethostname(), pid=pid)
    with Leases(tmp_path) as mine:
        assert mine.of_others().tolist() == []


def test_the_heart_beats_while_work_goes_on_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.02)
    with Leases(tmp_path) as mine:
        os.utime(mine.path, (1, 1))
        wait_until(lambda: mine.path.stat().st_mtime > 1)
        monkeypatch.setattr(module, "PATIENCE", 0.0)
        time.sleep(0.1)
        os.utime(mine.path, (1, 1))
        time.sleep(0.2)
        assert mine.path.stat().st_mtime == 1
        monkeypatch.setattr(module, "PATIENCE", 600.0)
        mine.give_sign()
        wait_until(lambda: mine.path.stat().st_mtime > 1)


def test_a_lease_that_others_removed_comes_back_with_the_next_claim(tmp_path: Path) -> None:
    with Leases(tmp_path) as mine, Leases(tmp_path) as other:
        mine.path.unlink()
        assert mine.of_others().tolist() == []
        mine.claim(A)
        assert other.of_others().tolist() == A.tolist()


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with Leases(tmp_path) as mine, monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(StoreError, match="No space left on the disk"):
            mine.claim(A)
        patch.setattr(module.os, "open", fail)
        with mine.exclusive():  # goes on without
            pass


# --- the lock ----------------------------------------------------------------------------------------------------


def test_only_one_claims_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work(leases: Leases) -> None:
        nonlocal inside, most
        for _ in range(5):
            with leases.exclusive():
                inside += 1
                most = max(most, inside)
                time.sleep(0.002)
                inside -= 1

    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        threads = [threading.Thread(target=work, args=(leases,)) for leases in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 1


def test_a_lock_that_a_killed_process_left_costs_seconds_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, naps = tmp_path / "claim.lock", []
    monkeypatch.setattr(module.time, "sleep", naps.append)
    with Leases(tmp_path) as mine:
        lock.touch()
        os.utime(lock, (1, 1))
        with mine.exclusive():
            assert sum(naps) < 0.1
        assert not lock.exists()
        monkeypatch.setattr(module, "_LOCK_PATIENCE", 0.2)
        future = time.time() + 9999
        lock.touch()
        os.utime(lock, (future, future))  # the file server's clock is ahead: it never grows old
        with mine.exclusive():
            assert sum(naps) < 5


# --- two processes -----------------------------------------------------------------------------------------------

_WORKER = """
import sys, time
from pathlib import Path
import featx.store.leases as leases
from featx.cli import main
from featx.extraction import work
work._CLAIM, leases.EXPIRY, leases.HEARTBEAT = 32, float(sys.argv[1]), 0.3
infer = work._infer
def slowly(*arguments):
    time.sleep(0.01)
    return infer(*arguments)
work._infer = slowly
Path(sys.argv[2]).touch()
while not Path("go").exists():
    time.sleep(0.01)
main(sys.argv[3:])
"""


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path, tiny_backbone: Path, cache: Path) -> Iterator[Callable[..., Forked]]:
    """Starts an extraction of `images` that takes a second or two, as soon as the file `go` is there."""
    running: list[Forked] = []

    def begin(name: str, expiry: float = 60.0) -> Forked:
        features = ["--backbone", str(tiny_backbone), "--layer", "high", "--cache", str(cache)]
        command = [str(expiry), name, "extract", "images", *features, "--json"]
        running.append(Forked(command, tmp_path, environment(), code=_WORKER))
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def finish(process: Forked) -> dict[str, Any]:
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(output)
    return found


def rows_of(cache: Path) -> tuple[int, int]:
    """Rows and different images in the one table that has any."""
    tables = [table for store in list_stores(cache) for table in store.tables().values() if table.rows]
    if not tables:
        return 0, 0
    digests = np.concatenate([part.digest for part in tables[0].parts])
    return len(digests), len(np.unique(digests))


def test_two_processes_share_the_work(start: Callable[..., Forked], tmp_path: Path, cache: Path) -> None:
    for seed, label in enumerate(("cat", "dog")):
        write_images(tmp_path / "images" / label, 240, seed=seed)
        for number in range(4):  # bad images in every reservation: neither may wait for the other's
            (tmp_path / "images" / label / f"0-{number * 60 + 1:05d}b.png").write_bytes(b"bad %d %d" % (seed, number))
    processes = [start("one", expiry=3600), start("two", expiry=3600)]
    wait_until(lambda: all((tmp_path / name).exists() for name in ("one", "two")))
    (tmp_path / "go").touch()
    one, two = (finish(process) for process in processes)  # in time: neither waits until a lease expires
    assert one["images"] == two["images"]
    assert len(one["bad"]) == len(two["bad"]) == 8
    assert min(one["computed"], two["computed"]) > 50
    rows, unique = rows_of(cache)
    assert one["computed"] + one["reused"] == two["computed"] + two["reused"] == unique
    assert one["computed"] + two["computed"] == rows <= unique + 64
    assert all(damage is None for store in list_stores(cache) for _, damage in store.verify())
    assert not list(cache.glob("*/leases/*"))


def test_who_waits_holds_no_lease(tmp_path: Path, tiny_backbone: Path, cache: Path) -> None:
    """Else two processes that each have a bad image, which never gets a row, would wait for each other."""
    paths = write_images(tmp_path / "images", 8)
    options = FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache))
    store = extract(read_files(paths[:1]), options).store
    done: list[Extraction] = []
    worker = threading.Thread(target=lambda: done.append(extract(read_files(paths), options)))
    with store.leases() as other:
        other.claim(np.array([digest_file(paths[3])], "V32"))
        worker.start()
        wait_until(lambda: store.tables()["high@avg"].rows == 7, 20)
        wait_until(lambda: not len(other.of_others()), 5)
        assert not done
    worker.join(20)
    assert (done[0].computed, done[0].reused) == (7, 1)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_process_that_stands_still_holds_nobody_up(start: Callable[..., Forked], tmp_path: Path, cache: Path) -> None:
    write_images(tmp_path / "images" / "cat", 120)
    write_images(tmp_path / "images" / "dog", 120, seed=1)
    stuck = start("stuck")
    (tmp_path / "go").touch()
    wait_until(lambda: any(path.stat().st_size > 200 for path in cache.glob("*/leases/*.lease")))
    stuck.send_signal(signal.SIGSTOP)
    done = finish(start("other", expiry=1.0))
    assert done["computed"] + done["reused"] == 240
    assert rows_of(cache)[1] == 240
    stuck.send_signal(signal.SIGCONT)
    late = finish(stuck)
    assert late["computed"] + late["reused"] == 240
    assert all(damage is None for store in list_stores(cache) for _, damage in store.verify())
