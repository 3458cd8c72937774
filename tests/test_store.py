"""The feature store: its files, its key, what damage it finds, what prune keeps."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cached import fresh, list_stores
from conftest import environment

from featx.errors import StoreError
from featx.store import damage as damage_module
from featx.store import part as part_module
from featx.store import store as store_module
from featx.store import writer as table_module
from featx.store.cache import Cache
from featx.store.compaction import MAINTENANCE
from featx.store.damage import Damage
from featx.store.export import describe, export_features
from featx.store.key import Key, added
from featx.store.leases import Leases
from featx.store.part import DamagedPart, PartRows, open_part, path_array, read_name, read_rows, write_part
from featx.store.store import FeatureStore
from featx.store.table import FeatureTable
from featx.store.writer import TableWriter

KEY = Key("tiny", "a" * 64, "b" * 64, (32, 48), "stretch", "c" * 64, "tf", "float32", "float16")
OTHER: dict[str, Any] = {
    "backbone": "other",
    "architecture": "d" * 64,
    "weights": "d" * 64,
    "input_size": (48, 32),
    "resize": "crop",
    "decoder": "d" * 64,
    "preprocessing": "none",
    "precision": "bfloat16/openvino",
    "storage": "float32",
    "views": "flip",
    "schema": 2,
    "calibration": "d" * 64,
}


def make_digests(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8).view("V32").ravel()


def make_rows(count: int, shape: tuple[int, ...] = (5,), seed: int = 0, dtype: str = "<f2") -> PartRows:
    random = np.random.default_rng(seed)
    names = path_array([f"/images/{seed}/{number}.png" for number in range(count)])
    features = random.normal(size=(count, *shape)).astype(dtype)
    return PartRows(make_digests(count, seed), np.zeros(count, np.uint16), names, features)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = Cache(tmp_path / "cache").store(KEY)
    made.open({"name": "tiny"})
    return made


def add_part(store: FeatureStore, rows: PartRows, layer: str = "mixed7", pooling: str = "avg", **options: str) -> Path:
    table = store.table(layer, pooling)
    return write_part(table.directory, rows, table.attributes, **options)


def damages(store: FeatureStore) -> list[Damage]:
    return [damage for _, damage in fresh(store).verify() if damage is not None]


def flip(path: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


# --- the key -----------------------------------------------------------------------------------------------------


def test_every_field_of_the_key_has_a_test() -> None:
    assert list(OTHER) == [field.name for field in fields(Key)]


@pytest.mark.parametrize("name", list(OTHER))
def test_each_field_changes_digest_and_directory(name: str) -> None:
    changed = replace(KEY, **{name: OTHER[name]})
    assert changed.digest != KEY.digest
    assert changed.directory != KEY.directory


def test_key_survives_json_and_equal_keys_share_a_directory() -> None:
    assert Key.from_json(KEY.as_json()) == KEY
    assert replace(KEY).directory == KEY.directory == f"tiny-32x48-{KEY.digest[:8]}"
    assert replace(KEY, input_size=(32, 32)).directory.startswith("tiny-32-")


def test_the_digest_of_a_key_is_that_of_release_0_1_0() -> None:
    assert KEY.digest == "5b8b44c8df9f014a980a4ae88e356caa6e1e39cb47d7cb0e8282cea492f0c95e"
    assert replace(KEY, views="flip").digest == "0da09c7e1ab41d1d61e7fac3ec49c15e83fe833fdfafb8d40f7cf7f7c65e065b"


@dataclass(frozen=True)
class LaterKey(Key):
    """As a later version may have it."""

    crop: float = added(0.875)


def test_a_field_that_a_key_gains_alters_it_only_where_it_is_not_the_default() -> None:
    later = LaterKey(**asdict(KEY))
    assert later.as_json() == KEY.as_json()
    assert later.digest == KEY.digest
    assert LaterKey.from_json(KEY.as_json()) == later
    other = replace(later, crop=1.0)
    assert other.as_json() == KEY.as_json() | {"crop": 1.0}
    assert other.digest != KEY.digest
    assert LaterKey.from_json(other.as_json()) == other


def test_directory_has_no_character_that_a_file_system_refuses() -> None:
    assert replace(KEY, backbone='my: "net"/ü').directory.startswith("my---net--ü-32x48-")


def test_key_json_tells_everything(store: FeatureStore) -> None:
    import json

    note = json.loads((store.directory / "key.json").read_text())
    assert note["key"] == KEY.as_json()
    assert note["digest"] == KEY.digest
    assert note["versions"]["h5py"] == h5py.__version__
    assert store.made_of() == {"name": "tiny"}


def test_a_folder_of_another_key_is_refused(store: FeatureStore) -> None:
    path = store.directory / "key.json"
    path.write_text(path.read_text().replace('"stretch"', '"crop"'))
    with pytest.raises(StoreError, match="belongs to another key"):
        store.open({})
    for content in ("{", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(StoreError, match="damaged or from a newer featx"):
            store.open({})


# --- parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_plain_h5py_reads_a_part(store: FeatureStore, dtype: str) -> None:
    rows = make_rows(7, (2, 3, 4), dtype=dtype)
    path = add_part(store, rows, pooling="none")
    with h5py.File(path, "r") as file:
        assert sorted(file) == ["checksum", "digest", "features", "path", "view"]
        key = KEY.digest.encode()
        assert dict(file.attrs) == {"schema": 1, "key": key, "layer": b"mixed7", "pooling": b"none"}
        features = file["features"]
        assert (features.shape, features.dtype, features.chunks) == ((7, 2, 3, 4), np.dtype(dtype), None)
        np.testing.assert_array_equal(features[:], rows.features)
        assert file["digest"].shape == (7, 32)
        assert file["digest"][3].tobytes() == bytes(rows.digest[3]).ljust(32, b"\0")
        assert file["path"].asstr()[2] == "/images/0/2.png"
        assert file["view"][:].tolist() == [0] * 7
        assert (file["view"].dtype, file["checksum"].dtype) == (np.uint16, np.uint32)


def test_features_can_be_mapped_at_an_aligned_place(store: FeatureStore) -> None:
    rows = make_rows(9, (3,), dtype="<f4")
    part = open_part(add_part(store, rows), store.table("mixed7", "avg").attributes)
    assert part.offset is not None
    assert part.offset % 64 == 0
    mapped = part.map()
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, rows.features)


def test_paths_survive_whatever_they_are(store: FeatureStore) -> None:
    names = ["/a b/ümläut/画像.png", os.fsdecode(b"/not/utf\xff8.png"), ""]
    path = add_part(store, replace(make_rows(3), path=path_array(names)))
    rows, good = read_rows(path)
    assert good.all()
    assert [os.fsdecode(bytes(name)) for name in rows.path] == names


def test_checksum_is_crc32_of_features_digest_view_and_path(store: FeatureStore) -> None:
    import zlib

    path = add_part(store, make_rows(4))
    with h5py.File(path, "r") as file:
        for i in range(4):
            columns = [file[name][i].tobytes() for name in ("features", "digest", "view")]
            text = bytes(file["path"][i]).rstrip(b"\0")
            assert zlib.crc32(b"".join([*columns, text])) == file["checksum"][i]


@pytest.mark.parametrize("step", ["open", "fsync", "link"])
def test_a_crash_before_the_link_leaves_nothing_visible(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class PowerCut(BaseException):
        pass

    def fail(*arguments: object) -> None:
        raise PowerCut

    target = "builtins.open" if step == "open" else f"featx.io.files.os.{step}"
    with monkeypatch.context() as patch:
        patch.setattr(target, fail)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a power cut cleans nothing up
        with pytest.raises(PowerCut):
            add_part(store, make_rows(4))
    table = fresh(store).table("mixed7", "avg")
    assert table.rows == 0
    assert not table.damaged
    assert damages(store) == []


def test_an_existing_part_is_never_replaced(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_module.secrets, "token_hex", lambda _: "same")
    monkeypatch.setattr(part_module.time, "time_ns", lambda: 1_700_000_000_123_456_789)
    path = add_part(store, make_rows(2))
    before = path.read_bytes()
    with pytest.raises(OSError, match="exists"):
        add_part(store, make_rows(3, seed=1))
    assert path.read_bytes() == before
    assert path.name.startswith("20231114T221320.123456-")


def test_a_file_system_without_hard_links_gets_a_rename(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("featx.io.files.os.link", refuse)
    add_part(store, make_rows(4))
    assert store.table("mixed7", "avg").rows == 4
    assert not list(store.directory.rglob(".tmp-*"))


@pytest.mark.parametrize(("number", "words"), [(28, "No space left on the disk"), (13, "Cannot write to")])
def test_a_full_or_forbidden_disk_is_one_sentence(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(StoreError, match=words):
        patch.setattr("featx.io.files.os.fsync", fail)
        add_part(store, make_rows(4))
    assert not [path for path in store.directory.rglob("*") if path.name.endswith(".h5")]
    add_part(store, make_rows(4))
    assert store.table("mixed7", "avg").rows == 4


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(store: FeatureStore) -> tuple[FeatureTable, np.ndarray, np.ndarray]:
    """A table of several parts, one of them float32; all digests, and their features as one float32 array."""
    digests, values = [], []
    for seed, (count, dtype) in enumerate([(5, "<f2"), (1, "<f2"), (8, "<f4"), (13, "<f2")]):
        rows = make_rows(count, (2, 3), seed, dtype)
        add_part(store, rows)
        digests.append(rows.digest)
        values.append(rows.features.astype(np.float32))
    return store.table("mixed7", "avg"), np.concatenate(digests), np.concatenate(values)


def test_features_come_in_the_order_asked_for(filled: tuple[FeatureTable, np.ndarray, np.ndarray]) -> None:
    table, digests, values = filled
    order = np.random.default_rng(1).integers(0, len(digests), 60)  # some twice
    features = table.read(digests[order])
    assert features.shape == (60, 2, 3)
    assert features.dtype == np.float32
    assert len(features) == 60
    whole = features.asarray()
    assert (whole.dtype, whole.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(whole, values[order].reshape(60, 6))


@pytest.mark.parametrize("rows", [0, 1, 7, 60, 1000])
def test_blocks_are_consecutive(filled: tuple[FeatureTable, np.ndarray, np.ndarray], rows: int) -> None:
    table, digests, values = filled
    order = np.random.default_rng(2).permutation(len(digests))
    blocks = list(table.read(digests[order]).blocks(rows))
    assert all(block.dtype == np.float32 for block in blocks)
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), values[order].reshape(-1, 6))


def test_every_float16_comes_out_as_it_went_in(store: FeatureStore) -> None:
    every = np.arange(65_536, dtype=np.uint16).view(np.float16).reshape(512, 128)  # the last of each sign: inf and NaN
    rows = make_rows(512, (128,))
    add_part(store, PartRows(rows.digest, rows.view, rows.path, every))
    table = store.table("mixed7", "avg")
    for order in (np.arange(512), np.random.default_rng(3).permutation(512)):
        expected = every[order].astype(np.float32)
        found = table.read(rows.digest[order]).asarray()
        np.testing.assert_array_equal(found, expected)  # NaN where NaN was
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_take_by_position_and_mask(filled: tuple[FeatureTable, np.ndarray, np.ndarray]) -> None:
    table, digests, values = filled
    features = table.read(digests)
    some = np.array([20, 3, 3, 0])
    mask = np.arange(len(digests)) % 4 == 1
    np.testing.assert_array_equal(features.take(some).asarray(), values[some].reshape(-1, 6))
    np.testing.assert_array_equal(features.take(mask).asarray(), values[mask].reshape(-1, 6))
    np.testing.assert_array_equal(features.take(mask).take(np.array([1])).asarray()[0], values[mask][1].ravel())
    assert features.take(np.empty(0, int)).asarray().shape[0] == 0


@pytest.mark.parametrize("sizes", [[1] * 7, [3, 3, 1], [7], [2, 0, 5]])
def test_batches_have_shape_and_type_as_stored(
    filled: tuple[FeatureTable, np.ndarray, np.ndarray], sizes: list[int]
) -> None:
    table, digests, values = filled
    rows = np.array([26, 0, 9, 9, 4, 5, 20])  # of several parts, in no order
    batches = list(table.read(digests).batches(np.split(rows, np.cumsum(sizes)[:-1])))
    assert [(batch.shape, batch.dtype) for batch in batches] == [((n, 2, 3), np.float32) for n in sizes]
    np.testing.assert_array_equal(np.concatenate(batches), values[rows])


def test_batches_that_nobody_wants_any_more_are_not_read(
    filled: tuple[FeatureTable, np.ndarray, np.ndarray],
) -> None:
    table, digests, values = filled
    batches = table.read(digests[:5]).batches(np.array([4 - i % 5]) for i in range(1000))
    first = next(batches)
    assert first.dtype == np.float16
    np.testing.assert_array_equal(first, values[[4]].astype(np.float16))
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("featx-read")]


def test_what_fails_while_reading_ahead_is_raised(store: FeatureStore) -> None:
    rows = make_rows(6)
    path = add_part(store, rows)
    batches = store.table("mixed7", "avg").read(rows.digest).batches([np.arange(3), np.arange(3, 6)])
    path.unlink()
    with pytest.raises(StoreError, match="was removed while it was read"):
        list(batches)


def test_only_the_parts_needed_decide_the_type(filled: tuple[FeatureTable, np.ndarray, np.ndarray]) -> None:
    table, digests, _ = filled
    assert table.read(digests[:6]).dtype == np.float16
    assert table.read(digests[5:8]).dtype == np.float32


def test_a_missing_image_is_an_error_that_says_what_to_do(filled: tuple[FeatureTable, np.ndarray, Any]) -> None:
    table, digests, _ = filled
    strangers = make_digests(2, seed=99)
    assert table.missing(np.concatenate([digests[:3], strangers])).tolist() == [False] * 3 + [True] * 2
    with pytest.raises(StoreError, match=r"2 of 5 images have no features .* featx extract"):
        table.read(np.concatenate([digests[:3], strangers]))


def test_views_of_one_image_are_different_rows(store: FeatureStore) -> None:
    rows = make_rows(3)
    add_part(store, replace(rows, view=np.array([0, 1, 300], np.uint16), digest=np.repeat(rows.digest[:1], 3)))
    table = store.table("mixed7", "avg")
    one = rows.digest[:1]
    assert [int(table.find(one, view)[1][0]) for view in (0, 1, 300, 2)] == [0, 1, 2, -1]
    assert table.missing(one, 44).all()  # 300 = 256 + 44


def test_digests_that_end_in_zero_bytes(store: FeatureStore) -> None:
    raw = np.random.default_rng(0).integers(1, 256, (6, 32), np.uint8)
    raw[1, 31] = raw[2, 20:] = raw[3, :] = 0
    raw[4], raw[5] = raw[0], raw[0]
    raw[4, 31], raw[5, 0] = 0, 0
    digests = raw.view("V32").ravel()
    path = add_part(store, replace(make_rows(6), digest=digests))
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file["digest"][:], raw)
    table = store.table("mixed7", "avg")
    assert table.find(digests)[1].tolist() == [0, 1, 2, 3, 4, 5]
    assert read_rows(path)[1].all()
    shorter = raw[1:2].copy()
    shorter[0, 30] = 0
    assert table.missing(shorter.view("V32").ravel()).all()


def test_of_doubled_rows_the_first_counts(store: FeatureStore) -> None:
    first, second = make_rows(4, seed=1), make_rows(4, seed=2)
    add_part(store, first)
    table = store.table("mixed7", "avg")
    add_part(store, replace(second, digest=first.digest))
    table.refresh()
    for seen in (table, fresh(store).table("mixed7", "avg")):
        assert len(seen.parts) == 2
        np.testing.assert_array_equal(seen.read(first.digest).asarray(), first.features.astype(np.float32))


def test_hidden_and_foreign_files_are_no_parts(store: FeatureStore) -> None:
    path = add_part(store, make_rows(4))
    (path.parent / f".tmp-{path.name}").write_bytes(path.read_bytes()[:100])
    (path.parent / "notes.txt").write_text("mine")
    assert store.table("mixed7", "avg").rows == 4
    assert damages(store) == []


def test_parts_that_disagree_on_the_shape_are_reported(store: FeatureStore) -> None:
    add_part(store, make_rows(2, (3,)))
    other = make_rows(2, (4,), seed=1)
    add_part(store, other)
    table = store.table("mixed7", "avg")
    with pytest.raises(StoreError, match="disagree on its shape"):
        table.read(np.concatenate([make_rows(2).digest, other.digest]))


_MANY = """
import resource, sys
from pathlib import Path
import numpy as np
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from featx.store.cache import Cache
(store,) = Cache(sys.argv[1]).stores()
table = store.table("mixed7", "avg")
digests = np.random.default_rng(0).integers(0, 256, (300, 32), np.uint8).view("V32").ravel()
order = np.random.default_rng(1).permutation(300)
parts = [table.read(digests[order]) for _ in range(5)]
expected = np.arange(300, dtype=np.float32)[order]
for features in [*parts, parts[0].take(order)]:
    got = features.asarray()
    assert got.shape == (300, 1)
    assert (got[:, 0] == (expected if features in parts else expected[order])).all()
assert not table.damaged
print(len(table.parts))
"""


@pytest.mark.slow
def test_more_parts_than_files_may_be_open(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource")  # which Windows lacks
    monkeypatch.setattr("featx.io.files.os.fsync", lambda _: None)  # for speed
    rows = PartRows(
        make_digests(300),
        np.zeros(300, np.uint16),
        path_array(["x"] * 300),
        np.arange(300).astype("<f2").reshape(-1, 1),
    )
    table = store.table("mixed7", "avg")
    for number in range(300):
        write_part(table.directory, rows.take(np.array([number])), table.attributes)
    cache = str(store.directory.parent)
    done = subprocess.run([sys.executable, "-c", _MANY, cache], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout.strip()) == (0, "300"), done.stderr


def test_too_many_open_files_is_not_taken_for_damage(store: FeatureStore) -> None:
    resource = pytest.importorskip("resource")  # which Windows lacks
    path = add_part(store, make_rows(4))
    attributes = store.table("mixed7", "avg").attributes
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(StoreError, match="Too many open files") as caught:
            open_part(path, attributes)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not isinstance(caught.value, DamagedPart)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["features", "digest", "view", "path", "checksum"])
def test_verify_finds_any_flipped_bit_of_a_column(store: FeatureStore, column: str) -> None:
    rows = make_rows(5, (2,))
    path = add_part(store, rows)
    with h5py.File(path, "r") as file:
        start, size = file[column].id.get_offset(), file[column].nbytes
    whole = path.read_bytes()
    assert damages(store) == []
    random = np.random.default_rng(0)
    for offset in sorted({start, start + size - 1, *random.integers(start, start + size, 24).tolist()}):
        bit = int(random.integers(8))
        flip(path, offset, bit)
        (found,) = damages(store)
        assert found.part == str(path)
        assert found.rows == [(offset - start) * 5 // size], (offset, bit)
        path.write_bytes(whole)
    assert damages(store) == []


def test_readers_never_use_damaged_rows(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    rows = make_rows(6)
    path = add_part(store, rows)
    flip(path, path.read_bytes().index(rows.features[2].tobytes()) + 3)
    add_part(store, make_rows(6).take(np.array([4])))
    table = fresh(store).table("mixed7", "avg")
    assert table.missing(rows.digest).tolist() == [False, False, True, False, False, False]
    assert f"{path} is damaged: 1 of its 6 rows are not used" in caplog.text
    sound = np.array([0, 1, 3, 4, 5])
    np.testing.assert_array_equal(table.read(rows.digest[sound]).asarray(), rows.features[sound].astype(np.float32))
    with pytest.raises(StoreError, match="1 of 6 images has no features"):
        table.read(rows.digest)


def test_of_doubled_rows_a_damaged_one_is_passed_over(store: FeatureStore) -> None:
    rows = make_rows(6)
    path = add_part(store, rows)
    add_part(store, make_rows(6).take(np.array([2, 5])))
    flip(path, path.read_bytes().index(rows.features[2].tobytes()) + 3)
    found = fresh(store).table("mixed7", "avg").read(rows.digest)
    np.testing.assert_array_equal(found.asarray(), rows.features.astype(np.float32))


def test_a_part_is_compared_once_while_it_stays_as_it_is(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(6)
    path = add_part(store, rows)
    compared: list[Path] = []
    usual = damage_module.read_rows
    monkeypatch.setattr(damage_module, "read_rows", lambda path: compared.append(path) or usual(path))

    def look() -> int:
        with Cache(store.directory.parent) as cache:
            assert cache.index.path.parent == cache.path
            return int(cache.store(store.key).table("mixed7", "avg").missing(rows.digest).sum())

    assert [look(), look()] == [0, 0]
    assert compared == [path]
    flip(path, path.read_bytes().index(rows.features[2].tobytes()) + 3)  # and another time of change with it
    assert [look(), look()] == [1, 1]
    assert compared == [path] * 3  # what is damaged is not remembered


def test_parts_are_read_without_locks(store: FeatureStore) -> None:
    rows = make_rows(4)
    path = add_part(store, rows)
    with open(path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # to HDF5 it is as if the file system had no locks
        table = fresh(store).table("mixed7", "avg")
        np.testing.assert_array_equal(table.read(rows.digest).asarray(), rows.features.astype(np.float32))
        assert [found for _, found in fresh(store).verify()] == [None]
        assert read_rows(path)[1].all()


def test_a_lock_error_is_never_damage(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = add_part(store, make_rows(4))
    monkeypatch.setattr("featx.store.part.open_hdf5", lambda path: h5py.File(path, "r", locking=True))
    with open(path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for read in (read_rows, read_name, lambda path: open_part(path, {})):
            with pytest.raises(StoreError, match="HDF5_USE_FILE_LOCKING=FALSE") as caught:
                read(path)
            assert not isinstance(caught.value, DamagedPart)


def test_a_flipped_bit_of_the_structure_is_found_or_harmless(store: FeatureStore) -> None:
    """HDF5's own headers have no checksum: a flip there must be found, or leave every value as it was."""
    rows = make_rows(3, (2,))
    path = add_part(store, rows)
    with h5py.File(path, "r") as file:
        columns = [(file[name].id.get_offset(), file[name].nbytes) for name in file]
    whole = path.read_bytes()
    inside = {offset for start, size in columns for offset in range(start, start + size)}
    outside = [offset for offset in range(len(whole)) if offset not in inside and whole[offset]]
    random = np.random.default_rng(0)
    for offset in outside:
        flip(path, offset, int(random.integers(8)))
        found = damages(store)
        if not found:
            read, good = read_rows(path)
            table = fresh(store).table("mixed7", "avg")
            assert good.all()
            np.testing.assert_array_equal(table.read(rows.digest).asarray(), rows.features.astype(np.float32))
            np.testing.assert_array_equal(read.path, rows.path)
        path.write_bytes(whole)


def test_a_damaged_part_is_left_aside_and_the_others_are_read(
    store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    broken = add_part(store, make_rows(4))
    good = make_rows(3, seed=1)
    add_part(store, good)
    for content in (b"", broken.read_bytes()[:1500], broken.read_bytes()[:-1], b"no HDF5 at all" * 99):
        broken.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            table = fresh(store).table("mixed7", "avg")
        assert list(table.damaged) == [broken]
        assert table.rows == 3
        assert not table.missing(good.digest).any()
        assert "will be computed again" in caplog.text
        (found,) = damages(store)
        assert (found.part, found.rows) == (str(broken), [])
    broken.unlink()
    os.mkfifo(broken)  # nothing ever comes out of it
    assert fresh(store).table("mixed7", "avg").rows == 3
    assert [one.part for one in damages(store)] == [str(broken)]


@pytest.mark.parametrize("pooling", ["avg", "grid:4"])
def test_a_table_without_one_readable_part_is_verified_too(store: FeatureStore, pooling: str) -> None:
    path = add_part(store, make_rows(4), pooling=pooling)
    path.write_bytes(b"")
    (found,) = damages(store)
    assert found.part == str(path)
    store.repair(found)
    assert damages(store) == []
    assert not path.exists()


def test_a_part_of_another_table_or_store_is_not_believed(store: FeatureStore) -> None:
    path = add_part(store, make_rows(4))
    for name, value in [("layer", b"mixed8"), ("pooling", b"max"), ("key", b"0" * 64), ("schema", 2)]:
        with h5py.File(path, "r+") as file:
            before = file.attrs[name]
            file.attrs[name] = value
        (found,) = damages(store)
        assert found.part == str(path)
        with h5py.File(path, "r+") as file:
            file.attrs[name] = before
    assert damages(store) == []


def test_repair_keeps_the_good_rows(store: FeatureStore) -> None:
    rows = make_rows(6, (4,))
    path = add_part(store, rows)
    with h5py.File(path, "r+") as file:
        file["features"][2, 1] += 1
        file["features"][5, 0] += 1
    (found,) = damages(store)
    assert (found.rows, found.reason) == ([2, 5], "checksum mismatch")
    assert found.images == ["/images/0/2.png", "/images/0/5.png"]
    store.repair(found)
    table = store.table("mixed7", "avg")
    assert table.missing(rows.digest).tolist() == [False, False, True, False, False, True]
    np.testing.assert_array_equal(table.read(rows.digest[:2]).asarray(), rows.features[:2].astype(np.float32))
    assert damages(store) == []


# --- prune -------------------------------------------------------------------------------------------------------


def test_prune_merges_small_parts_and_loses_nothing(store: FeatureStore) -> None:
    several = [make_rows(3, (2, 2), seed, "<f4" if seed == 3 else "<f2") for seed in range(6)]
    for rows in several:
        add_part(store, rows)
        add_part(store, make_rows(2, seed=rows.features.shape[0]), "mixed2", "grid:4")
    assert store.prune() == (12, 2)
    table = store.table("mixed7", "avg")
    for rows in several:
        np.testing.assert_array_equal(table.read(rows.digest).asarray(), rows.features.reshape(3, 4).astype(np.float32))
    assert store.tables()["mixed2@grid:4"].rows == 2  # six doubles of the same two
    assert damages(store) == []
    assert store.prune() == (2, 2)


def test_prune_leaves_large_parts_alone(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.store.compaction.PART_BYTES", 100)
    large = add_part(store, make_rows(20, (4,), 0))
    small = [add_part(store, make_rows(2, (4,), seed)) for seed in (1, 2)]
    assert store.prune() == (3, 2)
    assert large.exists()
    assert not any(path.exists() for path in small)


def test_prune_keeps_the_first_row_of_doubles_across_groups(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.store.compaction.PART_BYTES", 60)
    first, second = make_rows(8, (4,), 1), make_rows(8, (4,), 2)
    add_part(store, first)
    add_part(store, replace(second, digest=np.concatenate([first.digest[:5], second.digest[5:]])))
    store.prune()
    table = store.table("mixed7", "avg")
    assert table.rows == 11
    np.testing.assert_array_equal(table.read(first.digest).asarray(), first.features.astype(np.float32))
    np.testing.assert_array_equal(table.read(second.digest[5:]).asarray(), second.features[5:].astype(np.float32))


def test_prune_keeps_the_valid_one_of_doubles(store: FeatureStore) -> None:
    rows = make_rows(4)
    damaged = add_part(store, rows)
    add_part(store, rows)
    with h5py.File(damaged, "r+") as file:
        file["features"][1] = 0
    store.prune()
    np.testing.assert_array_equal(
        store.table("mixed7", "avg").read(rows.digest).asarray(), rows.features.astype(np.float32)
    )
    assert damages(store) == []


def test_prune_reads_no_part_whose_rows_all_stay_elsewhere(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.store.compaction.PART_BYTES", 60)
    rows = make_rows(8, (4,), 1)
    paths = [add_part(store, rows) for _ in range(3)]
    read: list[Path] = []
    monkeypatch.setattr("featx.store.compaction.read_rows", lambda path: (read.append(path), read_rows(path))[1])
    assert store.prune() == (3, 1)
    assert read == paths[:1]
    np.testing.assert_array_equal(
        store.table("mixed7", "avg").read(rows.digest).asarray(), rows.features.astype(np.float32)
    )


def test_prune_publishes_before_it_unlinks(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    several = [make_rows(3, seed=seed) for seed in range(4)]
    for rows in several:
        add_part(store, rows)
    everything = np.concatenate([rows.digest for rows in several])
    unlink = Path.unlink
    looks = 0

    def look_first(path: Path, missing_ok: bool = False) -> None:
        nonlocal looks
        if path.suffix == ".h5" and path.name[0] != ".":
            looks += 1
            unlink(path, missing_ok)
            table = fresh(store).table("mixed7", "avg")
            assert not table.missing(everything).any()
        else:
            unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", look_first)
    store.prune()
    assert looks == 4


def test_prune_on_a_full_disk_keeps_the_old_parts(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [add_part(store, make_rows(3, seed=seed)) for seed in range(2)]

    def fail(*_: object) -> None:
        raise StoreError("No space left")

    monkeypatch.setattr("featx.store.compaction.write_part", fail)
    with pytest.raises(StoreError, match="No space left"):
        store.prune()
    assert all(path.exists() for path in paths)


def test_a_long_prune_gives_signs_of_life(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another process takes it for dead after ten minutes, and removes parts that it counts on."""
    monkeypatch.setattr("featx.store.compaction.PART_BYTES", 60)
    signs: list[int] = []
    read, give_sign = store_module.read_rows, Leases.give_sign

    def sign(leases: Leases) -> None:
        signs.append(0)
        give_sign(leases)

    def read_for_long(path: Path) -> Any:
        signs[-1] += 1
        return read(path)

    monkeypatch.setattr(Leases, "give_sign", sign)
    monkeypatch.setattr("featx.store.compaction.read_rows", read_for_long)
    for seed in range(6):
        add_part(store, make_rows(8, (4,), seed))
    assert store.prune() == (6, 6)
    assert max(signs) == 1  # no more than one group of parts between two signs


def test_two_prunes_at_once_are_refused(store: FeatureStore) -> None:
    add_part(store, make_rows(3))
    add_part(store, make_rows(3, seed=1))
    with store.leases() as other:
        other.claim(MAINTENANCE)
        with pytest.raises(StoreError, match="Another prune or repair is running"):
            fresh(store).prune()
    assert fresh(store).prune() == (2, 1)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_reader_survives_a_prune(store: FeatureStore, compression: str) -> None:
    several = [make_rows(3, seed=seed) for seed in range(8)]
    for rows in several:
        add_part(store, rows)
    table = store.table("mixed7", "avg")
    before = [table.read(rows.digest) for rows in several]
    both = before[0].followed_by(before[7].take(np.array([2, 0])))
    fresh(store).prune(compression)
    for rows, found in zip(several, before, strict=True):
        np.testing.assert_array_equal(found.asarray(), rows.features.astype(np.float32))
    wanted = np.concatenate([several[0].features, several[7].features[[2, 0]]])
    np.testing.assert_array_equal(np.concatenate(list(both.batches([np.arange(4), np.array([4])]))), wanted)
    assert not table.missing(several[5].digest).any()


def test_a_reader_whose_rows_are_gone_gets_a_sentence(store: FeatureStore) -> None:
    rows = make_rows(3)
    path = add_part(store, rows)
    before = store.table("mixed7", "avg").read(rows.digest)
    path.unlink()
    with pytest.raises(StoreError, match=r"was removed while it was read .* Run the same command again"):
        before.asarray()


def test_prune_removes_what_killed_runs_left(store: FeatureStore) -> None:
    path = add_part(store, make_rows(3))
    left, damaged = path.with_name(".tmp-x.h5"), path.with_suffix(".damaged")
    fresh = path.with_name(".tmp-y.h5")
    for file in (left, damaged, fresh):
        file.write_bytes(b"x" * 99)
    os.utime(left, (1, 1))
    store.prune()
    assert path.exists()
    assert not left.exists()
    assert not damaged.exists()
    assert fresh.exists()  # somebody may be writing it


# --- writing -----------------------------------------------------------------------------------------------------


def write(store: FeatureStore, features: np.ndarray, storage: str = "float16", seed: int = 0) -> FeatureTable:
    table = store.table("mixed7", "avg")
    digests = make_digests(len(features), seed)
    with TableWriter({"mixed7@avg": table}, storage, "none") as writer:
        for start in range(0, len(features), 2):
            some = slice(start, start + 2)
            writer.add("mixed7@avg", digests[some], ["x"] * len(digests[some]), features[some])
    table.refresh()
    return table


@pytest.mark.parametrize("factor", [1e5, 1e-6, 65_600.0, 2.0**-15])
def test_values_beyond_float16_are_stored_as_float32(
    store: FeatureStore, caplog: pytest.LogCaptureFixture, factor: float
) -> None:
    features = np.random.default_rng(0).uniform(0.5, 1.0, (8, 3)).astype(np.float32)
    features[4] *= np.float32(factor)
    features[4, 0] = factor
    with caplog.at_level(logging.WARNING):
        table = write(store, features)
    assert caplog.text.count("mixed7@avg does not fit float16") == 1
    got = table.read(make_digests(8)).asarray()
    np.testing.assert_allclose(got, features, rtol=2**-10)
    np.testing.assert_array_equal(got[4:], features[4:])  # float32 from the first such batch on
    assert sorted(str(part.dtype) for part in table.parts) == ["float16", "float32"]


def test_float16_keeps_rows_of_zeros_and_small_values_beside_large_ones(
    store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    features = np.ones((4, 200), np.float32)
    features[:, 1] = 0
    features[0] = 0
    features[[1, 2, 3], [0, 0, 5]] = 1e-9, 65_504, 2.0**-14
    table = write(store, features)
    assert not caplog.records
    assert {str(part.dtype) for part in table.parts} == {"float16"}
    np.testing.assert_allclose(table.read(make_digests(4)).asarray(), features, atol=1e-8)


def test_probabilities_whose_most_values_float16_cannot_hold_are_stored_as_float32(store: FeatureStore) -> None:
    logits = np.random.default_rng(0).normal(0, 4, (8, 1000))
    features = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    lost = np.abs(features.astype(np.float16).astype(np.float32) / features - 1)
    assert features.max(axis=1).min() > 0.01, "the largest of a row has nothing to lose"
    assert np.mean(lost > 0.05) > 0.2
    table = write(store, features)
    np.testing.assert_array_equal(table.read(make_digests(8)).asarray(), features)


def test_the_network_s_own_infinities_pass(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    features = np.array([[np.inf, 1], [np.nan, 2]], np.float32)
    got = write(store, features).read(make_digests(2)).asarray()
    np.testing.assert_array_equal(got, features)
    assert not caplog.records


def test_float32_storage_is_exact(store: FeatureStore) -> None:
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * np.float32(1e-9)
    np.testing.assert_array_equal(write(store, features, "float32").read(make_digests(5)).asarray(), features)


def test_parts_are_published_by_size(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "PART_BYTES", 100)
    features = np.ones((40, 5), np.float32)
    assert [len(part) for part in write(store, features).parts] == [10, 10, 10, 10]


def test_parts_are_published_by_time(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "PART_SECONDS", 0.0)
    assert len(write(store, np.ones((6, 5), np.float32)).parts) == 3


def test_leaving_by_ctrl_c_publishes_what_was_added(store: FeatureStore) -> None:
    table = store.table("mixed7", "avg")
    with pytest.raises(KeyboardInterrupt), TableWriter({"t": table}, "float16", "none") as writer:
        writer.add("t", make_digests(3), ["a", "b", "c"], np.ones((3, 2), np.float32))
        raise KeyboardInterrupt
    table.refresh()
    assert table.rows == 3


@pytest.mark.parametrize("kind", [OSError, StoreError, RuntimeError, ValueError])
def test_whatever_fails_in_the_writing_thread_is_raised_and_nothing_waits(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise kind("the disk burns")

    monkeypatch.setattr(table_module, "write_part", fail)
    monkeypatch.setattr(table_module, "PART_BYTES", 1)
    with pytest.raises(kind, match="the disk burns"):
        write(store, np.ones((40, 2), np.float32))


# --- compression -------------------------------------------------------------------------------------------------


def test_zstd_parts_give_the_same_features(store: FeatureStore) -> None:
    pytest.importorskip("hdf5plugin")
    several = [make_rows(30, (4, 5), seed) for seed in range(7)]
    for rows in several:
        add_part(store, rows, compression="zstd")
    table = store.table("mixed7", "avg")
    assert all(part.offset is None for part in table.parts)
    digests = np.concatenate([rows.digest for rows in several])
    values = np.concatenate([rows.features for rows in several]).reshape(-1, 20).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(digests))
    np.testing.assert_array_equal(table.read(digests[order]).asarray(), values[order])
    with h5py.File(table.parts[0].path, "r") as file:
        filters = file["features"].id.get_create_plist()
        assert [filters.get_filter(i)[0] for i in range(filters.get_nfilters())] == [part_module.ZSTD_FILTER]
        assert file["features"].chunks[1:] == (4, 5)
    assert damages(store) == []
    assert store.prune("zstd") == (7, 1)
    np.testing.assert_array_equal(store.table("mixed7", "avg").read(digests).asarray(), values)


def test_zstd_without_its_plugin_is_refused_with_the_remedy(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(StoreError, match="pip install hdf5plugin"):
        add_part(store, make_rows(3), compression="zstd")


def test_a_missing_plugin_is_not_taken_for_damage(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = add_part(store, make_rows(3))
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with h5py.File(path, "r+") as file:  # as a compressed part looks to who has no plugin
        features = file["features"][:]
        del file["features"]
        file.create_dataset("features", data=features, chunks=(1, 5))
    with pytest.raises(StoreError, match="pip install hdf5plugin"):
        damages(store)
    with pytest.raises(StoreError, match="pip install hdf5plugin"):
        store.table("mixed7", "avg").read(make_digests(3)).asarray()
    assert path.exists()


# --- whole caches ------------------------------------------------------------------------------------------------


def test_listing_describes_every_store(store: FeatureStore, tmp_path: Path) -> None:
    other = Cache(tmp_path / "cache").store(replace(KEY, resize="pad"))
    other.open({})
    path = add_part(store, make_rows(4), "mixed2", "grid:4")
    found = {one["store"]: one for one in map(describe, list_stores(tmp_path / "cache"))}
    assert set(found) == {str(store.directory), str(other.directory)}
    assert found[str(store.directory)]["layers"] == {
        "mixed2@grid:4": {"rows": 4, "parts": 1, "bytes": path.stat().st_size}
    }
    assert found[str(other.directory)]["key"]["resize"] == "pad"
    assert list_stores(tmp_path / "nothing here") == []


def test_export_is_one_plain_file(filled: tuple[FeatureTable, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    table, digests, values = filled
    out = tmp_path / "new folder" / "features.h5"
    columns = {"paths": [f"ü{i}.png" for i in range(len(digests))], "split": ["train"] * len(digests)}
    export_features(out, table.read(digests), np.arange(len(digests)), columns, {"classes": ["a", "b"]})
    with h5py.File(out, "r") as file:
        np.testing.assert_array_equal(file["features"][:], values)
        np.testing.assert_array_equal(file["labels"][:], np.arange(len(digests)))
        assert file["paths"].asstr()[3] == "ü3.png"
        assert file.attrs["classes"] == '["a", "b"]'


def test_writing_needs_no_memory_for_all(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(table_module, "PART_BYTES", 200_000)
    peaks: list[int] = []

    def measure(count: int, seed: int) -> None:
        table = store.table("mixed7", f"grid:{seed}")
        tracemalloc.start()
        with TableWriter({"t": table}, "float16", "none") as writer:
            for number in range(count):
                digests = make_digests(10, seed=1000 * seed + number)
                writer.add("t", digests, ["x"] * 10, np.ones((10, 1000), np.float32))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    measure(30, 1)
    measure(300, 2)
    assert peaks[1] < peaks[0] + 500_000
