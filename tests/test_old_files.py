"""What featx 0.1.0 left behind is read: its cache computes nothing, its bundles predict the same, its split is kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

OLD = Path(__file__).parent / "old_0_1_0"
BUNDLES = sorted(path.stem for path in OLD.glob("*.featx"))
FEATURES = ("--backbone", "tiny.keras", "--layer", "high@avg", "--seed", "3")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of it, where the command line runs."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_there_is_a_bundle_of_every_kind() -> None:
    assert BUNDLES == ["1-logreg", "2-dense", "3-svm", "4-logreg-finetuned"]


def test_its_cache_computes_nothing(featx: Callable[..., Any], old: Path) -> None:
    done = featx(
        "extract", "images", "--backbone", "tiny.keras", "--layer", "low@flatten", "--layer", "high@avg", "--json"
    )
    assert (done.json["computed"], done.json["reused"]) == (0, 36)
    assert Path(done.json["store"]).name == "tiny-16-571709e5"
    assert featx("cache", "verify", "--json").json["damaged"] == []


@pytest.mark.parametrize("name", BUNDLES)
def test_its_bundles_predict_the_same(featx: Callable[..., Any], old: Path, name: str) -> None:
    before = json.loads((old / f"{name}.predict.json").read_text())["predictions"]
    images = [one["path"] for one in before]
    now = featx("predict", *images, "--model", f"{name}.featx", "--top", "3", "--json").json["predictions"]
    assert [one["path"] for one in now] == [str(old / image) for image in images]
    assert [one["label"] for one in now] == [one["label"] for one in before]
    for one, former in zip(now, before, strict=True):
        assert [choice["label"] for choice in one["top"]] == [choice["label"] for choice in former["top"]]
        np.testing.assert_allclose(
            [choice["confidence"] for choice in one["top"]],
            [choice["confidence"] for choice in former["top"]],
            atol=1e-4,
        )


def test_a_head_of_another_scikit_learn_is_read_and_one_sentence_names_both(
    featx: Callable[..., Any], old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = json.loads((old / "3-svm.predict.json").read_text())["predictions"]
    monkeypatch.setattr("sklearn.base.__version__", "99.1")
    now = featx("predict", before[0]["path"], "--model", "3-svm.featx", "--json").json["predictions"]
    assert now[0]["confidence"] == pytest.approx(before[0]["confidence"], abs=1e-4)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "featx.heads.kept"]
    assert re.search(r"^The head was fitted with scikit-learn [\d.]+ and is read with 99\.1\. ", said)


@pytest.mark.parametrize("name", BUNDLES)
def test_its_bundles_are_verified(featx: Callable[..., Any], old: Path, name: str) -> None:
    assert featx("bundle", "verify", f"{name}.featx", "--json").json["ok"]


def test_its_split_is_kept(featx: Callable[..., Any], old: Path) -> None:
    shutil.copytree(old / "split", old / "runs" / "images" / "split")
    featx("bundle", "unpack", "1-logreg.featx", "--out", "runs/images/1-logreg")
    manifest = json.loads((old / "runs" / "images" / "1-logreg" / "bundle.json").read_text())
    again = featx("fit-head", "images", *FEATURES, "--clf", "logreg", "--strength", "1", "--no-html", "--json").json
    fitted = json.loads((old / again["bundle"] / "bundle.json").read_text())
    assert fitted["split"]["digest"] == manifest["split"]["digest"]
    assert fitted["key"] == manifest["key"]
    for part in ("val", "test"):
        before = manifest["metrics"][part]
        assert (again[part]["images"], again[part]["accuracy"]) == (before["images"], before["accuracy"])
        assert again[part]["log_loss"] == pytest.approx(before["log_loss"], abs=0.05)  # spreads are not those of 0.1.0
