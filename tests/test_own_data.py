"""Commands that come back to a bundle find its images and options by themselves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from fitted import write_pictures


def test_evaluate_and_similar_read_what_the_bundle_was_made_of(
    featx: Any, cache: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "pictures", 12)
    shutil.copy(tiny_backbone, tmp_path)
    options = ["--split", "0.6,0.2,0.2", "--backbone", tiny_backbone.name, "--layer", "high"]
    words = ["fit-head", "pictures", *options, "--no-html"]
    monkeypatch.setattr("sys.argv", ["featx", *words])  # in this process it is that of pytest
    made, found = featx(*words, "--json").json, featx("evaluate", "--report", "page", "--json").json
    commands = [one["command"] for one in found["summary"]["next"] if one["command"]]
    assert commands == [one["command"] for one in made["summary"]["next"] if one["command"]]
    assert f"featx fit-head pictures {' '.join(options)} --clf auto" in commands
    assert "flatten" not in (tmp_path / "page" / "index.html").read_text()  # of the default pipeline, not the model's
    near = featx("similar", "pictures/red/0-00.png", "--top", 2, "--json").json["images"][0]
    assert near["similar"][0]["path"].endswith("pictures/red/0-00.png")


def test_a_folder_that_is_back_is_found(featx: Any, cache: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    first = write_pictures(tmp_path / "pictures", 12)
    moved, options = tmp_path / "moved", ["--backbone", tiny_backbone, "--layer", "high", "--clf", "ridge", "--no-html"]
    bundle = featx("fit-head", "pictures", *options, "--json").json["bundle"]
    expected = featx("evaluate", bundle, "--data", "pictures", "--split", "test", "--json").json["accuracy"]
    first.rename(moved)
    featx("fit-head", "moved", "--name", "pictures", *options)
    moved.rename(first)
    assert featx("evaluate", bundle, "--json").json["accuracy"] == expected
    write_pictures(moved, 2, seed=5)  # the newest place is there again, with other images
    assert featx("evaluate", bundle, "--json").json["accuracy"] == expected
    shutil.rmtree(first)
    assert "it is not known where its images are now" in featx("evaluate", bundle, status=2).stderr


def test_no_images_named_is_said_so(featx: Any) -> None:
    for command in ("check", "fit-head", "look", "enough"):
        said = featx(command, status=2).stderr
        assert said.startswith("featx: No images are named, and those of the demo, cache/data/digits, are not here."), (
            said
        )
    assert "No bundle in runs yet. Make one: featx fit-head DATA" in featx("similar", __file__, status=1).stderr
