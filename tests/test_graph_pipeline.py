"""Graph files through the whole pipeline, on the command line: extracted, fitted, packed, predicted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from conftest import environment
from fitted import call
from graphs import run_onnx, save_residual_net, save_transformer
from PIL import Image

from featx.backbones import resolve
from featx.config import FeaturesOptions

SIDE = 32


def write_colours(folder: Path, count: int = 14) -> Path:
    """Noisy images of three colours, a folder for each."""
    random = np.random.default_rng(3)
    for name, colour in {"blue": (60, 80, 170), "green": (70, 160, 80), "red": (170, 70, 60)}.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + random.normal(0, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Images, a residual network and a transformer, where the command line runs."""
    write_colours(tmp_path / "images")
    save_residual_net(tmp_path / "net.onnx")
    save_transformer(tmp_path / "vit.onnx")
    return tmp_path


def pixels_of(folder: Path) -> tuple[list[Path], np.ndarray]:
    paths = sorted(folder.rglob("*.png"))
    return paths, np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def test_its_layers_are_listed(featx: Callable[..., Any], place: Path) -> None:
    listed = featx("layers", "vit.onnx", "--json").json["layers"]
    named = {one["name"]: one for one in listed}
    assert named["layer2/out"]["block"] == "block2"
    assert (named["layer2/out"]["shape"], named["layer2/out"]["features"]["avg"]) == ([17, 12], 12)
    assert named["layer2/out"]["clean_cut"]
    assert "block3" in featx("layers", "vit.onnx").stdout


def test_several_layers_and_tokens_in_one_pass(featx: Callable[..., Any], place: Path) -> None:
    wanted = ("block1@cls", "block3@cls+avg", "block3@grid:2")
    layers = [text for output in wanted for text in ("--layer", output)]
    options = ("--backbone", "vit.onnx", "--preprocessing", "half", "--storage", "float32")
    done = featx("extract", "images", *options, *layers, "--json")
    assert {name: one["shape"] for name, one in done.json["layers"].items()} == {
        "block1@cls": [42, 12],
        "block3@cls+avg": [42, 24],
        "block3@grid:2": [42, 48],
    }
    featx("cache", "export", "images", "--out", "out.h5", *options, "--layer", "block3@cls+avg")
    import h5py

    with h5py.File(place / "out.h5") as file:
        features = dict(zip((Path(p.decode()).resolve() for p in file["paths"][:]), file["features"][:], strict=True))
    paths, pixels = pixels_of(place / "images")
    given = np.ascontiguousarray((pixels / 127.5 - 1).astype(np.float32).transpose(0, 3, 1, 2))
    tokens = run_onnx(place / "vit.onnx", ["layer3/out"], given)["layer3/out"]
    expected = np.concatenate([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=1)
    found = np.stack([features[path.resolve()] for path in paths])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_packed_bundle_predicts_without_the_file_and_without_tensorflow(
    featx: Callable[..., Any], place: Path
) -> None:
    fitted = featx("fit-head", "images", "--backbone", "net.onnx", "--preprocessing", "none", "--layer", "block2",
                   "--clf", "logreg", "--no-html", "--json").json  # fmt: skip
    assert fitted["test"]["accuracy"] > 0.7
    featx("bundle", "pack", fitted["bundle"], "--out", "model.featx")
    for gone in ("net.onnx", "vit.onnx"):
        (place / gone).unlink()
    for folder in ("cache", "runs"):
        shutil.rmtree(place / folder)
    (place / "blocked").mkdir()
    for library in ("tensorflow", "keras", "sklearn"):
        (place / "blocked" / f"{library}.py").write_text("raise ImportError('not on this machine')")
    path = environment().get("PYTHONPATH", "")
    blocked = environment(PYTHONPATH=f"{place / 'blocked'}:{path}")
    answers = featx("predict", "images", "--model", "model.featx", "--json", env=blocked).json["predictions"]
    right = [one["label"] == Path(one["path"]).parent.name for one in answers]
    assert np.mean(right) > 0.8
    assert json.loads(featx("evaluate", "model.featx", "--data", "images", "--json").stdout)["images"] == 42


def test_another_file_of_the_same_name_has_another_key(featx: Callable[..., Any], place: Path) -> None:
    options = ("--backbone", "net.onnx", "--preprocessing", "none", "--layer", "block1", "--json")
    first = featx("extract", "images", *options).json
    assert featx("extract", "images", *options).json["computed"] == 0
    save_residual_net(place / "net.onnx", seed=9)
    second = featx("extract", "images", *options).json
    assert second["computed"] == 42
    assert first["store"] != second["store"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backbone", "net.onnx"), "Nothing states which pixel values net.onnx expects"),
        (("--backbone", "net.onnx", "--preprocessing", "none", "--layer", "blok1"), "Did you mean 'block1'"),
        (
            ("--backbone", "net.onnx", "--preprocessing", "none", "--layer", "block1", "--engine", "tensorflow"),
            "OpenVINO",
        ),
        (("--backbone", "vit.onnx", "--preprocessing", "none", "--input-size", "64"), "takes images of 32 x 32 pixels"),
        (("--backbone", "vit.onnx", "--preprocessing", "none", "--weights", "random"), "Leave out --weights"),
        (("--backbone", "net.onnx", "--mean", "1,2"), "--mean takes one number, or three"),
        (("--backbone", "net.onnx", "--std", "0"), "--std takes numbers above 0"),
        (("--backbone", "gone.onnx", "--preprocessing", "none"), "No backbone file gone.onnx"),
        (("--backbone", "net.onnx", "--preprocessing", "imagnet"), "No preprocessing 'imagnet'"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    featx: Callable[..., Any], place: Path, arguments: tuple[str, ...], words: str
) -> None:
    failed = featx("extract", "images", *arguments, status=None)
    assert failed.returncode in {1, 2}
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Unexpected" not in failed.stderr


@pytest.mark.parametrize(
    ("name", "content", "resize", "values"),
    [
        (
            "preprocessor_config.json",
            {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3, "do_center_crop": True,
             "size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
            "crop:0.8:bicubic",
            "tf",
        ),
        (
            "config.json",
            {"pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_pct": 0.875,
                                "interpolation": "bicubic", "input_size": [3, 32, 32]}},
            "crop:0.875:bicubic",
            "torch",
        ),
        ("net.json", {"mean": [0.1, 0.2, 0.3], "std": 0.5, "channels": "bgr"}, "stretch",
         "scale=0.00392156862745 mean=0.1,0.2,0.3 std=0.5 bgr"),
    ],
)  # fmt: skip
def test_a_file_beside_it_says_what_it_is_given(
    featx: Callable[..., Any], place: Path, name: str, content: dict[str, Any], resize: str, values: str
) -> None:
    (place / name).write_text(json.dumps(content))
    done = featx("extract", "images", "--backbone", "net.onnx", "--layer", "block1", "--json").json
    key = json.loads((place / done["store"] / "key.json").read_text())["key"]
    assert (key["resize"], key["preprocessing"]) == (resize, values)


def test_a_wrong_file_beside_it_is_a_sentence(featx: Callable[..., Any], place: Path) -> None:
    for content in ('{"mean": [1, 2]}', '{"maen": 1}', "[", '{"mean": "x"}'):
        (place / "net.json").write_text(content)
        failed = featx("extract", "images", "--backbone", "net.onnx", "--layer", "block1", status=1)
        assert "net.json does not describe the preprocessing" in failed.stderr


def test_a_fine_tune_says_what_would_work(featx: Callable[..., Any], place: Path) -> None:
    options = ("--backbone", "net.onnx", "--preprocessing", "none", "--layer", "block2")
    featx("fit-head", "images", *options, "--clf", "logreg", "--no-html")
    failed = featx("finetune", "images", *options, status=None)
    assert failed.returncode in {1, 2}
    assert ".keras" in failed.stderr
    assert "Unexpected" not in failed.stderr


def test_explained_exactly_where_the_head_is_linear(featx: Callable[..., Any], place: Path) -> None:
    options = ("--backbone", "net.onnx", "--preprocessing", "none", "--layer", "block2")
    featx("fit-head", "images", *options, "--clf", "logreg", "--no-html")
    shutil.rmtree(place / "cache")
    for method, name in (("cam", "block2@avg"), ("occlusion", "occlusion")):
        given = () if method == "cam" else ("--method", method)
        image = ("images/red/00.png", "--model", "runs/images", "--out", method)
        told = featx("explain", *image, *given, "--json").json
        assert told["method"] == method
        assert name in json.dumps(told)
    failed = featx(
        "explain", "images/red/00.png", "--model", "runs/images", "--out", "maps", "--method", "gradcam", status=None
    )
    assert failed.returncode in {1, 2}
    assert "occlusion" in failed.stderr


def test_a_folder_with_a_graph_and_its_preprocessing_is_one_backbone(place: Path) -> None:
    folder = write_folder_of_graph(place)
    spec = resolve(FeaturesOptions(backbone=str(folder)))
    assert (spec.name, spec.label) == (str(folder / "onnx" / "model.onnx"), "lab-net")
    assert (spec.input_size, spec.preprocessing, spec.resize) == ((SIDE, SIDE), "tf", "stretch:1:bicubic")
    assert resolve(FeaturesOptions(backbone=spec.name)) == spec
    (folder / "config.json").write_text(json.dumps({"model_type": "mobilevit"}))  # which KerasHub does not convert
    (folder / "model.safetensors").write_bytes(b"")
    assert resolve(FeaturesOptions(backbone=str(folder))) == spec
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2", "patch_size": 16, "image_size": SIDE}))
    assert resolve(FeaturesOptions(backbone=str(folder))).name == str(folder)  # whose weights can be trained


def test_networks_of_folders_and_files_are_compared_with_what_they_are_given(place: Path) -> None:
    write_folder_of_graph(place)
    given = ("--preprocessing", "half", "--interpolation", "bicubic")
    done = call("compare", "images", "--backbone", "net.onnx,lab-net", *given, "--no-html", "--json", cwd=place)
    assert done.status == 0, done.err
    named = [(row["backbone"], row["layer"], row["score"]) for row in done.json["rows"]]
    assert named == [("net", "b3/out@avg", 1.0), ("lab-net", "b3/out@avg", 1.0)]
    refused = call("compare", "images", "--backbone", "net.onnx", "--no-html", cwd=place)
    assert refused.status == 1
    assert "--preprocessing imagenet, half, clip or none" in refused.out


def write_folder_of_graph(place: Path) -> Path:
    """As Hugging Face's exporters write it."""
    folder = place / "lab-net"
    (folder / "onnx").mkdir(parents=True)
    shutil.copy(place / "net.onnx", folder / "onnx" / "model.onnx")
    values = {
        "size": {"height": SIDE, "width": SIDE}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return folder
