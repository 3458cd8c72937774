"""Whose licence the weights of a network are under, from what lies beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from featx.backbones import BackboneSpec, resolve
from featx.backbones.licenses import find_license, license_files
from featx.bundle.manifest import LICENSES
from featx.config import FeaturesOptions


def spec_of(path: Path, **changes: object) -> BackboneSpec:
    spec = BackboneSpec(str(path), "bundled", 0, (224, 224), "none")
    return replace(spec, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# Net", "apache-2.0"),
        ("---\r\nlicense: mit\r\n---\r\n", "mit"),
        ("---\nlicense: other\nlicense_name: dinov3-license\nlicense_link: LICENSE\n---\n", "dinov3-license"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\ntags: [x]\nlicense:\n- 'mit'\n- \"apache-2.0\" # both\ntitle: x\n---\n", "mit, apache-2.0"),
        ("---\nlicense:\ntags: [x]\n---\n", None),
        ("---\n: [\n---\n", None),
        ("---\nmy_license: mit\n---\n", None),
        ("---\n- mit\n---\n", None),
        ("# license: mit", None),
    ],
)
def test_the_metadata_of_a_model_card_names_it(tmp_path: Path, card: str, name: str | None) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_bytes(card.encode())
    found = find_license(spec_of(tmp_path, source="hf:lab/net@0123"))
    assert (found.name, found.source) == (name, name and "README.md of hf:lab/net@0123")


def test_timm_names_it_in_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    settings = {"architecture": "resnet18", "pretrained_cfg": {"license": "bsd-3-clause", "mean": [0, 0, 0]}}
    (tmp_path / "net" / "config.json").write_text(json.dumps(settings))
    found = find_license(spec_of(tmp_path / "net"))
    assert (found.name, found.source) == ("bsd-3-clause", "config.json of net")
    assert find_license(spec_of(tmp_path / "net", weights="random")).name is None


@pytest.mark.parametrize(
    ("preset", "name"),
    [("dinov2_small", "Apache-2.0"), ("dinov3_vit_small_lvd1689m", "DINOv3"), ("clip_vit_base_patch16", None)],
)
def test_a_preset_has_that_of_its_authors_where_they_name_one(tmp_path: Path, preset: str, name: str | None) -> None:
    (tmp_path / "config.json").write_text("{}")
    found = find_license(spec_of(tmp_path, source=f"hub:{preset}"))
    assert found.name == name
    assert (found.source is None) == (name is None)


def test_texts_are_those_of_the_network_and_of_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    (folder / "onnx").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for name in ("LICENSE.md", "Notice", "COPYING.txt", "licenses.csv", "onnx/model.onnx", "onnx/LICENSE"):
        (folder / name).write_text(name)
    (folder / "LICENCE.pdf").write_bytes(b"0" * (1 << 20) + b"0")
    for name in ("LICENSE", "mine.onnx", "mine.LICENSE", "mine.notice.txt", "yours.LICENSE"):
        (tmp_path / name).write_text(name)
    assert LICENSES == "licenses"
    wanted = {"COPYING.txt", "LICENSE.md", "Notice"}
    assert set(license_files(spec_of(folder))) == {f"licenses/{name}" for name in wanted}
    assert set(license_files(spec_of(folder / "onnx" / "model.onnx"))) == {f"licenses/{name}" for name in wanted}
    mine = license_files(spec_of(tmp_path / "mine.onnx"))
    assert set(mine) == {"licenses/mine.LICENSE", "licenses/mine.notice.txt"}
    assert mine["licenses/mine.LICENSE"].read_text() == "mine.LICENSE"


def test_the_wheel_of_bundled_weights_has_its_text() -> None:
    found = find_license(resolve(FeaturesOptions(backbone="EfficientNetLite0")))
    assert (found.name, found.source) == ("Apache-2.0", None)
    (text,) = found.texts
    assert "Apache License" in text.read_text()
    assert find_license(resolve(FeaturesOptions(backbone="EfficientNetLite0", weights="random"))).texts == ()
    assert find_license(resolve(FeaturesOptions(backbone="ResNet50"))).texts == ()
