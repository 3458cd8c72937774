"""Every pipeline file that comes with featx, run as it stands on a small stand-in for its data.

A tiny network with random weights stands in for the backbone (those of the table are tested elsewhere), epochs are few.
What is asserted is that every key arrives where it belongs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import call, make_lab, write_pictures

from featx.backbones import resolve, resolve_outputs
from featx.bundle.bundle import Bundle, load_bundle
from featx.config import SECTIONS
from featx.config.pipeline import read_pipeline
from featx.runs.run import Run

PIPELINES = Path(__file__).parent.parent / "pipelines"
NAMES = sorted(path.stem for path in PIPELINES.glob("*.yaml"))


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory, op_by_op: None) -> list[str]:
    """Settings that make a run small."""
    backbone = make_lab(tmp_path_factory.getbasetemp() / "lab").root / "tiny.keras"
    return [f"features.backbone={backbone}", "features.weights=random", "features.input_size=32", "report.html=false"]


def run(name: str, folder: Path, settings: list[str]) -> list[Bundle]:
    """`featx run -p` in a folder that has the data; returns the bundles it made, oldest first."""
    options = [part for setting in settings for part in ("--set", setting)]
    done = call("run", "-p", PIPELINES / f"{name}.yaml", *options, "--json", cwd=folder)
    assert done.status == 0, done.err
    again = call("run", "-p", PIPELINES / f"{name}.yaml", *options, "--json", cwd=folder)
    assert not any(stage["done"] for stage in again.json["stages"])  # everything is up to date
    return [load_bundle(bundle.path) for bundle in Run(folder / "runs" / name).bundles()]


def head_of(bundle: Bundle) -> dict[str, Any]:
    return dict(bundle.manifest.head.params)


def layers_of(bundle: Bundle) -> list[str]:
    """Kind of every layer of a dense head, with its units or rate."""
    from featx.heads.persist import load_network

    found = []
    for layer in load_network(bundle.path / "head.keras").layers:
        config = layer.get_config()
        size = config.get("units", config.get("rate"))
        if size is not None:
            found.append(f"{type(layer).__name__} {size}")
    return found


def log_of(bundle: Bundle) -> list[dict[str, float]]:
    lines = (bundle.path / "training.csv").read_text().splitlines()
    names = lines[0].split(",")
    return [
        {name: float(value) for name, value in zip(names, line.split(","), strict=True) if value} for line in lines[1:]
    ]


def images_per_part(bundle: Bundle) -> tuple[int, int, int]:
    counts = bundle.manifest.split.images
    return counts["train"], counts["val"], counts["test"]


# --- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dinov2"])  # which is downloaded; see test_hub.py
def test_the_backbone_and_its_outputs_are_known(name: str) -> None:
    pipeline = read_pipeline(PIPELINES / f"{name}.yaml")
    spec = resolve(pipeline.features)
    outputs = resolve_outputs(pipeline.features, spec)
    assert spec.entry is not None
    assert outputs
    assert pipeline.report.name == name


@pytest.mark.parametrize("name", NAMES)
def test_what_its_comments_tell_to_type_exists(name: str) -> None:
    text = (PIPELINES / f"{name}.yaml").read_text()
    commands = re.findall(r"^#\s+featx (\S+)", text, flags=re.MULTILINE)
    assert commands or name == "default"
    for command in commands:
        assert call(command, "--help", cwd=PIPELINES).status == 0
    for section, key in re.findall(r"--set (\w+)\.(\w+)=", text):
        assert hasattr(SECTIONS[section](), key)


def test_the_readme_lists_every_file() -> None:
    text = (PIPELINES / "README.md").read_text()
    for name in NAMES:
        assert f"`{name}.yaml`" in text


# --- one by one --------------------------------------------------------------------------------------------------


def test_medicinal_leaves(tmp_path: Path, small: list[str]) -> None:
    leaves = write_pictures(tmp_path / "medicinal_leaves", per_class=20)
    (leaves / "red" / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(60))
    (leaves / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(20))
    few = ["head.epochs=4", "head.boundaries=[1, 2]", "finetune.epochs=1"]
    head, tuned = run("medicinal_leaves", tmp_path, [*small, *few])
    assert head.manifest.output_names == ("last@flatten",)
    assert head.manifest.data.bad == 2
    assert images_per_part(head) == (48, 6, 6)
    assert layers_of(head) == ["Dense 256", "Dropout 0.3", "Dense 128", "Dense 3"]
    rates = [entry["learning_rate"] for entry in log_of(head)]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 5e-4, 1e-3][: len(rates)], rtol=1e-6)
    assert tuned.manifest.origin.digest == head.manifest.digest
    assert len(tuned.manifest.history) == 1


def test_flowers17(tmp_path: Path, small: list[str]) -> None:
    write_pictures(tmp_path / "flowers17" / "train", per_class=8)
    write_pictures(tmp_path / "flowers17" / "val", per_class=4, seed=1)
    (bundle,) = run("flowers17", tmp_path, [*small, "features.layer=last", "head.epochs=3"])
    assert bundle.manifest.output_names == ("last@max",)
    assert images_per_part(bundle) == (24, 12, 0)  # its own parts
    assert bundle.manifest.augment.policy["flip"] == "both"
    assert bundle.manifest.augment.policy["views"] == 4
    assert layers_of(bundle) == ["Dense 128", "Dropout 0.3", "Dense 3"]
    assert log_of(bundle)[0]["learning_rate"] == pytest.approx(1e-3)


def test_five_datasets(tmp_path: Path, small: list[str]) -> None:
    write_pictures(tmp_path / "butterflies", per_class=25)
    head, tuned = run("five_datasets", tmp_path, [*small, "head.epochs=3", "finetune.epochs=1"])
    assert head.manifest.output_names == ("last@avg",)
    assert images_per_part(head) == (54, 15, 6)
    assert layers_of(head) == ["Dense 1024", "Dense 3"]
    assert head_of(head)["class_weight"] == "balanced"
    assert head_of(head)["optimizer"] == "rmsprop"
    assert tuned.manifest.backbone.finetuned
    assert head.manifest.seconds > 0  # the time of every run is recorded
    assert tuned.manifest.seconds > 0


def test_scenes(tmp_path: Path, small: list[str]) -> None:
    write_pictures(tmp_path / "scenes", per_class=20)
    made = call("split", "scenes", "--out", "scenes/scenes.csv", cwd=tmp_path)  # as the file's comment says
    assert made.status == 0, made.err
    few = ["head.epochs=3", "finetune.epochs=1", "head.plateau_patience=1"]
    head, tuned = run("scenes", tmp_path, [*small, *few])
    assert images_per_part(head) == (48, 6, 6)
    assert layers_of(head) == ["Dense 10", "Dropout 0.4", "Dense 5", "Dense 3"]
    assert head_of(head)["optimizer"] == "nadam"
    assert list((tmp_path / "runs" / "curves").rglob("events.out.tfevents.*"))
    assert tuned.manifest.origin.digest == head.manifest.digest


def test_scenes_of_several_labels(tmp_path: Path, small: list[str]) -> None:
    folder = tmp_path / "scenes_multilabel"
    write_pictures(folder, per_class=16)
    lines = [
        f"{path.relative_to(folder)},{path.parent.name}{'$even' if int(path.stem[-1]) % 2 == 0 else ''}"
        for path in sorted(folder.rglob("*.png"))
    ]
    (folder / "scenes.csv").write_text("\n".join(["path,label", *lines]))
    bundle, tuned = run("scenes_multilabel", tmp_path, [*small, "head.epochs=3", "finetune.epochs=1"])
    assert bundle.multilabel
    assert tuned.multilabel
    assert tuned.manifest.origin.digest == bundle.manifest.digest
    assert bundle.classes == ("blue", "even", "green", "red")
    assert layers_of(bundle) == ["Dense 256", "Dropout 0.4", "Dense 4"]
    assert bundle.manifest.score.metric == "roc_auc"
    for one in (bundle, tuned):  # searched before confidence is corrected for the weights of labels
        chances = one.thresholds / (1 - one.thresholds) / np.exp(one.manifest.head.correction)
        found = chances / (1 + chances)
        assert ((found >= 0.1 - 1e-9) & (found <= 0.9 + 1e-9)).all()
    shown = call("evaluate", "-p", PIPELINES / "scenes_multilabel.yaml", "--no-html", "--json", cwd=tmp_path)
    assert {"exact_match", "roc_auc_macro", "f1_micro", "thresholds"} <= shown.json.keys()


def test_fashion_mnist_mixed7(tmp_path: Path, small: list[str]) -> None:
    write_pictures(tmp_path / "cache/data/fashion-mnist/train", per_class=20)
    write_pictures(tmp_path / "cache/data/fashion-mnist/test", per_class=4, seed=1)
    layers = "features.layer=[last@avg, body@grid:4]"
    (bundle,) = run("fashion_mnist_mixed7", tmp_path, [*small, layers, "data.max_train=30"])
    assert set(bundle.manifest.output_names) < {"last@avg", "body@grid:4"}
    assert images_per_part(bundle)[0] <= 30
    assert images_per_part(bundle)[2] == 12  # its own test images


def test_the_demo(tmp_path: Path, small: list[str]) -> None:
    write_pictures(tmp_path / "cache/data/digits", per_class=20)
    head, tuned = run("default", tmp_path, [*small, "features.layer=last", "finetune.epochs=1"])
    assert head.manifest.head.clf == "svm"
    assert images_per_part(head) == (36, 9, 15)
    assert tuned.manifest.origin.digest == head.manifest.digest
