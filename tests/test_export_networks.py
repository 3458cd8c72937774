"""Exports of bundles on graph files and on networks of KerasHub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from graphs import run_onnx, save_residual_net, save_transformer
from test_graph_pipeline import write_colours

from featx.bundle.bundle import load_bundle
from featx.engines.graph_files import DESCRIPTION
from featx.errors import ExportError
from featx.export.flow import ExportOptions, export

OPTIONS = ("--preprocessing", "half", "--interpolation", "bicubic", "--no-html", "--json")


@pytest.fixture(autouse=True)
def no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are measured with as few calls as can be."""
    monkeypatch.setattr("featx.inference.speed._LEAST_SECONDS", 0.0)
    monkeypatch.setattr("featx.inference.speed._LEAST_CALLS", 1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_colours(tmp_path / "images", count=8)
    save_residual_net(tmp_path / "net.onnx")
    save_transformer(tmp_path / "vit.onnx")
    return tmp_path


def fit(featx: Callable[..., Any], *arguments: str) -> Path:
    return Path(featx("fit-head", "images", *OPTIONS, *arguments).json["bundle"])


def run_openvino(path: Path, pixels: np.ndarray) -> np.ndarray:
    """What somebody computes who has OpenVINO and no featx."""
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled({"images": pixels})["probabilities"])


def test_a_graph_file_and_its_head_are_one_graph_of_openvino(featx: Callable[..., Any], place: Path) -> None:
    bundle = fit(featx, "--backbone", "vit.onnx", "--layer", "block1@avg", "--layer", "block3@cls+avg", "--combine",
                 "all", "--clf", "logreg", "--strength", "0.1")  # fmt: skip
    done = featx("export", str(bundle), "--format", "openvino", "--out", "out", "--json").json["exports"][0]
    folder = place / done["path"]
    pixels = np.random.default_rng(4).integers(0, 256, (5, 32, 32, 3), np.uint8)
    found = run_openvino(folder / "model.xml", pixels)
    given = np.ascontiguousarray((pixels / 127.5 - 1).astype(np.float32).transpose(0, 3, 1, 2))
    tokens = run_onnx(place / "vit.onnx", ["layer1/out", "layer3/out"], given)
    low, high = tokens["layer1/out"], tokens["layer3/out"]
    features = np.concatenate([low[:, 1:].mean(axis=1), high[:, 0], high[:, 1:].mean(axis=1)], axis=1)
    with np.load(place / bundle / "head.npz") as head:
        logits = features @ head["kernel"] + head["bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)
    about = json.loads((folder / "model.json").read_text())["resize"]
    assert (about["rule"], about["method"], about["filter"]) == ("stretch:1:bicubic", "stretch", "bicubic, antialiased")


@pytest.mark.parametrize(
    ("head", "precision"),
    [
        (("--clf", "dense", "--epochs", "3"), "float16"),
        (("--clf", "svm", "--strength", "0.1", "--normalize", "l2", "--pca", "6", "--calibrate", "sigmoid"), "float32"),
    ],
)
def test_every_head_behind_a_graph_file(
    featx: Callable[..., Any], place: Path, head: tuple[str, ...], precision: str
) -> None:
    bundle = load_bundle(place / fit(featx, "--backbone", "net.onnx", "--layer", "block2@grid:2", *head))
    done = export(bundle, place / "out", ExportOptions(["openvino"], precision, str(place / "images")))
    assert [one.reason for one in done.results] == [None]
    with pytest.raises(ExportError, match=r"as onnx or litert. Choose --format openvino.*featx bundle pack"):
        export(bundle, place / "out", ExportOptions(["onnx", "openvino", "litert"]))


def test_a_graph_of_a_fixed_batch_is_refused_in_a_sentence(featx: Callable[..., Any], place: Path) -> None:
    arguments = ("--layer", "block2", "--clf", "logreg", "--strength", "1")
    bundle = load_bundle(place / fit(featx, "--backbone", "net.onnx", *arguments))
    description = bundle.path / "graph" / DESCRIPTION
    description.write_text(json.dumps(json.loads(description.read_text()) | {"batch": 1}))
    with pytest.raises(ExportError, match="is fixed to 1 image at once"):
        export(bundle, place / "out", ExportOptions(["openvino"]))


@pytest.mark.parametrize(
    "family", ["dinov2", *(pytest.param(one, marks=pytest.mark.slow) for one in ("dinov3", "vit", "clip", "siglip"))]
)
def test_networks_of_keras_hub_in_every_format(featx: Callable[..., Any], tmp_path: Path, family: str) -> None:
    pytest.importorskip("keras_hub")
    from hubs import save_folder

    write_colours(tmp_path / "images", count=8)
    save_folder(tmp_path / family, family, blocks=1)  # more of them are of the same operations
    pooling = "avg" if family == "siglip" else "cls+avg"
    options = ("--backbone", family, "--layer", f"output@{pooling}", "--clf", "logreg", "--strength", "0.1")
    bundle = load_bundle(tmp_path / featx("fit-head", "images", *options, "--no-html", "--json").json["bundle"])
    done = export(bundle, tmp_path / "out", ExportOptions(["openvino", "onnx", "litert", "savedmodel"]))
    assert {one.format: one.reason for one in done.results} == dict.fromkeys(
        ("openvino", "onnx", "litert", "savedmodel")
    )
