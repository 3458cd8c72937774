"""Exports predict what the bundle predicts, in their own runtimes and without featx; what does not is never kept."""

from __future__ import annotations

import csv
import errno
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import prepare
from conftest import environment
from fitted import Lab, call, make_lab
from forked import Forked

from featx.bundle.bundle import Bundle
from featx.config import FeaturesOptions, HeadOptions, Pipeline
from featx.engines.freeze import freeze, freeze_for_others, without_xla
from featx.errors import DataError, ExportError, StoreError, UsageError
from featx.export import check, formats
from featx.export import openvino as openvino_format
from featx.export.flow import FORMATS, ExportOptions, export
from featx.export.network import OUTPUT, build_network
from featx.heads.calibration import fit_calibration
from featx.images.decoder import load_image
from featx.runs.run import Run
from featx.workflow.publish import publish_finetuned, publish_head

KINDS = ("logreg", "dense", "sigmoid", "isotonic", "several", "labels", "label_curves", "finetuned")


@pytest.fixture(autouse=True)
def no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are measured with as few calls as can be."""
    monkeypatch.setattr("featx.inference.speed._LEAST_SECONDS", 0.0)
    monkeypatch.setattr("featx.inference.speed._LEAST_CALLS", 1)


def made(lab: Lab, kind: str) -> Bundle:
    """A bundle of this kind, made once."""
    name = f"export-{kind}"
    if name not in lab.bundles:
        lab.bundles[name] = _make(lab, kind, replace(lab.pipeline, report=replace(lab.pipeline.report, name=name)))
    return lab.bundles[name]


def _make(lab: Lab, kind: str, pipeline: Pipeline) -> Bundle:
    head = HeadOptions(strength=0.01)
    if kind in {"logreg", "dense", "knn", "rbf"}:
        return lab.bundle(kind)
    if kind == "finetuned":
        features = replace(pipeline.features, engine="tensorflow")
        options = replace(pipeline.finetune, epochs=1)
        tuned = replace(pipeline, features=features, finetune=options)
        return publish_finetuned(
            lab.bundle("dense"), replace(lab.prepared, run=Run(lab.root / "runs" / "tuned"), pipeline=tuned)
        )
    if kind == "several":
        features = replace(pipeline.features, layer=("body@grid:2", "last@max"))
        head = replace(head, combine="all", normalize="l2", calibrate="sigmoid")
        return publish_head(prepare(replace(pipeline, features=features, head=head)))
    if kind in {"labels", "label_curves"}:
        path = lab.root / "labels.csv"
        with open(path, "w", newline="") as file:
            rows = [
                (one, f"{Path(one).parent.name}|{'even' if i % 2 else 'odd'}") for i, one in enumerate(lab.pictures)
            ]
            csv.writer(file).writerows([("path", "label"), *rows])
        data = replace(pipeline.data, path=str(path), label_separator="|")
        head = replace(head, calibrate="isotonic" if kind == "label_curves" else "temperature")
        return publish_head(prepare(replace(pipeline, data=data, head=head)))
    return publish_head(prepare(replace(pipeline, head=replace(head, calibrate=kind))))


def pictures(lab: Lab, bundle: Bundle, count: int = 12) -> np.ndarray:
    resize = bundle.manifest.backbone.resize
    return np.stack([load_image(path, bundle.input_size, resize) for path in lab.pictures[:: 60 // count]])


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --- the network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_gives_the_probabilities_of_the_bundle(lab: Lab, kind: str) -> None:
    """Against the bundle's own NumPy on what plain Keras makes of the same images."""
    import keras

    bundle = made(lab, kind)
    images = pictures(lab, bundle).astype(np.float32)
    found = np.asarray(build_network(bundle)(images, training=False)[OUTPUT])
    maps = keras.saving.load_model(bundle.path / "backbone.keras", compile=False)(images)
    features = [np.asarray(maps[name]).reshape(len(images), -1) for name in bundle.manifest.output_names]
    expected = bundle.probabilities(np.concatenate(features, axis=1))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert bundle.multilabel == kind.startswith("label")
    if not bundle.multilabel:
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["temperature", "sigmoid", "isotonic"])
@pytest.mark.parametrize("shape", [(300, 2), (300, 4)])
@pytest.mark.parametrize("several", [False, True])
def test_every_calibration_can_be_put_in_the_graph(kind: Any, shape: tuple[int, int], several: bool) -> None:
    import keras

    from featx.export.network import calibrated

    random = np.random.default_rng(3)
    logits = (random.standard_normal(shape) * 4).astype(np.float32)
    noisy = logits + random.standard_normal(shape) * 3
    calibration = fit_calibration(kind, logits, noisy > 0 if several else noisy.argmax(axis=1))
    scaled = replace(calibration, temperature=1.0)  # the temperature is folded into the head
    tried = np.concatenate([logits, logits * 30, random.standard_normal(shape).astype(np.float32)])
    inputs = keras.Input((shape[1],))
    found = np.asarray(keras.Model(inputs, calibrated(scaled, inputs))(tried))
    expected = scaled.probabilities(tried)
    assert calibration.kind == kind
    # at a step of an isotonic curve the rounding of float32 decides: such rows are few
    wrong = np.abs(found - expected).max(axis=1) > 1e-5
    assert wrong.mean() <= (0.02 if kind == "isotonic" else 0)


# --- every format ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Where a bundle was exported in every format, as float32, and what the command says of it."""
    lab, folder = make_lab(tmp_path_factory.getbasetemp() / "lab"), tmp_path_factory.mktemp("whole")
    chosen = [part for name in FORMATS for part in ("--format", name)]
    data = ("--data", lab.root / "pictures")
    done = call("export", made(lab, "dense").path, *chosen, *data, "--json", cwd=folder)
    assert done.status == 0, done.err
    return folder, done.json


def test_all_formats_at_once_from_the_command_line(lab: Lab, whole: tuple[Path, dict[str, Any]]) -> None:
    bundle = made(lab, "dense")
    place, found = whole
    assert found["images"] == 60
    assert found["source"] == "pictures"
    assert [one["format"] for one in found["exports"]] == list(FORMATS)
    out = place / f"dense-{bundle.path.name}-export"
    assert left_in(out) == sorted(f"{name}-float32" for name in FORMATS)
    for one in found["exports"]:
        folder = place / one["path"]
        about = json.loads((folder / "model.json").read_text())
        assert (folder / "classes.txt").read_text().split() == about["classes"] == ["blue", "green", "red"]
        assert about["input"]["shape"] == [None, 32, 32, 3]
        assert list(about["coverage"]) == ["0.8", "0.9"]  # 15 val images are too few for more
        inside = bundle.coverage.rule(0.8, per_class=False).sets(bundle.coverage.probabilities)
        assert np.array_equal(inside, bundle.coverage.probabilities >= about["coverage"]["0.8"] - 1e-6)
        assert about["resize"]["rule"] == "stretch"
        assert one["comparison"]["agreement"] == 1
        assert one["comparison"]["largest"] < 1e-3
        model = folder / about["file"]
        files = [model, *folder.glob("model.bin")] if model.is_file() else [p for p in model.rglob("*") if p.is_file()]
        assert one["bytes"] == sum(path.stat().st_size for path in files)
        assert set(one["images_per_second"]) == {"1", "8"}
    assert found["own"]["engine"] in {"openvino", "tensorflow"}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("labels", list(FORMATS)),
        ("several", ["onnx", "openvino"]),
        ("finetuned", ["onnx", "litert"]),
        ("isotonic", ["onnx", "litert"]),
    ],
)
def test_every_kind_of_bundle_can_be_exported(lab: Lab, tmp_path: Path, kind: str, names: list[str]) -> None:
    bundle = made(lab, kind)
    done = export(bundle, tmp_path / "out", ExportOptions(names, data=str(lab.root / "pictures")))
    assert not done.refused
    about = json.loads((tmp_path / "out" / "onnx-float32" / "model.json").read_text())
    assert about["calibration"] == bundle.calibration.kind
    assert about["multilabel"] == bundle.multilabel
    if bundle.multilabel:
        assert list(about["thresholds"].values()) == bundle.thresholds.tolist()
    # read by the runtime itself, not by our reader
    import onnxruntime

    images = pictures(lab, bundle)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "onnx-float32" / "model.onnx")
    found = session.run(None, {"images": images})[0]
    np.testing.assert_allclose(found, bundle.probabilities(bundle.features(images)), atol=1e-3)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_grouped_convolutions_and_gelu(tmp_path: Path, name: str) -> None:
    """Keras has XLA compile the first, and makes the second of an operation that ONNX does not have."""
    import keras

    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(12, 3)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Conv2D(12, 3, groups=12, padding="same")(x)
    x = keras.layers.Dense(8, activation="gelu")(keras.layers.LayerNormalization()(x))
    x = keras.layers.Conv2D(8, 3, groups=4, strides=2)(x)
    network = keras.Model(inputs, {OUTPUT: keras.layers.GlobalAveragePooling2D()(x)})
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    row = FORMATS[name]
    row.convert(network, tmp_path / row.file, "float32", images)
    run = row.load(tmp_path / row.file)
    expected = np.asarray(network(images.astype(np.float32))[OUTPUT])
    assert expected.std(axis=0).min() > 1e-4
    np.testing.assert_allclose(run(images), expected, atol=1e-5)
    np.testing.assert_allclose(run(images[:1]), expected[:1], atol=1e-5)


def test_no_calls_are_left_for_other_runtimes() -> None:
    """Whether they are inlined as they are traced, or, where something traced them before, in the graph."""
    import keras

    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, groups=3)(inputs)
    network = keras.Model(inputs, {OUTPUT: keras.layers.GlobalAveragePooling2D()(x)})
    traced = freeze(network)
    assert any("PartitionedCall" in op.type for op in traced.function.graph.get_operations())
    later, at_once = without_xla(traced), freeze_for_others(network)
    assert later.outputs == at_once.outputs == traced.outputs
    assert not later.function.captured_inputs
    assert not at_once.function.captured_inputs
    passing = {"Const", "Identity", "NoOp"}
    kinds = [[op.type for op in one.function.graph.get_operations()] for one in (later, at_once)]
    computing = [sorted(kind for kind in some if kind not in passing) for some in kinds]
    assert computing[0] == computing[1]
    assert computing[0].count("Conv2D") == 1
    assert not any("PartitionedCall" in kind for kind in computing[0])


@pytest.mark.parametrize("name", ["onnx", "openvino", "litert"])
def test_float16_is_smaller_and_predicts_the_same(
    lab: Lab, tmp_path: Path, whole: tuple[Path, dict[str, Any]], name: str
) -> None:
    bundle, data = made(lab, "dense"), str(lab.root / "pictures")
    (size,) = [one["bytes"] for one in whole[1]["exports"] if one["format"] == name]
    short = export(bundle, tmp_path / "out", ExportOptions([name], "float16", data=data)).results[0]
    assert short.reason is None
    assert short.comparison is not None
    assert 0 < short.comparison.largest <= 0.02  # type: ignore[operator]
    assert short.bytes < size  # type: ignore[operator]


@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_int8_measures_its_ranges_on_images(lab: Lab, tmp_path: Path, name: str) -> None:
    bundle = made(lab, "logreg")
    done = export(bundle, tmp_path / "out", ExportOptions([name], "int8", data=str(lab.root / "pictures")))
    assert len(done.images.images) == 20
    assert len(done.images.measured) == 40
    assert done.results[0].reason is None
    assert done.results[0].comparison.agreement >= 0.9  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "layer"),
    [("EfficientNetB0", "block3b_add"), ("ConvNeXtTiny", "convnext_tiny_downsampling_block_0")],
)
def test_large_networks_as_onnx(lab: Lab, tmp_path: Path, backbone: str, layer: str) -> None:
    """Up to where all kinds of their layers are in: activations, kernel sizes, strides and paddings."""
    cache = lab.pipeline.features.cache
    features = FeaturesOptions(backbone=backbone, weights="random", layer=(layer,), input_size=64, cache=cache)
    report = replace(lab.pipeline.report, runs=str(tmp_path), name="large")
    pipeline = replace(lab.pipeline, features=features, report=report, head=HeadOptions(strength=0.01))
    bundle = publish_head(prepare(pipeline))
    own = bundle.probabilities(bundle.features(pictures(lab, bundle)))
    assert own.std(axis=0).min() > 1e-3, "the images have to tell networks apart"
    done = export(bundle, tmp_path / "out", ExportOptions(["onnx"], data=str(lab.root / "pictures")))
    assert not done.refused


# --- what is refused ---------------------------------------------------------------------------------------------


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter that writes wrong weights, without an error."""
    right = openvino_format.convert

    def convert(network: Any, path: Path, precision: str, images: np.ndarray) -> None:
        head = network.get_layer("featx_head")
        kept = head.get_weights()
        head.set_weights([-kept[0], kept[1]])
        right(network, path, precision, images)
        head.set_weights(kept)

    monkeypatch.setattr(openvino_format, "convert", convert)


def test_a_broken_export_is_reported_and_leaves_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    bundle = made(lab, "logreg")
    command = ("export", bundle.path, "--format", "openvino", "--format", "savedmodel", "--out", "out", "--json")
    done = call(*command, cwd=tmp_path)
    assert done.status == 1
    assert left_in(tmp_path / "out") == ["savedmodel-float32"]
    broken, whole = done.json["exports"]
    assert broken["path"] is None
    assert broken["comparison"]["largest"] > 0.1
    assert whole["reason"] is None
    assert re.search(r"openvino float32 was not kept: its probabilities differ by up to 0\.\d+ on 26", done.sentence)
    assert "Try --format onnx" in done.sentence


def test_a_broken_export_does_not_replace_a_good_one(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, folder = made(lab, "logreg"), tmp_path / "openvino-float32"
    export(bundle, tmp_path, ExportOptions(["openvino"]))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoil(monkeypatch)
    assert export(bundle, tmp_path, ExportOptions(["openvino"], force=True)).refused
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_converter_that_fails_is_one_sentence(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(*_: Any) -> None:
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr(openvino_format, "convert", convert)
    done = call("export", made(lab, "logreg").path, "--format", "openvino", "--out", "out", cwd=tmp_path)
    assert done.status == 1
    assert "(RuntimeError: no such operation)" in done.sentence
    assert left_in(tmp_path / "out") == []


def test_no_finite_number_is_refused() -> None:
    own = np.array([[0.2, 0.8], [0.5, 0.5]])
    for found in (np.full((2, 2), np.nan), own[:, :1], own[:1]):
        comparison = check.compare(own, found, 1e-3, None)
        assert comparison.largest is None
        assert check.judge(comparison, "int8", 1e-3, steps=False) is not None


def test_the_answer_of_several_labels_is_all_of_them() -> None:
    own = np.array([[0.2, 0.8, 0.9], [0.6, 0.3, 0.1]])
    found = own + np.array([[0.0, 0.0, 0.0], [0.0, 0.3, 0.0]])
    comparison = check.compare(own, found, 1e-3, np.array([0.5, 0.5, 0.5]))
    assert (comparison.agreement, comparison.within) == (0.5, 0.5)
    assert comparison.largest == pytest.approx(0.3)
    assert check.judge(comparison, "float32", 1e-3, steps=True) is not None


@pytest.mark.parametrize("kind", ["knn", "rbf"])
def test_heads_that_are_no_network_are_refused(lab: Lab, tmp_path: Path, kind: str) -> None:
    done = call("export", made(lab, kind).path, "--format", "openvino", "--out", "out", cwd=tmp_path)
    assert done.status == 1
    assert "featx fit-head --clf logreg" in done.sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"formats": ["openvino"], "precision": "int8"}, "float32 or float16, not int8.*--format onnx or litert"),
        ({"formats": ["savedmodel"], "precision": "float16"}, "written in float32, not float16"),
        ({"formats": ["onnx"], "precision": "int8"}, "--data"),
        ({"formats": ["coreml"]}, "savedmodel, onnx, openvino, litert, keras"),
        ({"formats": []}, "--format onnx"),
    ],
)
def test_what_a_format_does_not_have(lab: Lab, tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        export(made(lab, "logreg"), tmp_path / "out", ExportOptions(**arguments))
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_installed", lambda package: package != "tf2onnx")
    with pytest.raises(ExportError, match="needs tf2onnx, which is not installed: pip install tf2onnx"):
        export(made(lab, "logreg"), tmp_path / "out", ExportOptions(["onnx"]))


def test_an_export_is_replaced_only_when_asked(lab: Lab, tmp_path: Path) -> None:
    bundle = made(lab, "logreg")
    export(bundle, tmp_path, ExportOptions(["openvino"]))
    with pytest.raises(ExportError, match="--force"):
        export(bundle, tmp_path, ExportOptions(["openvino"]))
    export(made(lab, "dense"), tmp_path, ExportOptions(["openvino"], force=True))
    about = json.loads((tmp_path / "openvino-float32" / "model.json").read_text())
    assert about["bundle"]["name"] == made(lab, "dense").path.name
    assert left_in(tmp_path) == ["openvino-float32"]


def test_what_is_no_export_is_never_replaced(lab: Lab, tmp_path: Path) -> None:
    kept = tmp_path / "openvino-float32" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("three years of work")
    with pytest.raises(ExportError, match="not an export of featx"):
        export(made(lab, "logreg"), tmp_path, ExportOptions(["openvino"], force=True))
    assert kept.read_text() == "three years of work"


# --- unkind surroundings -----------------------------------------------------------------------------------------


def test_bad_images_are_left_out_and_named(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, path in enumerate(lab.pictures[:3]):
        (folder / f"{number}.png").write_bytes(Path(path).read_bytes())
    (folder / "3.png").write_bytes(b"not an image")
    done = call("export", made(lab, "logreg").path, "--format", "openvino", "--data", folder, "--json", cwd=tmp_path)
    assert done.status == 0
    assert done.json["images"] == 3
    assert [Path(one["path"]).name for one in done.json["bad"]] == ["3.png"]
    for path in folder.glob("[012].png"):
        path.write_bytes(b"neither")
    with pytest.raises(DataError, match="None of the images"):
        export(made(lab, "logreg"), tmp_path / "out", ExportOptions(["openvino"], data=str(folder)))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed")])
def test_a_full_disk_is_one_sentence(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import featx.export.flow as module

    def convert(network: Any, path: Path, *_: Any) -> None:
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(openvino_format, "convert", convert)
    if isinstance(error, RuntimeError):  # what OpenVINO makes of it: only the disk itself tells
        usage = module.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(StoreError, match="No space left on the disk"):
        export(made(lab, "logreg"), tmp_path / "out", ExportOptions(["openvino"]))
    assert left_in(tmp_path / "out") == []


@pytest.mark.slow
def test_killed_it_leaves_no_half_export(lab: Lab, tmp_path: Path) -> None:
    path = made(lab, "logreg").path
    process = Forked(["export", path, "--format", "savedmodel", "--out", "out"], tmp_path, environment())
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob(".tmp-*/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert [name for name in left_in(tmp_path / "out") if not name.startswith(".tmp-")] == []
    assert not export(made(lab, "logreg"), tmp_path / "out", ExportOptions(["savedmodel"])).refused
