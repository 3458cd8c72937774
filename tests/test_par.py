"""What a command can do, a function can: their options are the same but for these, and files are kept alike."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import click
import pytest
from fitted import Lab, call

import featx
from featx.api.predictions import PredictKeywords
from featx.cli.app import cli
from featx.errors import UsageError

# What a command has and its function has not. Where a model is: the function is its method, or `featx.load` finds it.
# fail: what scripts of the shell ask; in Python there is a value to look at.
MODEL = {"bundle", "import", "model", "name", "named", "origin", "runs"}
SHELL = {"as_json", "fail", "help", "help_all", "pipeline_file", "settings"}
# Policies other than the model's own come from a pipeline file; a report is written by the command.
POLICY = {
    *("brightness", "contrast", "crop", "erasing", "fill_mode", "fill_value", "flip", "rotation", "saturation"),
    *("shear", "shift", "zoom"),
}
REPORT = {"directory", "html", "keep_paths", "plots"}
PAIRS = {
    "extract": ("extract", {}, set()),
    "fit_head": ("fit-head", {}, set()),
    "check": ("check", {"by_features": "features"}, set()),
    "look": ("look", {}, set()),
    "compare": ("compare", {}, set()),
    "similar": ("similar", {}, set()),
    "models": ("models", {}, set()),
    "next": ("next", {}, set()),
    "enough": ("enough", {}, set()),
    "map": ("map", {}, set()),
    "Model.predict": ("predict", {}, POLICY | {"force", "out"}),  # Predictions.to_pandas
    "Model.evaluate": ("evaluate", {"folder": "mistakes"}, POLICY | REPORT),
    "Model.explain": ("explain", {}, set()),
    "Model.similar": ("similar", {}, set()),
    "Model.finetune": ("finetune", {}, set()),
    "Model.next": ("next", {}, set()),
    "Model.drift": ("drift", {}, set()),
    "Model.export": ("export", {"formats": "format"}, set()),
    "Model.pack": ("bundle pack", {}, set()),
}
FURTHER = {"Model.predict": PredictKeywords.__annotations__}


@pytest.mark.parametrize("name", PAIRS)
def test_a_function_takes_what_its_command_takes(name: str) -> None:
    words, called, without = PAIRS[name]
    command: click.Command = cli
    for word in words.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(cli), word)
        assert found is not None
        command = found
    function = featx
    for part in name.split("."):
        function = getattr(function, part)
    taken = set(inspect.signature(function).parameters) | set(FURTHER.get(name, {}))
    asked = {one.name.partition("__")[2] or one.name for one in command.params if one.name}
    missing = {called.get(one, one) for one in asked - MODEL - SHELL - without} - taken
    assert not missing


def test_files_are_replaced_only_where_that_is_said(lab: Lab, tmp_path: Path) -> None:
    model = featx.load(lab.bundle("logreg").path)
    picture = lab.root / "pictures" / "red" / "0-00.png"
    (tmp_path / "maps").mkdir()
    for name in ("maps/notes.txt", "near.png", "model.featx"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=r"maps is a folder with files in it. Add to it with force=True"):
        model.explain(picture, out=tmp_path / "maps")
    place = {"cache": lab.pipeline.features.cache, "runs": tmp_path / "runs"}
    for near in (model.similar, featx.similar):
        with pytest.raises(UsageError, match=r"near.png exists already. Replace it with force=True"):
            near(picture, lab.root / "pictures", out=tmp_path / "near.png", **place)
    with pytest.raises(UsageError, match=r"near.txt"):
        model.similar(picture, lab.root / "pictures", out=tmp_path / "near.txt", **place)
    with pytest.raises(UsageError, match=r"model.featx exists already"):
        model.pack(tmp_path / "model.featx")
    assert (tmp_path / "near.png").read_text() == (tmp_path / "model.featx").read_text() == "mine"
    model.explain(picture, out=tmp_path / "maps", force=True)
    model.similar(picture, lab.root / "pictures", out=tmp_path / "near.png", force=True, **place)
    model.pack(tmp_path / "model.featx", force=True)
    assert (tmp_path / "near.png").read_bytes()[1:4] == b"PNG"
    assert featx.load(tmp_path / "model.featx").classes == model.classes


def test_check_has_the_labels_that_were_judged(lab: Lab, tmp_path: Path) -> None:
    found = featx.check(lab.root / "pictures", cache=tmp_path / "cache", runs=tmp_path / "runs")
    shown = json.loads(call("check", lab.root / "pictures", "--json", cwd=tmp_path).out)
    assert found.as_json()["judged"] == shown["judged"] == {"corrected": 0, "confirmed": 0}


def test_views_are_asked_for_in_python_as_well(lab: Lab, tmp_path: Path) -> None:
    place = {"backbone": lab.pipeline.features.backbone, "cache": lab.pipeline.features.cache, "runs": tmp_path}
    options = {"split": (0.5, 0.25, 0.25), "html": False, "flip": "horizontal", "views": 1, **place}
    model = featx.fit_head(lab.root / "pictures", **options)
    augment = model.bundle.manifest.augment
    assert augment is not None
    assert (augment.views, augment.policy["flip"]) == (1, "horizontal")
    picture = lab.root / "pictures" / "red" / "0-00.png"
    averaged, plain = model.predict(picture, tta=1)[0], model.predict(picture)[0]
    assert averaged.confidence != plain.confidence
    with pytest.raises(UsageError, match="tta must be at least 0"):
        model.predict(picture, tta=-1)
    with pytest.raises(UsageError, match="was made without augmentation"):
        featx.load(lab.bundle("logreg").path).evaluate(lab.root / "pictures", tta=2)
