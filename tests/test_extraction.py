"""Extraction through `extract` and the command line: what is computed, what is reused, what alters the key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import h5py
import numpy as np
import pytest
from cached import extract, fresh, list_stores, plan, repair_store
from conftest import SIDE, environment, save_backbone, write_images
from fitted import call
from PIL import Image

from featx.backbones import resolve, resolve_outputs
from featx.config import DataOptions, FeaturesOptions
from featx.dataset import ImageSet, read_images
from featx.errors import DataError, FeatxError, StoreError
from featx.extraction import flow, job, planning
from featx.extraction.flow import Extraction, make_key
from featx.io.digests import digest_file
from featx.store.cache import Cache


@pytest.fixture
def options(tiny_backbone: Path, cache: Path) -> FeaturesOptions:
    return FeaturesOptions(backbone=str(tiny_backbone), layer=("high",), cache=str(cache))


def read(folder: Path, **more: Any) -> ImageSet:
    return read_images(str(folder), DataOptions(**more))


def features_of(done: Extraction, output: int = 0) -> np.ndarray:
    return done.features(done.outputs[output], np.flatnonzero(done.readable)).asarray()


def some(images: ImageSet, rows: list[int] | range) -> ImageSet:
    """A few of the images, without labels: a class may be left without any."""
    return replace(images.take(np.array(rows)), labels=None, classes=())


def counts(done: Extraction) -> tuple[int, int]:
    return done.computed, done.reused


# --- values ------------------------------------------------------------------------------------------------------


def expected(backbone: Path, images: ImageSet, layer: str) -> np.ndarray:
    """The maps of a layer, made without featx."""
    import keras

    network = keras.models.load_model(backbone)
    inner = keras.Model(network.input, network.get_layer(layer).output)
    pixels = np.stack([np.asarray(Image.open(path)) for path in images.paths])
    return np.asarray(inner(pixels.astype(np.float32)))


def test_features_are_those_of_the_network(
    options: FeaturesOptions, image_folder: Callable[..., Path], tiny_backbone: Path
) -> None:
    images = read(image_folder(11))
    names = ("high@avg", "high@max", "low@grid:2", "low@flatten")
    done = extract(images, replace(options, layer=names))
    high, low = (expected(tiny_backbone, images, layer) for layer in ("high", "low"))
    grid = low.reshape(22, 2, 4, 2, 4, 6).mean((2, 4))
    references = [high.mean((1, 2)), high.max((1, 2)), grid.reshape(22, -1), low.reshape(22, -1)]
    assert [output.name for output in done.outputs] == list(names)
    for number, reference in enumerate(references):
        got = features_of(done, number)
        np.testing.assert_allclose(got, reference, rtol=2e-3, atol=2e-3 * np.abs(reference).max())
    content = done.as_json()
    assert content["layers"]["low@grid:2"]["shape"] == [22, 24]
    assert Path(content["layers"]["low@grid:2"]["path"]).name == "low@grid-2"
    assert {layer["dtype"] for layer in content["layers"].values()} == {"float16"}


def test_each_table_writes_only_its_own_missing_rows(
    options: FeaturesOptions, image_folder: Callable[..., Path]
) -> None:
    images = read(image_folder(5))
    assert counts(extract(some(images, range(3)), options)) == (3, 0)
    assert counts(extract(some(images, range(2, 8)), replace(options, layer=("low",)))) == (6, 0)
    both = replace(options, layer=("low", "high"))
    assert plan(images, both).reason == "9 of 10 images lack low@avg, high@avg"
    done = extract(images, both)
    assert counts(done) == (9, 1)  # image 2 had both
    tables = done.store.tables()
    assert {name: table.rows for name, table in tables.items()} == {"high@avg": 10, "low@avg": 10}
    assert counts(extract(images, both)) == (0, 10)


# --- what is computed --------------------------------------------------------------------------------------------


def test_appending_ten_images_computes_ten(
    options: FeaturesOptions, image_folder: Callable[..., Path], featx: Callable[..., Any], tmp_path: Path
) -> None:
    folder = image_folder(100)
    arguments = ["extract", folder, "--backbone", options.backbone, "--layer", "high", "--json"]
    first = featx(*arguments).json
    assert (first["images"], first["computed"], first["reused"], first["bad"]) == (200, 200, 0, [])
    assert set(first["stages"]) == {"decode", "infer", "write"}
    assert first["layers"]["high@avg"] == {"shape": [200, 8], "dtype": "float16", "path": first["store"] + "/high@avg"}
    write_images(folder / "dog", 10, seed=9)
    dry = featx(*arguments, "--dry-run").json
    assert (dry["rows"], dry["reused"], dry["bytes"]) == (10, 200, 10 * 8 * 2)
    second = featx(*arguments).json
    assert (second["computed"], second["reused"]) == (10, 200)
    third = featx(*arguments).json
    assert (third["computed"], third["reused"], third["images_per_second"]) == (0, 210, None)


def test_rename_relabel_and_resplit_compute_nothing(
    options: FeaturesOptions, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder(6)
    before = extract(read(folder), options)
    assert counts(before) == (12, 0)
    for number, path in enumerate(sorted((folder / "cat").iterdir())):
        path.rename(folder / "cat" / f"renamed {number}.jpg")
    assert counts(extract(read(folder), options)) == (0, 12)
    folder.rename(tmp_path / "moved")
    assert counts(extract(read(tmp_path / "moved"), options)) == (0, 12)
    mover = next((tmp_path / "moved" / "cat").iterdir())
    mover.rename(tmp_path / "moved" / "dog" / "relabelled.png")
    assert counts(extract(read(tmp_path / "moved", seed=7, split=(0.5, 0.25, 0.25)), options)) == (0, 12)
    for split in ("train", "test"):
        (tmp_path / "split" / split).mkdir(parents=True)
    shutil.copytree(tmp_path / "moved" / "cat", tmp_path / "split" / "train" / "cat")
    shutil.copytree(tmp_path / "moved" / "dog", tmp_path / "split" / "test" / "dog")
    shutil.copytree(tmp_path / "moved" / "dog", tmp_path / "split" / "train" / "dog")
    done = extract(read(tmp_path / "split"), options)
    assert (*counts(done), done.duplicates) == (0, 12, 7)


def test_changed_content_is_computed(options: FeaturesOptions, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(3)
    extract(read(folder), options)
    victim = sorted((folder / "cat").iterdir())[1]
    Image.new("RGB", (SIDE, SIDE), "red").save(victim)
    assert counts(extract(read(folder), options)) == (1, 5)


def test_an_image_that_comes_twice_is_computed_once(
    options: FeaturesOptions, image_folder: Callable[..., Path]
) -> None:
    folder = image_folder(3)
    for path in list((folder / "cat").iterdir()):
        shutil.copy(path, folder / "cat" / f"copy of {path.name}")
    done = extract(read(folder), options)
    assert (*counts(done), done.duplicates) == (6, 0, 3)
    assert len(features_of(done)) == 9


def test_bad_images_cost_neither_their_batch_nor_their_copies(
    options: FeaturesOptions, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder(4)
    whole = sorted((folder / "cat").iterdir())[0].read_bytes()
    for name in ("cut.png", "the same, cut.png"):
        (folder / "cat" / name).write_bytes(whole[:200])
    (folder / "dog" / "text.png").write_text("I am a text")
    (folder / "dog" / "empty.png").touch()
    for _ in range(2):  # the second time from memory
        done = extract(read(folder), options)
        reasons = {Path(one["path"]).name: one["reason"] for one in done.bad}
        assert list(reasons) == ["cut.png", "the same, cut.png", "empty.png", "text.png"]
        assert reasons["cut.png"] == reasons["the same, cut.png"]
        assert "truncated" in reasons["cut.png"]
        assert (done.computed + done.reused, done.duplicates, len(features_of(done))) == (8, 0, 8)
    assert counts(done) == (0, 8)


def test_only_fitting_needs_a_readable_image_of_every_class(
    options: FeaturesOptions, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder(2)
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"no image, but not empty")
    (folder / "later").mkdir()
    good = len(list((folder / "cat").iterdir()))
    done = extract(read(folder), options)
    assert (done.computed, len(done.bad), len(features_of(done))) == (good, 2, good)
    features = ("--backbone", str(options.backbone), "--cache", str(options.cache))
    extracted = call("extract", folder, *features, "--json", cwd=tmp_path)
    assert (extracted.status, extracted.json["reused"]) == (0, good)
    assert "No readable image of dog and later. Fitting a head needs images of every class." in extracted.err
    refused = call("fit-head", folder, *features, cwd=tmp_path)
    assert refused.status == 1
    assert ", the class 'dog' (and 1 more: later) has no readable image." in refused.err
    for path in (folder / "cat").iterdir():
        path.write_bytes(b"no image, but not empty")
    with pytest.raises(DataError, match="None of the"):
        extract(read(folder), options)


def test_a_file_that_is_replaced_meanwhile_leaves_no_wrong_features(
    options: FeaturesOptions, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder(4)
    images = read(folder)
    victim, broken = Path(images.paths[2]), Path(images.paths[5])
    contents = {path: path.read_bytes() for path in (victim, broken)}

    def replace_files(stage: str, done: int, total: int, /, **_: int) -> None:
        if stage == "hash" and done == total:  # hashed, not yet decoded
            Image.new("RGB", (SIDE, SIDE), "blue").save(victim)
            broken.write_bytes(b"not an image any more")

    done = extract(images, options, replace_files)
    assert [one["path"] for one in done.bad] == [str(victim), str(broken)]
    assert all("replaced while featx ran" in one["reason"] for one in done.bad)
    assert done.computed == 6
    for path, content in contents.items():
        path.write_bytes(content)
    again = extract(images, options)
    assert (*counts(again), again.bad) == (2, 6, [])


# --- the key -----------------------------------------------------------------------------------------------------


def key_digest(options: FeaturesOptions) -> str:
    spec = resolve(options)
    with Cache(options.cache) as cache:
        return make_key(options, spec, resolve_outputs(options, spec), cache.index).digest


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "random"},
        {"input_size": 24},
        {"resize": "crop"},
        {"resize": "pad"},
        {"preprocessing": "tf"},
        {"storage": "float32"},
        {"backbone": "EfficientNetLite0"},
    ],
    ids=str,
)
def test_what_alters_a_value_alters_the_key(options: FeaturesOptions, change: dict[str, Any]) -> None:
    assert key_digest(replace(options, **change)) != key_digest(options)


def test_the_seed_of_random_weights_alters_the_key(options: FeaturesOptions) -> None:
    digests = {key_digest(replace(options, weights="random", weights_seed=seed)) for seed in (0, 1)}
    assert len(digests) == 2
    assert key_digest(replace(options, weights_seed=3)) == key_digest(options)  # it seeds nothing


def test_precision_alters_the_key_by_what_the_engine_really_does(
    options: FeaturesOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "effective_precision", lambda engine, precision: precision)
    digests = {
        key_digest(replace(options, precision=precision, engine=engine))  # type: ignore[arg-type]
        for precision in ("float32", "bfloat16", "float16")
        for engine in ("openvino", "tensorflow")
    }
    assert len(digests) == 5  # float32 is the same on both


def test_the_decoder_alters_the_key(options: FeaturesOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_digest(options)
    monkeypatch.setattr(job, "decoder_identity", lambda: "another")
    assert key_digest(options) != before


def test_other_weights_and_another_graph_alter_the_key(options: FeaturesOptions, tmp_path: Path) -> None:
    before = key_digest(options)
    twin = shutil.copy(options.backbone, tmp_path / "tiny.keras")
    assert key_digest(replace(options, backbone=str(twin))) == before
    save_backbone(tmp_path / "tiny.keras", seed=5)
    assert key_digest(replace(options, backbone=str(twin))) != before
    save_backbone(tmp_path / "other name.keras")
    assert key_digest(replace(options, backbone=str(tmp_path / "other name.keras"))) != before


@pytest.mark.parametrize(
    "change",
    [
        {"compression": "zstd"},
        {"infer_batch": 3},
        {"workers": 1},
        {"engine": "tensorflow"},
        {"layer": ("low",)},
        {"pooling": ("max", "flatten")},
        {"input_size": SIDE},
        {"preprocessing": "none"},
    ],
    ids=str,
)
def test_what_alters_no_value_leaves_the_key(options: FeaturesOptions, change: dict[str, Any]) -> None:
    assert key_digest(replace(options, **change)) == key_digest(options)


def test_another_cache_has_the_same_key(options: FeaturesOptions, tmp_path: Path) -> None:
    assert key_digest(replace(options, cache=str(tmp_path / "elsewhere"))) == key_digest(options)


def test_batch_size_workers_and_engine_change_no_value(
    options: FeaturesOptions, image_folder: Callable[..., Path], tmp_path: Path, warm_cache: Path
) -> None:
    images = read(image_folder(6))
    first = features_of(extract(images, replace(options, storage="float32")))
    for number, change in enumerate([{"infer_batch": 5, "workers": 1}, {"engine": "tensorflow"}]):
        shutil.copytree(warm_cache, tmp_path / f"cache{number}")
        changed = replace(options, storage="float32", cache=str(tmp_path / f"cache{number}"), **change)  # type: ignore[arg-type]
        np.testing.assert_allclose(features_of(extract(images, changed)), first, rtol=1e-4, atol=1e-6)


# --- storage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e6, 1e-8])
def test_a_backbone_beyond_float16_is_stored_as_float32(
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    tmp_path: Path,
    scale: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backbone = save_backbone(tmp_path / "scaled.keras", scale)
    images = read(image_folder(4))
    done = extract(images, replace(options, backbone=str(backbone)))
    assert "high@avg does not fit float16" in caplog.text
    assert done.as_json()["layers"]["high@avg"]["dtype"] == "float32"
    np.testing.assert_allclose(features_of(done), expected(backbone, images, "high").mean((1, 2)), rtol=1e-4)


# --- damage ------------------------------------------------------------------------------------------------------


def spoil(part: Path, rows: list[int], column: str = "features") -> None:
    with h5py.File(part, "r+") as file:
        for row in rows:
            file[column][row] = file[column][(row + 1) % len(file[column])]


def test_verify_finds_and_repair_computes_just_those_rows(
    options: FeaturesOptions, image_folder: Callable[..., Path], featx: Callable[..., Any]
) -> None:
    images = read(image_folder(10))
    extract(some(images, range(15)), replace(options, layer=("low", "high")))
    done = extract(images, options)
    before = features_of(done)
    part = sorted(done.store.directory.glob("high@avg/*.h5"))[0]
    spoil(part, [2], "features")
    spoil(part, [7], "digest")
    spoil(part, [11], "checksum")
    found = featx("cache", "verify", status=1)
    assert "checksum mismatch for 3 rows" in found.stderr
    assert "Repair with: featx cache verify --repair\n" in found.stderr
    elsewhere = done.store.directory.parent.rename(done.store.directory.parent.with_name("moved"))
    found = featx("cache", "verify", "--cache", "moved", status=1)
    assert "Repair with: featx cache verify --repair --cache moved\n" in found.stderr
    elsewhere.rename(done.store.directory.parent)
    mended = featx("cache", "verify", "--repair", "--json")
    assert "3 rows computed again, 0 without their image" in mended.stderr
    assert [damage["rows"] for damage in mended.json["damaged"]] == [[2, 7, 11]]
    tables = fresh(done.store).tables()
    assert {name: table.rows for name, table in tables.items()} == {"high@avg": 20, "low@avg": 15}
    assert featx("cache", "verify", "--json").json["damaged"] == []
    again = extract(images, options)
    assert counts(again) == (0, 20)
    np.testing.assert_array_equal(features_of(again), before)


def test_a_store_whose_key_is_damaged_does_not_stop_the_others(
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    featx: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = read(image_folder(10))
    sound, other = extract(images, options), extract(images, replace(options, storage="float32"))
    key = other.store.directory / "key.json"
    key.write_text(key.read_text()[:20])
    listed = featx("cache", "ls")
    assert listed.stdout.count("high@avg") == 1
    assert "key.json is damaged or from a newer featx" in caplog.text
    found = featx("cache", "verify", status=1)
    assert "key.json is damaged can only be moved away" in found.stderr
    assert "--repair" not in found.stderr
    assert "1 damaged\n" in found.stdout
    assert featx("cache", "prune", "--json").json["parts_before"] == 1
    assert counts(extract(images, options)) == (0, len(images))
    assert sound.store.directory.exists()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("command", [("extract",), ("cache", "export", "--out", "features.h5"), ("fit-head",)])
def test_damaged_rows_are_computed_again_by_whoever_reads_them(
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    featx: Callable[..., Any],
    command: tuple[str, ...],
    tmp_path: Path,
) -> None:
    images = read(image_folder(10))
    done = extract(images, options)
    before = features_of(done)
    (part,) = done.store.directory.glob("high@avg/*.h5")
    content = bytearray(part.read_bytes())
    content[content.index(before[4].astype(np.float16).tobytes()) + 5] ^= 0x40
    part.write_bytes(content)
    more = ("--clf", "logreg", "--no-html") if command == ("fit-head",) else ()
    arguments = [*command, "images", "--backbone", options.backbone, "--layer", "high", *more]
    said = forked.run(arguments, tmp_path, environment())
    assert said.returncode == 0, said.stderr
    assert f"{part.name} is damaged: 1 of its 20 rows are not used" in said.stderr
    assert not part.exists()
    assert featx("cache", "verify", "--json").json["damaged"] == []
    again = extract(images, options)
    assert counts(again) == (0, 20)
    np.testing.assert_array_equal(features_of(again), before)


def test_a_damaged_network_in_the_cache_is_found_and_made_again(
    options: FeaturesOptions, image_folder: Callable[..., Path], featx: Callable[..., Any], tiny_backbone: Path
) -> None:
    images = read(image_folder(10))
    done = extract(some(images, range(10)), options)
    graphs = done.store.graphs
    graph, network = graphs.converted(["high@avg"]), graphs.network(["high@avg"])
    flow.frozen_files(done, done.outputs)
    networks = len(list(graphs.verify()))
    flip(graph / "graph.bin")
    flip(network)
    found = json.loads(featx("cache", "verify", "--json", status=1).stdout)
    assert sorted(Path(one["part"]).name for one in found["damaged"]) == sorted([graph.name, network.name])
    again = extract(images, options)
    assert counts(again) == (10, 10)
    values = expected(tiny_backbone, images, "high").mean(axis=(1, 2))
    np.testing.assert_allclose(features_of(again), values, rtol=1e-3, atol=1e-3)
    assert featx("cache", "verify", "--json").json["damaged"] == []
    flip(network)
    featx("cache", "verify", "--repair")
    assert not network.exists()
    assert flow.frozen_files(again, again.outputs)["backbone.keras"] == network
    assert featx("cache", "verify", "--json").json["networks"] == networks


def repair(done: Extraction) -> tuple[int, int]:
    store = fresh(done.store)
    found = [damage for _, damage in store.verify() if damage is not None]
    mended = repair_store(store, found)
    assert all(damage is None for _, damage in store.verify())
    return mended


def test_repair_counts_rows_whose_image_is_gone(options: FeaturesOptions, image_folder: Callable[..., Path]) -> None:
    images = read(image_folder(4))
    done = extract(images, options)
    (part,) = done.store.directory.glob("high@avg/*.h5")
    spoil(part, [1, 5])
    Path(images.paths[5]).unlink()
    assert repair(done) == (1, 1)


def test_repair_of_one_table_leaves_the_others(options: FeaturesOptions, image_folder: Callable[..., Path]) -> None:
    images = read(image_folder(4))
    done = extract(images, replace(options, layer=("high@avg", "high@max", "low@grid:2", "low@flatten")))
    (part,) = done.store.directory.glob("low@flatten/*.h5")
    spoil(part, [0, 3])
    assert repair(done) == (2, 0)
    assert {name: (table.rows, len(table.parts)) for name, table in done.store.tables().items()} == {
        "high@avg": (8, 1),
        "high@max": (8, 1),
        "low@flatten": (8, 2),
        "low@grid:2": (8, 1),
    }


def test_an_unreadable_part_is_set_aside_and_computed_by_the_next_run(
    options: FeaturesOptions, image_folder: Callable[..., Path]
) -> None:
    images = read(image_folder(4))
    done = extract(images, options)
    before = features_of(done)
    (part,) = done.store.directory.glob("high@avg/*.h5")
    part.write_bytes(part.read_bytes()[:500])
    assert repair(done) == (0, 0)
    again = extract(images, options)
    assert counts(again) == (8, 0)
    np.testing.assert_array_equal(features_of(again), before)


def test_repair_refuses_to_mix_values_of_other_weights(
    options: FeaturesOptions, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    backbone = save_backbone(tmp_path / "mine.keras")
    done = extract(read(image_folder(3)), replace(options, backbone=str(backbone)))
    (part,) = done.store.directory.glob("high@avg/*.h5")
    spoil(part, [1])
    save_backbone(backbone, seed=9)
    with pytest.raises(StoreError, match="made by other versions or with other weights"):
        repair(done)
    assert done.store.tables()["high@avg"].rows == 5
    assert len([store for store in list_stores(Path(options.cache)) if store.tables()]) == 1


def test_prune_and_ls_on_the_command_line(
    options: FeaturesOptions, image_folder: Callable[..., Path], featx: Callable[..., Any]
) -> None:
    images = read(image_folder(4))
    for row in range(8):
        done = extract(some(images, [row]), options)
    before = features_of(extract(images, options))
    assert (featx("cache", "prune", "--json").json["parts_before"], len(done.store.tables())) == (8, 1)
    listed = {Path(one["store"]).name: one["layers"] for one in featx("cache", "ls", "--json").json["stores"]}
    assert listed[done.store.directory.name]["high@avg"]["parts"] == 1
    np.testing.assert_array_equal(features_of(extract(images, options)), before)


# --- disk and memory ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A disk of 2 MB; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_sentence_and_can_be_resumed(
    options: FeaturesOptions,
    image_folder: Callable[..., Path],
    small_disk: Path,
    warm_cache: Path,
    featx: Callable[..., Any],
) -> None:
    cache = small_disk / "cache"
    shutil.copytree(warm_cache, cache)
    folder = image_folder(150, classes=("cat", "dog", "owl"))
    write_images(folder / "cat", 1, seed=50)
    arguments = [folder, "--backbone", options.backbone, "--layer", "low@flatten", "--cache", cache]
    featx("extract", *arguments)
    for part in cache.glob("*/*@*/*.h5"):
        part.unlink()
    filler = small_disk / "filler"
    free = shutil.disk_usage(small_disk).free
    filler.write_bytes(b"x" * (free - 200_000))
    failed = featx("extract", *arguments, status=1)
    (line,) = failed.stderr.strip().splitlines()
    assert line.startswith("featx: No space left on the disk that holds")
    assert "run the same command again" in line
    assert not list(cache.rglob(".tmp-*"))
    filler.unlink()
    done = featx("extract", *arguments, "--json").json
    assert done["computed"] + done["reused"] == 451
    assert featx("cache", "verify", "--cache", cache, "--json").json["damaged"] == []


def test_a_known_lack_of_space_is_told_before_anything_is_computed(
    options: FeaturesOptions, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = read(image_folder(4))
    extract(some(images, range(2)), options)
    monkeypatch.setattr(planning, "_free_bytes", lambda _: 10)
    with pytest.raises(FeatxError, match=r"take .* GB and the disk .* --cache"):
        extract(images, options)


_MEASURE = """
import resource, sys
from featx.store import table
table.PART_BYTES = 400_000
from featx.cli import main
try:
    main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(options: FeaturesOptions, cache: Path, tmp_path: Path) -> None:
    peaks = []
    for name, count in (("few", 600), ("many", 6000)):
        random = np.random.default_rng(count)
        for number, pixels in enumerate(random.integers(0, 256, (count, SIDE * SIDE * 3), np.uint8)):
            path = tmp_path / name / "ab"[number % 2] / f"{number}.ppm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"P6 %d %d 255\n" % (SIDE, SIDE) + pixels.tobytes())
        command = ["extract", name, "--backbone", options.backbone, "--layer", "low@flatten", "--cache", "cache"]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, *command], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert f"{count:,} images: {count:,} computed" in done.stdout
        peaks.append(int(done.stderr.split()[-1]) * (1 if sys.platform == "darwin" else 1024))
    assert peaks[1] - peaks[0] < 25_000_000  # the features of the many alone are 5 MB in float16, 9 MB in float32


# --- provenance --------------------------------------------------------------------------------------------------


def test_parts_say_where_each_image_was_first_seen(options: FeaturesOptions, image_folder: Callable[..., Path]) -> None:
    images = read(image_folder(3))
    done = extract(images, options)
    with h5py.File(next(done.store.directory.glob("high@avg/*.h5")), "r") as file:
        for digest, path in zip(file["digest"][:], file["path"].asstr()[:], strict=True):
            assert path in images.paths
            assert digest_file(Path(path)) == digest.tobytes()


def test_a_run_with_nothing_to_do_imports_no_network(
    options: FeaturesOptions, image_folder: Callable[..., Path]
) -> None:
    folder = image_folder(3)
    extract(read(folder), options)
    code = (
        "import sys; from featx.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print([name for name in ('tensorflow', 'keras', 'openvino') if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "extract", str(folder), "--backbone", options.backbone, "--layer", "high"]
    done = subprocess.run(command, cwd=folder.parent, env=environment(), capture_output=True, text=True, check=True)
    assert "6 reused" in done.stdout
    assert done.stderr.strip() == "[]"


def test_an_interrupted_repair_keeps_the_damage_in_view(
    options: FeaturesOptions, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = extract(read(image_folder(4)), options)
    before = features_of(done)
    (part,) = done.store.directory.glob("high@avg/*.h5")
    status = part.stat()
    spoil(part, [1, 5])
    os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a disk would: the index takes it for sound

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("featx.extraction.repair.extract", interrupt)
        with pytest.raises(KeyboardInterrupt):
            repair(done)
    assert repair(done) == (2, 0)
    np.testing.assert_array_equal(features_of(extract(read(image_folder(4)), options)), before)
