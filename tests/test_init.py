"""A pipeline file to start from, files by their names, and what a run prints before it does it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Lab, call, write_pictures

from featx.config import Pipeline
from featx.config.pipeline import read_pipeline
from featx.config.route import set_keys
from featx.dataset import ImageSet
from featx.errors import UsageError
from featx.first_look.advice import Advice, Numbers, ScoredOutput
from featx.first_look.backbone_view import BackboneViews
from featx.first_look.recommendation import DepthsResult, Recommendation
from featx.first_look.result import FirstLook
from featx.first_look.starter import Starter


def images_of(sizes: dict[str, int], **more: Any) -> ImageSet:
    labels = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    paths = tuple(f"/data/{number}.png" for number in range(len(labels)))
    return ImageSet("photos", "photos", paths, labels, tuple(sizes), **more)


def looked(**advice: Any) -> FirstLook:
    """What a look found: the last layer, and an inner one that is better."""
    inner, last = ScoredOutput("block3@avg", 0.3, 0.9), ScoredOutput("top@avg", 1.0, 0.8)
    numbers = Numbers(20, 2, 10.0, inner, last, 20)
    given: dict[str, Any] = {"size": "small", "similarity": "different", "output": "block3@avg", "clf": "svm"}
    found = Advice(**given | {"tune": None, "summary": "A summary: of it.", "reasons": ("One reason.",)} | advice)
    return FirstLook(
        out=Path("runs/photos/look"),
        images=20,
        classes={"a": 10, "b": 10},
        shown=2,
        unreadable=(),
        contact_sheet="sheet.png",
        sizes=None,
        views=BackboneViews("seen.png", "Net", (32, 32), "stretch", "none", None, 0.0, None),
        imagenet=None,
        depths=DepthsResult("depths.png", "accuracy", 20, (inner, last)),
        recommendation=Recommendation(found, (), numbers),
        notes=("# a note\n- of two lines: with a colon",),
        report=None,
    )


def read(text: str, tmp_path: Path) -> Pipeline:
    path = tmp_path / "photos.yaml"
    path.write_text(text, encoding="utf-8")
    return read_pipeline(path)


def test_the_file_has_what_the_look_found(tmp_path: Path) -> None:
    pipeline = set_keys(Pipeline(), {"data.path": "photos"})
    text = Starter(images_of({"a": 10, "b": 10}), pipeline, "photos", "photos", looked()).text
    found = read(text, tmp_path)
    assert found.features.layer == ("block3@avg",)
    assert (found.head.clf, found.finetune.enabled, found.report.name) == ("svm", False, "photos")
    for words in ("block3@avg: 0.900, after 30% of", "# One reason.", "# A summary: of it.", "20 images in 2 classes"):
        assert words in text
    assert "class_weight" not in text


def test_a_fine_tune_starts_from_the_layer_that_was_advised_for_it(tmp_path: Path) -> None:
    pipeline = set_keys(Pipeline(), {"data.path": "photos"})
    found = looked(size="large", tune="top@avg")
    text = Starter(images_of({"a": 10, "b": 10}), pipeline, "photos", "photos", found).text
    made = read(text, tmp_path)
    assert (made.features.layer, made.head.clf, made.finetune.enabled) == (("top@avg",), "logreg", True)
    assert "featx fit-head -p photos --layer block3@avg --clf svm --name" in " ".join(text.replace("#", "").split())


@pytest.mark.parametrize("look", [None, looked()])
def test_what_was_typed_is_kept_whatever_it_holds(tmp_path: Path, look: FirstLook | None) -> None:
    keys = {
        "data.path": "a folder: [x] # 1/véry\ttab",
        "data.label_column": "yes",
        "data.label_separator": "$",
        "data.classes": ["no", "1", "ä: b"],
        "data.split": [0.5, 0.25, 0.25],
        "data.group_duplicates": 0.95,
        "features.backbone": "ResNet50",
        "features.input_size": 64,
        "features.layer": ["conv4_block6_out"],
        "report.runs": "my runs",
    }
    pipeline = set_keys(Pipeline(), keys)
    named = "of\nlines: # here"
    text = Starter(replace(images_of({"a": 60, "b": 2}), name=named), pipeline, "photos", "photos", look).text
    found = read(text, tmp_path)
    assert found.data == pipeline.data
    assert found.features == pipeline.features
    assert found.report == replace(pipeline.report, name="photos")
    assert "30 times the images of the smallest" in text
    uncommented = text.replace("# class_weight:", "class_weight:").replace("# metric:", "metric:")
    weighed = read(uncommented, tmp_path)
    assert (weighed.head.class_weight, weighed.head.metric) == ("balanced", "balanced_accuracy")


@pytest.mark.slow
def test_it_is_written_from_a_look_and_runs_as_it_is(lab: Lab, tmp_path: Path, imagenet_cache: Path) -> None:
    write_pictures(tmp_path / "pictures", 8)
    shutil.copytree(imagenet_cache, tmp_path / "cache")
    options = ("--backbone", lab.root / "tiny.keras", "--cache", tmp_path / "cache")
    made = call("init", "pictures", *options, "--json", cwd=tmp_path)
    assert made.status == 0, made.err
    assert made.json["out"] == "pictures.yaml"
    file = read_pipeline(tmp_path / "pictures.yaml")
    assert file.features.layer == (made.json["advice"]["output"],)
    assert (tmp_path / "runs" / "pictures" / "look" / "index.html").is_file()
    again = call("init", "pictures", *options, cwd=tmp_path)
    assert (again.status, "--force" in again.sentence) == (2, True)
    done = call("run", "-p", "pictures", cwd=tmp_path)
    assert done.status == 0, done.err
    said = done.err.splitlines()
    start = next(row for row, line in enumerate(said) if line.startswith("Data "))
    assert said[start].startswith("Data      pictures: 24 images in 3 classes; results go to runs/pictures")
    assert [line.split()[0] for line in said[start + 1 : start + 4]] == ["extract", "fit-head", "finetune"]
    assert said[start + 3] == "finetune  no, since finetune.enabled is false"
    assert "best bundle: runs/pictures/1-" in done.out


def test_without_a_look_no_network_is_loaded(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 2)
    made = call("init", "pictures", "--no-look", "--out", "mine.yaml", "--backbone", "VGG16", cwd=tmp_path)
    assert made.out == "mine.yaml\nNext: featx run -p mine.yaml\n"
    found = read_pipeline(tmp_path / "mine.yaml")
    assert (found.features.backbone, found.report.name, found.finetune.enabled) == ("VGG16", "mine", False)
    (tmp_path / "flat").mkdir()
    (tmp_path / "pictures" / "red" / "0-00.png").rename(tmp_path / "flat" / "x.png")
    assert "no labels" in call("init", "flat", cwd=tmp_path).sentence
    assert not (tmp_path / "runs").exists()


def test_the_help_and_the_plan_of_run_say_that_it_fine_tunes(lab: Lab, tmp_path: Path) -> None:
    from featx.io.context import Context
    from featx.store.cache import Cache
    from featx.workflow.run import describe_plan

    words = " ".join(call("run", "--help", cwd=tmp_path).out.split())
    assert "It fine-tunes the whole network, which takes minutes to hours, unless finetune.enabled is false" in words
    assert lab.prepared.pipeline.finetune.enabled
    with Cache(lab.pipeline.features.cache) as cache:
        *_, extract, head, tune = describe_plan(lab.pipeline, cache, Context())
    assert extract == "extract   tiny.keras, its last layer: all 60 images have their features"
    assert head.startswith("fit-head  logreg")
    assert tune == "finetune  the whole network, up to 2 epochs (--set finetune.enabled=false leaves it out)"


def test_a_pipeline_file_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flowers").mkdir()  # the data, which has the name of its file
    carried = read_pipeline(Path("digits_depth"))
    assert (carried.report.name, carried.compare.layer) == ("digits_depth", ("blocks",))
    assert read_pipeline(Path("digits_depth.yaml")) == carried
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "flowers.yaml").write_text("head: {clf: knn}")
    assert read_pipeline(Path("flowers")).head.clf == "knn"
    (tmp_path / "flowers.yaml").write_text("head: {clf: ridge}")
    assert read_pipeline(Path("flowers")).head.clf == "ridge"
    with pytest.raises(UsageError, match=r"No pipeline file digit_depth\. Did you mean 'digits_depth'\?"):
        read_pipeline(Path("digit_depth"))
    with pytest.raises(UsageError, match=r"No pipeline file there/digits_depth\."):
        read_pipeline(Path("there/digits_depth"))
