"""Bundles: complete, portable, verified, and refused when anything is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab
from manifests import manifest_of

from featx.bundle.archive import unpack
from featx.bundle.bundle import Bundle, load_bundle, pack
from featx.bundle.manifest import SCHEMA
from featx.bundle.records import ScoreRecord
from featx.bundle.sealing import seal
from featx.dataset import TEST, TRAIN, VAL
from featx.errors import BundleError
from featx.heads import persist
from featx.heads.transform import Transform
from featx.inference.predict import AnswerOptions, predict
from featx.io.digests import digest_file, digest_json
from featx.io.files import write_json
from featx.metrics.probabilities import softmax
from featx.runs.choosing import find_bundle
from featx.runs.run import Run
from featx.selection.heads import choose_head
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.workflow.publish import publish_head

HEADS = ("logreg", "svm", "ridge", "knn", "rbf", "dense")


def reseal(directory: Path, **changes: Any) -> None:
    """Change `bundle.json` as someone would who knows how it is checked."""
    content = json.loads((directory / "bundle.json").read_text())
    del content["digest"]
    names = sorted({*content["files"], "calibration.npz"})
    content["files"] = {name: digest_file(directory / name).hex() for name in names if (directory / name).is_file()}
    content |= changes
    (directory / "bundle.json").write_text(json.dumps(content | {"digest": digest_json(content)}))


@pytest.fixture
def copied(lab: Lab, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lab.bundle("logreg").path, tmp_path / "copy"))


# --- what is in it -----------------------------------------------------------------------------------------------


def test_it_says_what_it_is_and_where_it_comes_from(lab: Lab) -> None:
    manifest = lab.bundle("logreg").manifest
    assert manifest.schema == SCHEMA
    assert manifest.classes == ("blue", "green", "red")
    assert manifest.output_names == ("last@avg",)
    assert manifest.key.as_json() == lab.prepared.extraction.store.key.as_json()
    assert manifest.backbone.name == "tiny"
    assert manifest.backbone.resize == "stretch"
    assert manifest.head.clf == "logreg"
    assert manifest.head.temperature > 0
    assert manifest.head.features == 16
    split = manifest.split
    assert split.digest == lab.prepared.sample.digest
    assert split.images == {"train": 30, "val": 15, "test": 15}
    assert split.classes["train"] == {"blue": 10, "green": 10, "red": 10}
    assert (split.declared, split.grouped) == (False, False)
    assert {"python", "featx", "keras", "scikit-learn"} <= manifest.versions.keys()
    for part in ("val", "test"):
        assert manifest.metrics_on(part).images == 15
        assert 0 <= manifest.metrics_on(part).get("accuracy") <= 1
    assert manifest.score == ScoreRecord("accuracy", manifest.metrics_on("val").get("accuracy"), "val")


def test_no_path_of_the_machine_is_in_it(lab: Lab) -> None:
    text = (lab.bundle("logreg").path / "bundle.json").read_text()
    assert str(lab.root) not in text


def test_every_other_file_has_its_checksum(lab: Lab) -> None:
    bundle = lab.bundle("dense")
    found = {path.relative_to(bundle.path).as_posix() for path in bundle.path.rglob("*") if path.is_file()}
    assert found - {"bundle.json"} == set(bundle.manifest.files)
    assert {"backbone.keras", "head.keras", "split.npz"} <= found


def test_the_split_is_kept_by_content(lab: Lab) -> None:
    split = lab.bundle("logreg").split()
    sample = lab.prepared.sample
    assert len(split) == 60
    assert sorted(split.values()) == sorted(sample.split.tolist())
    assert {list(split.values()).count(code) for code in (TRAIN, VAL, TEST)} == {30, 15}


# --- it predicts anywhere ----------------------------------------------------------------------------------------

_ALONE = """
import builtins, json, socket, sys
def refuse(*arguments, **more):
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from pathlib import Path
from featx.bundle.bundle import load_bundle
from featx.inference.predict import predict
bundle = load_bundle(Path(sys.argv[1]))
answers = [(one.label, one.confidence) for one in predict(bundle, sys.argv[2:])]
names = ("tensorflow", "keras", "sklearn", "skops", "pydantic", "h5py", "sqlite3", "featx.extraction.flow")
heavy = [name for name in names if name in sys.modules]
print(json.dumps({"answers": answers, "heavy": heavy}))
"""


def predict_alone(bundle: Path, images: list[str], cwd: Path) -> dict[str, Any]:
    """In a fresh process that has no network, elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(bundle), *images],
        cwd=cwd,
        env={**os.environ, "HOME": str(cwd), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["svm", "knn"])
def test_a_copy_predicts_in_a_fresh_process_without_cache_or_training_images(
    lab: Lab, tmp_path: Path, head: str
) -> None:
    bundle = lab.bundle(head)
    expected = [(one.label, one.confidence) for one in predict(bundle, lab.pictures[::12])]
    home = tmp_path / "elsewhere"
    images = [str(shutil.copy(path, tmp_path / f"{i}.png")) for i, path in enumerate(lab.pictures[::12])]
    shutil.copytree(bundle.path, home / "model")
    hidden = lab.root.with_name("hidden")
    lab.root.rename(hidden)  # neither the cache nor the backbone nor a training image is where it was
    try:
        found = predict_alone(home / "model", images, home)
    finally:
        hidden.rename(lab.root)
    assert [label for label, _ in found["answers"]] == [label for label, _ in expected]
    np.testing.assert_allclose([c for _, c in found["answers"]], [c for _, c in expected], atol=2e-6)
    if (bundle.path / "graph").is_dir():
        assert found["heavy"] == ([] if head == "svm" else ["sklearn", "skops"])


def test_a_packed_bundle_gives_the_same_predictions(lab: Lab, tmp_path: Path) -> None:
    for head in ("logreg", "rbf", "dense"):
        bundle, out = lab.bundle(head), tmp_path / f"{head}.featx"
        pack(bundle, out)
        assert zipfile.ZipFile(out).namelist()[0] == "bundle.json"
        assert {info.compress_type for info in zipfile.ZipFile(out).infolist()} == {zipfile.ZIP_STORED}
        packed = load_bundle(out)
        images = lab.pictures[::7]
        assert list(predict(packed, images, AnswerOptions(top=3))) == list(
            predict(bundle, images, AnswerOptions(top=3))
        )


def test_the_folder_of_a_packed_bundle_goes_with_it(lab: Lab, tmp_path: Path) -> None:
    pack(lab.bundle("logreg"), tmp_path / "model.featx")
    packed = load_bundle(tmp_path / "model.featx")
    folder = packed.path
    assert (folder / "bundle.json").exists()
    del packed
    assert not folder.exists()


def test_unpacking_gives_the_same_files(lab: Lab, tmp_path: Path) -> None:
    bundle = lab.bundle("svm")
    pack(bundle, tmp_path / "model.featx")
    unpack(tmp_path / "model.featx", tmp_path / "model")
    for name in ("bundle.json", *bundle.manifest.files):
        assert (tmp_path / "model" / name).read_bytes() == (bundle.path / name).read_bytes()
    with pytest.raises(BundleError, match="exists already"):
        unpack(tmp_path / "model.featx", tmp_path / "model")


@pytest.mark.parametrize("head", HEADS)
def test_a_saved_head_has_the_probabilities_of_the_fitted_one(lab: Lab, tmp_path: Path, head: str) -> None:
    prepared = lab.prepared
    sample, (output,) = prepared.sample, prepared.extraction.outputs
    stored = prepared.extraction.features(output, sample.rows)
    choice = choose_head(Problem(stored, sample.y, sample.split, sample.images.classes), SearchSettings(lab.head(head)))
    features = stored.asarray()
    expected = softmax(choice.head.logits(features), choice.temperature)
    file, kind, _ = persist.save_head(choice.head, choice.temperature, Transform(), tmp_path)
    found = softmax(persist.load_head(tmp_path, kind, choice.temperature)(features))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert file.suffix == {"knn": ".skops", "rbf": ".skops", "dense": ".keras"}.get(head, ".npz")
    # and the bundle, which was fitted with the same options, has the same head
    np.testing.assert_allclose(lab.bundle(head).probabilities(features), expected, atol=2e-5)


def test_features_of_another_width_are_refused(lab: Lab) -> None:
    with pytest.raises(BundleError, match="X has 9 features, but the head is expecting 16"):
        lab.bundle("logreg").probabilities(np.zeros((2, 9), np.float32))


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["backbone.keras", "head.npz", "split.npz", "graph/graph.bin", "graph/graph.xml"])
def test_a_flipped_bit_in_any_file_is_refused(copied: Path, name: str) -> None:
    path = copied / name
    if not path.exists():
        pytest.skip("this engine keeps no graph")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="is damaged or was changed"):
        load_bundle(copied)


def test_a_changed_description_is_refused(copied: Path) -> None:
    path = copied / "bundle.json"
    path.write_text(path.read_text().replace('"blue"', '"gold"'))
    with pytest.raises(BundleError, match="was changed after it was written"):
        load_bundle(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "x"}', '{"schema": null}'])
def test_a_description_that_is_none_is_refused(copied: Path, text: str) -> None:
    (copied / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match="is damaged"):
        load_bundle(copied)


def test_a_description_that_lacks_something_is_refused(copied: Path) -> None:
    content = {"schema": 1, "classes": ["a", "b"]}
    write_json(copied / "bundle.json", content | {"digest": digest_json(content)})
    with pytest.raises(
        BundleError, match=r"says nothing of split, outputs, backbone, head, score, files\. Get the bundle"
    ):
        load_bundle(copied)


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "head.npz").unlink()
    with pytest.raises(BundleError, match=r"lacks head\.npz"):
        load_bundle(copied)


def test_a_newer_schema_is_refused_with_what_to_do(copied: Path) -> None:
    reseal(copied, schema=SCHEMA + 1)
    with pytest.raises(BundleError, match=r"schema 2 and this featx reads up to 1\. Update it: pip install"):
        load_bundle(copied)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "..\\x"])
def test_a_name_outside_of_the_bundle_is_refused(copied: Path, name: str) -> None:
    reseal(copied, files={name: "00"})
    with pytest.raises(BundleError, match="outside"):
        load_bundle(copied)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        load_bundle(tmp_path)
    (tmp_path / "text.featx").write_text("not a zip")
    with pytest.raises(BundleError, match=r"not a complete \.featx file"):
        load_bundle(tmp_path / "text.featx")
    with zipfile.ZipFile(tmp_path / "other.featx", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        load_bundle(tmp_path / "other.featx")


def test_a_truncated_file_is_refused_wherever_it_ends(lab: Lab, tmp_path: Path) -> None:
    pack(lab.bundle("logreg"), tmp_path / "whole.featx")
    content = (tmp_path / "whole.featx").read_bytes()
    for share in (0, 0.01, 0.5, 0.99):
        path = tmp_path / "part.featx"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BundleError, match=r"not a complete \.featx file"):
            load_bundle(path)
        with pytest.raises(BundleError):
            unpack(path, tmp_path / "unpacked")
        assert not (tmp_path / "unpacked").exists()


def test_a_flipped_bit_in_a_packed_bundle_is_refused(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "model.featx"
    pack(lab.bundle("logreg"), path)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=20):
        content = bytearray(whole)
        content[place] ^= 16
        path.write_bytes(content)
        try:
            found = load_bundle(path)
        except BundleError:
            continue
        # a bit that nothing depends on, such as a time stamp of the zip: the content is as it was
        assert found.manifest == lab.bundle("logreg").manifest


def zip_slip(lab: Lab, path: Path, name: str) -> None:
    pack(lab.bundle("logreg"), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "evil")


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "graph/../../evil.txt", "..\\evil.txt"])
def test_a_packed_bundle_writes_nothing_outside(lab: Lab, tmp_path: Path, name: str) -> None:
    zip_slip(lab, tmp_path / "evil.featx", name)
    with pytest.raises(BundleError, match="outside of it"):
        unpack(tmp_path / "evil.featx", tmp_path / "a" / "b")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "evil.featx"]


def test_a_file_that_is_not_declared_is_not_unpacked(lab: Lab, tmp_path: Path) -> None:
    zip_slip(lab, tmp_path / "more.featx", "more.txt")
    unpack(tmp_path / "more.featx", tmp_path / "model")
    assert not (tmp_path / "model" / "more.txt").exists()


def test_an_encrypted_zip_is_refused(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "model.featx"
    pack(lab.bundle("logreg"), path)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says so, in both headers
        start = content.find(mark)
        content[start + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"not a complete \.featx file"):
        load_bundle(path)


def test_only_stored_members_are_read(lab: Lab, tmp_path: Path) -> None:
    pack(lab.bundle("logreg"), tmp_path / "model.featx")
    with zipfile.ZipFile(tmp_path / "model.featx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for bomb in ("bundle.json", "more.txt"):
        with zipfile.ZipFile(tmp_path / "bomb.featx", "w") as archive:
            for name, content in (members | {bomb: bytes(50_000_000)}).items():
                archive.writestr(name, content, zipfile.ZIP_DEFLATED if name == bomb else zipfile.ZIP_STORED)
        tracemalloc.start()
        with pytest.raises(BundleError, match=f"{bomb} in it is compressed, which featx never does"):
            load_bundle(tmp_path / "bomb.featx")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()


def test_a_manifest_of_many_megabytes_is_not_read(copied: Path) -> None:
    with open(copied / "bundle.json", "wb") as file:
        file.truncate(70_000_000)
    with pytest.raises(BundleError, match=r"its bundle\.json has .* MB\. Do not use it"):
        load_bundle(copied)


def test_links_are_not_packed(copied: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    shutil.copy(copied / "head.npz", secret)
    (copied / "head.npz").unlink()
    (copied / "head.npz").symlink_to(secret)
    with pytest.raises(BundleError, match=r"head\.npz is a link, and links are not packed"):
        pack(load_bundle(copied), tmp_path / "model.featx")
    assert not (tmp_path / "model.featx").exists()


def write_head(folder: Path, kernel: Any, bias: Any, save: Any = np.savez) -> None:
    save(folder / "head.npz", kernel=kernel, bias=bias)


def without_graph(folder: Path) -> None:
    (folder / "graph" / "graph.bin").unlink()


def write_graph_size(folder: Path) -> None:
    content = json.loads((folder / "graph" / "graph.json").read_text())
    for name in ("files", "digest"):
        content.pop(name)
    (folder / "graph" / "graph.json").write_text(json.dumps(content | {"input_size": [8, 8]}))


def write_graph_outputs(folder: Path) -> None:
    content = json.loads((folder / "graph" / "graph.json").read_text())
    for name in ("files", "digest"):
        content.pop(name)
    (folder / "graph" / "graph.json").write_text(json.dumps(content | {"outputs": ["none"]}))


WIDTH = 16
NAN = np.full((WIDTH, 3), np.nan, np.float32)
HOSTILE: dict[str, Callable[[Path], object]] = {
    "too few features": lambda folder: write_head(folder, np.zeros((5, 3)), np.zeros(3)),
    "too few classes": lambda folder: write_head(folder, np.zeros((WIDTH, 2)), np.zeros(2)),
    "a bias of another length": lambda folder: write_head(folder, np.zeros((WIDTH, 3)), np.zeros(7)),
    "a kernel without columns": lambda folder: write_head(folder, np.zeros(WIDTH), np.zeros(3)),
    "NaN": lambda folder: write_head(folder, NAN, np.zeros(3)),
    "text": lambda folder: write_head(folder, np.array("kernel"), np.zeros(3)),
    "complex numbers": lambda folder: write_head(folder, np.full((WIDTH, 3), 1j), np.zeros(3)),
    "compressed arrays": lambda folder: write_head(folder, np.zeros((WIDTH, 3)), np.zeros(3), np.savez_compressed),
    "no arrays": lambda folder: (folder / "head.npz").write_bytes(b""),
    "a split of other widths": lambda folder: np.savez(folder / "split.npz", digest=np.zeros((2, 3)), split=[0, 1]),
    "a split of text": lambda folder: np.savez(folder / "split.npz", digest="x", split="y"),
    "a reference of another width": lambda folder: np.savez(folder / "reference.npz", rows=np.ones((4, 5)), scale=1.0),
    "a reference without a scale": lambda folder: np.savez(
        folder / "reference.npz", rows=np.ones((4, WIDTH)), scale=NAN
    ),
    "no graph": without_graph,
    "a graph of another size": write_graph_size,
    "a graph without outputs": write_graph_outputs,
    "a graph that is none": lambda folder: (folder / "graph" / "graph.xml").write_text("<net/>"),
    "curves of other classes": lambda folder: np.savez(
        folder / "calibration.npz", kind="isotonic", several=False, x=np.arange(2), y=np.arange(2), lengths=[2]
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_resealed_bundle_whose_files_do_not_fit_is_at_fault(copied: Path, name: str) -> None:
    assert load_bundle(copied).manifest.head.features == WIDTH
    load_bundle(copied).check()
    HOSTILE[name](copied)
    reseal(copied, notes=[])
    bundle = load_bundle(copied)
    with pytest.raises(BundleError, match=r"Get (it|the bundle) again from") as caught:
        bundle.check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", HEADS)
def test_a_bundle_that_is_whole_passes_the_check(lab: Lab, head: str) -> None:
    bundle = lab.bundle(head)
    before = {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()}
    bundle.check()
    assert before == {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()}


def test_a_bundle_with_an_unknown_metric_stops_nobody(tmp_path: Path) -> None:
    make(tmp_path / "run", 1, 0.8)
    make(tmp_path / "run", 2, 0.9, metric="nonsense")
    assert len(Run(tmp_path / "run").bundles()) == 2
    assert Run(tmp_path / "run").best().path.name == "2-svm"  # the newest one's metric


def test_a_network_of_another_width_is_at_fault(copied: Path) -> None:
    head = json.loads((copied / "bundle.json").read_text())["head"]
    write_head(copied, np.zeros((WIDTH + 1, 3)), np.zeros(3))
    reseal(copied, head=head | {"features": WIDTH + 1})
    with pytest.raises(BundleError, match="is at fault: its network gives 16 features and its head takes 17"):
        load_bundle(copied).check()


def test_a_manifest_that_is_nested_too_deeply_is_refused(copied: Path) -> None:
    deep: object = 1
    for _ in range(900):  # which JSON can hold and be digested, and what goes through its levels cannot
        deep = [deep]
    reseal(copied, more=deep)
    with pytest.raises(BundleError, match="is damaged: it is nested too deeply"):
        load_bundle(copied)


@pytest.mark.parametrize(
    "words", ["failed to map segment from shared object", "std::bad_alloc", "Resource temporarily unavailable"]
)
def test_a_limit_of_the_machine_is_not_the_fault_of_a_bundle(
    copied: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"Exception from src/inference/src/cpp/core.cpp:117:\n{words}")

    bundle = load_bundle(copied)
    monkeypatch.setattr(type(bundle.engine), "infer", fail)
    with pytest.raises(RuntimeError, match=words):
        bundle.check()


class Trojan:
    """Not one of scikit-learn's types: loading it would run code of whoever made the file."""

    classes_ = np.array([0, 1, 2])

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.zeros((len(x), 3))


def test_types_that_are_not_trusted_are_refused(lab: Lab, tmp_path: Path) -> None:
    import skops.io
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    for evil in (Trojan(), make_pipeline(FunctionTransformer(os.system), FunctionTransformer())):
        directory = Path(shutil.copytree(lab.bundle("knn").path, tmp_path / type(evil).__name__))
        skops.io.dump(evil, directory / "head.skops")
        reseal(directory, notes=[])
        loaded = load_bundle(directory)  # every checksum holds: who makes a file can make its checksum
        with pytest.raises(BundleError, match=r"holds types that are not trusted \(.*\)\. Do not use this bundle"):
            _ = loaded.head


def test_code_in_a_keras_head_is_refused(lab: Lab, tmp_path: Path) -> None:
    import keras

    directory = Path(shutil.copytree(lab.bundle("dense").path, tmp_path / "model"))
    model = keras.Sequential([keras.Input((16,)), keras.layers.Lambda(lambda x: x[:, :3])])
    model.save(directory / "head.keras")
    reseal(directory, notes=[])
    with pytest.raises(BundleError, match="cannot be loaded as a Keras model"):
        _ = load_bundle(directory).head


def test_a_pickle_in_a_linear_head_is_refused(lab: Lab, copied: Path) -> None:
    np.savez(copied / "head.npz", kernel=np.array([Trojan()], dtype=object), bias=np.zeros(3))
    reseal(copied, notes=[])
    with pytest.raises(BundleError, match="is not a linear head"):
        _ = load_bundle(copied).head


def test_a_head_of_an_unknown_kind_is_refused(copied: Path) -> None:
    head = json.loads((copied / "bundle.json").read_text())["head"]
    reseal(copied, head=head | {"kind": "forest"})
    with pytest.raises(
        BundleError, match=r"head\.kind must be one of linear, estimator, network, pickle, got 'forest'"
    ):
        load_bundle(copied)


# --- which one ---------------------------------------------------------------------------------------------------


def make(run: Path, number: int, value: float | None, split: str = "s", metric: str = "accuracy") -> None:
    manifest = manifest_of(split={"digest": split}, score={"metric": metric, "value": value})
    directory = run / f"{number}-svm"
    directory.mkdir(parents=True)
    seal(directory, manifest)


@pytest.mark.parametrize(
    ("made", "best"),
    [
        ([(1, 0.8), (2, 0.9), (3, 0.7)], 2),
        ([(1, 0.9), (2, 0.9)], 1),  # a tie goes to the older
        ([(2, 0.8), (10, 0.9), (9, 0.9)], 9),  # numbers, not text
        ([(1, 0.99, "old"), (2, 0.7), (3, 0.6)], 2),  # another split cannot be compared
        ([(1, 0.4, "s", "log_loss"), (2, 0.3, "s", "log_loss")], 2),  # less is better
        ([(1, 0.99), (2, 0.3, "s", "log_loss")], 2),  # another metric cannot be compared
        ([(1, None), (2, 0.5)], 2),
        ([(1, None), (2, None)], 2),  # nothing to compare: the newest
    ],
)
def test_the_best_bundle(tmp_path: Path, made: list[tuple[Any, ...]], best: int) -> None:
    for one in made:
        make(tmp_path / "runs" / "x", *one)
    assert Run(tmp_path / "runs" / "x").best().path == tmp_path / "runs" / "x" / f"{best}-svm"


def test_what_is_no_bundle_of_the_run_is_left_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make(run, 1, 0.8)
    shutil.copytree(run / "1-svm", run / ".tmp-12-ab-2-svm")  # a killed run
    shutil.copytree(run / "1-svm", run / "my-model")
    make(run, 3, 0.9)
    (run / "3-svm" / "bundle.json").write_text("{")
    assert [bundle.path.name for bundle in Run(run).bundles()] == ["1-svm"]
    assert Run(run).next_directory("knn") == run / "4-knn"


def test_without_a_bundle_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"No bundle in .*Make one: featx fit-head"):
        find_bundle(None, tmp_path / "runs", "default")
    with pytest.raises(BundleError, match="No bundle at elsewhere"):
        find_bundle("elsewhere", tmp_path / "runs", "default")


def test_a_bundle_is_found_by_run_by_name_and_when_it_is_the_only_one(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make(runs / "one", 1, 0.8)
    assert find_bundle(None, runs, "default") == runs / "one" / "1-svm"
    make(runs / "two", 1, 0.8)
    assert find_bundle(None, runs, "two") == runs / "two" / "1-svm"
    assert find_bundle(str(runs / "one"), runs, "two") == runs / "one" / "1-svm"
    assert find_bundle(str(runs / "one" / "1-svm"), runs, "two") == runs / "one" / "1-svm"
    with pytest.raises(BundleError, match=r"one, two"):
        find_bundle(None, runs, "three", only=True)


def test_bundles_are_numbered_and_go_to_the_folder_of_the_run(lab: Lab, tmp_path: Path) -> None:
    prepared = replace(lab.prepared, run=Run(tmp_path / "run"))
    first, second = publish_head(prepared), publish_head(prepared)
    assert (first.path.name, second.path.name) == ("1-logreg", "2-logreg")
    assert first.manifest.fingerprint == second.manifest.fingerprint
    assert isinstance(first, Bundle)
    assert Run.of(lab.pipeline).name == "lab"


@pytest.mark.parametrize("kind", [np.complex64, np.bool_, np.int8, "U12"])
def test_numbers_of_another_type_are_not_made_into_weights(kind: Any, copied: Path) -> None:
    with np.load(copied / "head.npz") as held:
        np.savez(copied / "head.npz", **{name: held[name].astype(kind) for name in held.files})
    reseal(copied, notes=[])
    with pytest.raises(
        BundleError, match=r"head\.npz is not a linear head: kernel in it is of .* Get the bundle again"
    ):
        load_bundle(copied).check()


def test_a_manifest_that_is_no_file_is_not_read(copied: Path) -> None:
    (copied / "bundle.json").unlink()
    (copied / "bundle.json").symlink_to("/dev/zero")  # never ends
    with pytest.raises(BundleError, match=r"bundle\.json is not a file, but a device"):
        load_bundle(copied)
    (copied / "bundle.json").unlink()
    os.mkfifo(copied / "bundle.json")  # never begins
    with pytest.raises(BundleError, match=r"bundle\.json is not a file, but a device"):
        load_bundle(copied)


@pytest.mark.parametrize("schema", [1e308, True, 10**400, "1"])
def test_a_schema_of_any_size_is_one_short_sentence(schema: Any, copied: Path) -> None:
    reseal(copied, schema=schema)
    with pytest.raises(BundleError, match=r"schema") as refused:
        load_bundle(copied)
    assert len(str(refused.value)) < 250 + len(str(copied))


def test_a_size_that_its_graph_does_not_take_asks_for_no_memory(copied: Path) -> None:
    backbone = json.loads((copied / "bundle.json").read_text())["backbone"]
    reseal(copied, backbone=backbone | {"input_size": [65_535, 65_535]})
    with pytest.raises(BundleError, match="at fault: its graph takes images of another size"):
        load_bundle(copied).check()
