"""Extractions that are killed, interrupted or run into their limits, and what the next run makes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import list_stores
from conftest import environment, write_images
from forked import Forked

from featx.store.store import FeatureStore
from featx.store.table import FeatureTable

PER_CLASS = 200
PART_ROWS = 64
BATCH = 32
# What a kill can cost: a part that is being written, one that waits for it, and one that is filled. With a disk slower
# than the network, as here, it costs that much.
LOST = 2 * PART_ROWS + BATCH
# Writes parts of 64 rows, and the numbers of rows computed and published so far into a file that survives a kill. A
# lease of the dead that somebody waited for would outlast every test.
_WORKER = f"""
import os, sys, time
import featx.store.leases as leases
import featx.store.writer as table
from featx.cli import main
from featx.engines.openvino import OpenVINOEngine
from featx.extraction import work
OpenVINOEngine.handover = property(lambda engine: {BATCH}, lambda engine, images: None)
leases.EXPIRY, table.PART_BYTES = 3600.0, {PART_ROWS} * 8 * 2
log = os.open(sys.argv[1], os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
os.pwrite(log, b"%08d%08d" % (0, 0), 0)
infer, computed = work._infer, 0
write_part, published = table.write_part, 0
def slowly(batch, *arguments):
    global computed
    time.sleep(0.015)
    seconds = infer(batch, *arguments)
    computed += len(batch.rows)
    os.pwrite(log, b"%08d" % computed, 0)
    return seconds
def write(directory, rows, *arguments):
    global published
    time.sleep(0.1)
    path = write_part(directory, rows, *arguments)
    published += len(rows)
    os.pwrite(log, b"%08d" % published, 8)
    return path
work._infer, table.write_part = slowly, write
main(sys.argv[2:])
"""


@pytest.fixture
def command(tmp_path: Path, tiny_backbone: Path, cache: Path) -> list[str]:
    for seed, label in enumerate(("cat", "dog")):
        write_images(tmp_path / "images" / label, PER_CLASS, seed=seed)
    options = ["--backbone", str(tiny_backbone), "--layer", "high", "--cache", str(cache)]
    return ["computed", "extract", "images", *options, "--json"]


def start(command: list[str], folder: Path) -> Forked:
    (folder / "computed").unlink(missing_ok=True)
    return Forked(command, folder, environment(), code=_WORKER)


def run(command: list[str], folder: Path) -> dict[str, Any]:
    output, errors = (process := start(command, folder)).communicate(timeout=200)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(output)
    return found


def wait_for_rows(process: Forked, folder: Path, rows: int) -> None:
    give_up = time.monotonic() + 60
    while process.poll() is None and computed(folder) < rows:
        assert time.monotonic() < give_up
        time.sleep(0.005)


def computed(folder: Path) -> int:
    return _logged(folder)[0]


def published(folder: Path) -> int:
    return _logged(folder)[1]


def _logged(folder: Path) -> tuple[int, int]:
    path = folder / "computed"
    log = path.read_bytes() if path.exists() else b""
    return int(log[:8] or b"0"), int(log[8:] or b"0")


def find_store(cache: Path) -> FeatureStore:
    """The store that has features, or the one that has a `key.json` at all."""
    stores = list_stores(cache)
    return max(stores, key=lambda store: sum(table.rows for table in store.tables().values()))


def find_table(cache: Path) -> FeatureTable:
    return find_store(cache).table("high", "avg")


def all_rows(table: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    digests = np.unique(np.concatenate([part.digest for part in table.parts]))
    return digests, table.read(digests).asarray()


def is_clean(cache: Path) -> bool:
    return all(damage is None for store in list_stores(cache) for _, damage in store.verify())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_random_moments(command: list[str], tmp_path: Path, cache: Path, warm_cache: Path) -> None:
    random = np.random.default_rng()
    # images computed before the kill; of LOST + 60 some have to be kept
    moments = [0, LOST + 60, *random.integers(1, 110, 4).tolist()]
    for moment in moments:
        before = find_table(cache).rows
        process = start(command, tmp_path)
        wait_for_rows(process, tmp_path, moment)
        time.sleep(random.uniform(0, 0.03))
        process.kill()
        process.communicate()
        kept = find_table(cache).rows - before
        assert kept >= published(tmp_path)
        assert computed(tmp_path) - kept <= LOST
        assert is_clean(cache)
    before = find_table(cache).rows
    done = run(command, tmp_path)  # in time: nobody waits for the leases of the dead
    assert (done["images"], done["computed"], done["reused"]) == (2 * PER_CLASS, 2 * PER_CLASS - before, before)
    assert is_clean(cache)
    if done["computed"]:  # with nothing to do nobody looks for the leases of the dead
        assert not list(cache.glob("*/leases/*.lease"))
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(warm_cache, undisturbed)
    run([*command[:-2], str(undisturbed), "--json"], tmp_path)
    mine, other = all_rows(find_table(cache)), all_rows(find_table(undisturbed))
    np.testing.assert_array_equal(mine[0], other[0])
    np.testing.assert_array_equal(mine[1], other[1])


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
def test_ctrl_c_and_sigterm_keep_everything_computed(
    command: list[str], tmp_path: Path, cache: Path, number: signal.Signals, status: int, word: str
) -> None:
    process = start(command, tmp_path)
    wait_for_rows(process, tmp_path, 100)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert json.loads(output)["error"]["kind"] == word.lower()
    assert errors.strip() == f"{word}. What was finished is kept: run the same command again to go on."
    kept = find_table(cache).rows
    assert 100 <= computed(tmp_path) <= kept < 2 * PER_CLASS
    assert is_clean(cache)
    assert not list(cache.glob("*/leases/*"))
    done = run(command, tmp_path)
    assert (done["computed"], done["reused"]) == (2 * PER_CLASS - kept, kept)


def test_a_killed_run_leaves_little_and_prune_removes_it(
    command: list[str], tmp_path: Path, cache: Path, featx: Any
) -> None:
    process = start(command, tmp_path)
    wait_for_rows(process, tmp_path, 80)
    while process.poll() is None and not published(tmp_path):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert list(cache.glob("*/leases/*.lease"))
    table = find_table(cache)
    (table.directory / ".tmp-left.h5").write_bytes(b"half a part")
    for temporary in cache.rglob(".tmp-*"):  # also a part the kill hit: young ones stay
        os.utime(temporary, (1, 1))
    done = featx("cache", "prune", "--cache", cache, "--json").json
    assert done["parts_after"] >= 1
    left = {path.name for path in find_store(cache).directory.rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith(".lease") or name.startswith(".tmp-")]
    assert find_table(cache).rows == table.rows
