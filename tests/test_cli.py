"""The command line: what scripts read, what people read, exit statuses, and what `run` does again."""

from __future__ import annotations

import errno
import gc
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fitted import Lab, Outcome, call, write_pictures

from featx.bundle.bundle import load_bundle
from featx.bundle.split import read_split
from featx.cli.render import Bars, bad_images, table
from featx.config.pipeline import as_yaml
from featx.dataset import SPLITS
from featx.io.digests import digest_file
from featx.io.lazy import keep_imports, without_garbage_collection


@pytest.fixture
def work(lab: Lab, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs commands in `tmp_path`, which has lab.yaml and a copy of the pictures; the cache is the lab's."""
    assert lab.prepared.extraction.readable.all()  # the features of the pictures are there
    shutil.copytree(lab.root / "pictures", tmp_path / "pictures")
    pipeline = lab.pipeline
    pipeline = replace(
        pipeline,
        data=replace(pipeline.data, path="pictures"),
        head=replace(pipeline.head, strength=0.01),
        finetune=replace(pipeline.finetune, enabled=False),
        features=replace(pipeline.features, engine="tensorflow"),
        report=replace(pipeline.report, runs="runs"),
    )
    (tmp_path / "lab.yaml").write_text(as_yaml(pipeline))
    return lambda *arguments: call(*arguments, cwd=tmp_path)


def only_json(outcome: Outcome) -> dict[str, Any]:
    """What a script reads: one object on one line, and nothing else."""
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("\n") == 1
    return outcome.json


# --- JSON --------------------------------------------------------------------------------------------------------

METRICS = {"accuracy", "balanced_accuracy", "macro_f1", "log_loss", "top5_accuracy"}


def test_the_keys_that_scripts_use(work: Callable[..., Outcome], tmp_path: Path) -> None:
    found = only_json(work("extract", "-p", "lab.yaml", "--json"))
    assert {"images", "duplicates", "computed", "reused", "bad", "seconds", "images_per_second"} <= found.keys()
    assert found["images"] == found["computed"] + found["reused"] + found["duplicates"] == 60
    assert set(found["stages"]) == {"decode", "infer", "write"}
    assert Path(found["store"]).is_dir()
    (layer,) = found["layers"].items()
    assert (layer[0], layer[1]["shape"], layer[1]["dtype"]) == ("last@avg", [60, 16], "float16")
    assert Path(layer[1]["path"]).is_dir()

    dry = only_json(work("extract", "-p", "lab.yaml", "--dry-run", "--json"))
    assert (dry["rows"], dry["reused"], dry["seconds"]) == (0, 60, 0.0)

    found = only_json(work("fit-head", "-p", "lab.yaml", "--clf", "svm", "--json"))
    assert {"bundle", "clf", "params", "seconds", "val", "test"} <= found.keys()
    assert found["clf"] == "svm"
    assert found["val"].keys() >= METRICS
    assert found["test"]["top5_accuracy"] is None  # three classes
    assert (tmp_path / found["bundle"] / "bundle.json").exists()

    found = only_json(work("evaluate", "-p", "lab.yaml", "--json"))
    assert {"split", "per_class", "confusion", *METRICS} <= found.keys()
    assert found["split"] == "test"
    assert [one["label"] for one in found["per_class"]] == ["blue", "green", "red"]
    assert np.sum(found["confusion"]) == 15

    found = only_json(work("predict", "pictures/red", "-p", "lab.yaml", "--top", "2", "--json"))
    assert set(found) == {"predictions", "bad"}
    assert len(found["predictions"]) == 20
    one = found["predictions"][0]
    assert set(one) == {"path", "label", "confidence", "top"}
    assert [set(choice) for choice in one["top"]] == [{"label", "confidence"}] * 2

    found = only_json(work("check", "pictures", "--json"))
    assert {"images", "readable", "bad", "duplicates", "conflicts", "classes"} <= found.keys()
    assert found["classes"] == {"blue": 20, "green": 20, "red": 20}

    found = only_json(work("split", "pictures", "--out", "index.csv", "--json"))
    assert (found["train"], found["val"], found["test"]) == (48, 6, 6)
    assert (tmp_path / "index.csv").read_text().splitlines()[0] == "path,label,split"

    assert only_json(work("bundle", "verify", "-p", "lab.yaml", "--json"))["ok"] is True
    found = only_json(work("bundle", "pack", "-p", "lab.yaml", "--out", "m.featx", "--json"))
    assert found["bytes"] == (tmp_path / "m.featx").stat().st_size
    assert only_json(work("bundle", "unpack", "m.featx", "--json")) == {"bundle": "m"}
    found = only_json(work("predict", "pictures/red", "--model", "m.featx", "--json"))
    assert len(found["predictions"]) == 20


def test_layers_and_backbones(work: Callable[..., Outcome], lab: Lab) -> None:
    found = only_json(work("layers", lab.root / "tiny.keras", "--json"))
    assert found["backbone"] == "tiny"
    body = next(one for one in found["layers"] if one["name"] == "body")
    assert body["shape"] == [8, 8, 16]
    assert body["parameters"] == 3 * 3 * 8 * 16 + 16
    assert 0 < body["share"] < 1
    assert body["clean_cut"] is True
    names = [one["name"] for one in only_json(work("backbones", "--json"))["backbones"]]
    assert {"EfficientNetLite0", "InceptionV3"} <= set(names)
    assert len(names) == 43


def test_backbones_are_listed_with_what_a_choice_needs(work: Callable[..., Outcome]) -> None:
    found = only_json(work("backbones", "--json"))
    by_name = {one["name"]: one for one in [*found["backbones"], *found["hub"]]}
    small = by_name["hub:dinov2_small"]
    assert (small["features"], small["license"], small["linear"], small["neighbours"]) == (
        384,
        "Apache-2.0",
        81.1,
        79.0,
    )
    assert "2304.07193" in small["source"]
    assert "dinov2" in small["license_source"]
    assert by_name["hub:clip_vit_base_patch16"]["license_source"] is None
    assert by_name["hub:dinov3_vit_small_lvd1689m"]["license"] == "DINOv3"
    assert by_name["ResNet50"]["parameters"] == 23_587_712  # as keras.io has it, less the 2,049,000 of the top
    for one in by_name.values():
        assert one["parameters"] > 0
        assert one["license"]
        assert (one["linear"] is None) == (one["source"] is None), one["name"]
    text = work("backbones").out
    assert all(name in text for name in by_name)
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split()[0] for line in text.splitlines() if " ?" in line and "hub:" in line] == [
        "hub:clip_vit_base_patch16",
        "hub:clip_vit_large_patch14",
    ]


def test_only_a_head_to_fit_has_more_layers_than_were_asked_for(
    work: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("featx.workflow.prepare.choose_layers_of_tokens", lambda *_: ("body@avg", "last@avg"))
    auto = ("-p", "lab.yaml", "--set", "head.clf=auto")
    assert list(only_json(work("extract", *auto, "--json"))["layers"]) == ["last@avg"]
    assert only_json(work("cache", "export", *auto, "--out", "features.h5", "--json"))["shape"] == [60, 16]
    knn = only_json(work("fit-head", *auto[:2], "--clf", "knn", "--layer", "body", "--strength", "5", "--json"))
    tuned = work("finetune", *auto, "--from", knn["bundle"], "--epochs", "1", "--regraft", "--json")
    assert tuned.status == 0, tuned.err  # on the layer of the bundle, which the file does not name
    fitted = only_json(work("fit-head", *auto, "--combine", "none", "--json"))
    titles = {
        title.split(" ")[0] for title in json.loads((tmp_path / fitted["bundle"] / "bundle.json").read_text())["search"]
    }
    assert titles == {"body@avg", "last@avg"}


def test_fine_tuning_says_whether_it_beat_the_head(work: Callable[..., Outcome], tmp_path: Path) -> None:
    assert work("fit-head", "-p", "lab.yaml").status == 0
    found = only_json(work("finetune", "-p", "lab.yaml", "--epochs", "1", "--unfreeze", "last", "--json"))
    assert {"bundle", "clf", "params", "seconds", "val", "test", "from", "verdict"} <= found.keys()
    assert found["bundle"].endswith("2-logreg-finetuned")
    assert found["summary"]["images"] == found["test"]["images"]
    assert found["summary"]["right"] == round(found["test"]["accuracy"] * found["test"]["images"])
    about = json.loads((tmp_path / found["bundle"] / "bundle.json").read_text())
    assert about["finetune"]["unfreeze"] == "last"
    assert about["from"]["bundle"] == "1-logreg"

    unknown = work("finetune", "-p", "lab.yaml", "--from", "runs/lab/1-logreg", "--unfreeze", "lsat")
    assert unknown.status == 2
    assert "Did you mean 'last'" in unknown.sentence

    knn = work("fit-head", "-p", "lab.yaml", "--clf", "knn", "--strength", "3", "--json").json["bundle"]
    refused = work("finetune", "-p", "lab.yaml", "--from", knn)
    assert refused.status == 1
    assert "is not a network" in refused.sentence


@pytest.mark.slow
def test_a_process_prints_one_object_and_the_rest_on_stderr(
    featx: Callable[..., Any], tiny_backbone: Path, image_folder: Callable[..., Path]
) -> None:
    folder = image_folder(4)
    (folder / "cat" / "broken.png").write_bytes(b"")
    done = featx(
        "extract", folder, "--backbone", tiny_backbone, "--layer", "low", "--layer", "high", "--json", fresh=True
    )
    assert done.stdout.count("\n") == 1  # whatever TensorFlow and OpenVINO have to say
    assert done.json["computed"] == 8
    assert done.json["bad"] == [{"path": str(folder / "cat" / "broken.png"), "reason": "empty file"}]
    assert set(done.json["layers"]) == {"low@avg", "high@avg"}
    failed = featx("extract", "nowhere", "--json", status=1, fresh=True)
    assert json.loads(failed.stdout)["error"]["kind"] == "data"
    assert failed.stderr.startswith("featx: ")
    assert failed.stderr.count("\n") == 1
    wrong = featx("extract", folder, "--pooling", "mean", "--json", status=2, fresh=True)
    assert "avg, max, grid:N" in json.loads(wrong.stdout)["error"]["hint"]
    assert "avg, max, grid:N" in wrong.stderr


# --- exit statuses and messages ----------------------------------------------------------------------------------


def csv_without_labels(folder: Path) -> None:
    rows = [f"pictures/red/0-{number:02}.png,x,train" for number in range(4)]
    (folder / "index.csv").write_text("\n".join(["path,kind,part", *rows]))


def csv_to_fill_in(folder: Path) -> None:
    rows = [f"pictures/red/0-{number:02}.png," for number in range(4)]
    (folder / "next.csv").write_text("\n".join(["path,label", *rows]))


def one_class(folder: Path) -> None:
    shutil.copytree(folder / "pictures" / "red", folder / "single" / "red")


def empty_folder(folder: Path) -> None:
    (folder / "empty").mkdir()


def a_folder(folder: Path) -> None:
    (folder / "p.csv").mkdir()


def a_file(folder: Path) -> None:
    (folder / "file").write_text("x")


ESTIMATOR = ["fit-head", "pictures", "OPTIONS", "--clf", "estimator", "--estimator", "sklearn.naive_bayes.GaussianNB"]
RADIAL = ["fit-head", "pictures", "OPTIONS", "--clf", "svm", "--kernel", "rbf"]


@pytest.mark.parametrize(
    ("make", "arguments", "status", "words"),
    [
        (empty_folder, ["fit-head", "empty"], 1, ["empty"]),
        (empty_folder, ["predict", "empty", "--model", "BUNDLE"], 1, ["empty"]),
        (one_class, ["fit-head", "single", "OPTIONS"], 1, ["red", "classes"]),
        (csv_without_labels, ["fit-head", "index.csv", "OPTIONS"], 1, ["no labels", "CSV"]),
        (csv_to_fill_in, ["fit-head", "next.csv", "OPTIONS"], 1, ["No image in next.csv", "featx label next.csv"]),
        (csv_without_labels, ["fit-head", "index.csv", "--label-column", "kidn"], 1, ["'kidn'", "path, kind, part"]),
        (csv_without_labels, ["check", "index.csv", "--path-column", "file"], 1, ["'file'", "path, kind, part"]),
        (None, ["extract", "gone"], 1, ["gone"]),
        (None, ["extract", "pictures", "OPTIONS", "--layer", "boby"], 1, ["No layer 'boby'", "Did you mean 'body'"]),
        (None, ["extract", "pictures", "--backbone", "ResNet5"], 1, ["ResNet5", "Did you mean", "ResNet50"]),
        (None, ["extract", "pictures", "--pooling", "mean"], 2, ["'mean'", "avg, max, grid:N"]),
        (None, ["extract", "pictures", "--input-size", "0"], 2, ["features.input_size", "at least 1"]),
        (None, ["fit-head", "pictures", "--clf", "forest"], 2, ["forest", "logreg", "knn"]),
        (None, ["fit-head", "pictures", "--split", "a,b"], 2, ["a,b", "commas"]),
        (None, ["fit-head", "pictures", "--split", "0.8,0.2"], 2, ["--split", "3 are needed"]),
        (None, ["fit-head", "pictures", "OPTIONS", "--split", "0.8,0.3,0.2"], None, ["0.8"]),
        (None, ["fit-head", "pictures", "--classes", "red,blue"], 1, ["green"]),
        (None, ["fit-head", "-p", "gone.yaml"], 2, ["No pipeline file gone.yaml"]),
        (None, ["fit-head", "-p", "lab.yaml", "--set", "head.clv=svm"], 2, ["'head.clv'", "Did you mean 'clf'"]),
        (None, [*ESTIMATOR, "--strength", "5"], 2, ["head.strength", "5.0", "--grid"]),
        (None, [*ESTIMATOR, "--grid", "{var_smoothing: [-1]}"], 1, ["GaussianNB cannot be fitted", "var_smoothing"]),
        (None, [*RADIAL, "--strength", "1", "--class-weight", "red=0"], 1, ["class of weight 0", "--classes"]),
        (
            a_file,
            ["extract", "pictures", "--cache", "file"],
            1,
            ["file is a file, but a folder is needed", "Choose"],
        ),
        (a_file, ["data", "digits", "--out", "file"], 1, ["file is a file, but a folder is needed"]),
        (
            a_file,
            ["predict", "pictures", "--model", "BUNDLE", "--out", "file/x.csv"],
            1,
            ["file is a file, but a folder is needed"],
        ),
        (None, ["predict", "pictures", "--model", "BUNDLE", "--out", "/proc/x.csv"], 1, ["Cannot write into /proc"]),
        (a_folder, ["predict", "pictures", "--model", "BUNDLE", "--out", "p.csv"], 1, ["p.csv is a folder"]),
        (None, ["evaluate", "-p", "lab.yaml"], 1, ["No bundle", "featx fit-head"]),
        (None, ["evaluate", "BUNDLE"], 2, ["was made from pictures", "--data", "-p FILE"]),
        (None, ["predict", "pictures", "-p", "lab.yaml"], 1, ["No bundle", "featx fit-head"]),
        (None, ["predict", "pictures", "--model", "gone"], 1, ["No bundle at gone"]),
        (None, ["predict", "gone.png", "--model", "BUNDLE"], 1, ["gone.png"]),
        (None, ["predict"], 2, ["IMAGES"]),
        (None, ["bundle", "unpack", "gone.featx"], 2, ["gone.featx"]),
        (None, ["bundle", "unpack", "pictures"], 2, ["pictures is a folder, but a .featx file is needed"]),
        (None, ["bundle", "verify", "pictures"], 1, ["No bundle"]),
        (None, ["predit", "x"], 2, ["Did you mean 'predict'"]),
        (None, ["extract", "pictures", "--laier", "x"], 2, ["--laier", "--layer"]),
        (None, ["layers", "EfficientNetLite"], 1, ["EfficientNetLite0"]),
    ],
)
def test_a_failure_is_one_sentence_that_helps(
    work: Callable[..., Outcome],
    lab: Lab,
    tmp_path: Path,
    make: Callable[[Path], None] | None,
    arguments: list[str],
    status: int | None,
    words: list[str],
) -> None:
    if make is not None:
        make(tmp_path)
    options = ["--backbone", str(lab.root / "tiny.keras"), "--cache", str(lab.root / "cache")]
    typed = [part for one in arguments for part in (options if one == "OPTIONS" else [one])]
    typed = [str(lab.bundle("logreg").path) if one == "BUNDLE" else one for one in typed]
    outcome = work(*typed)
    assert outcome.status == status or (status is None and outcome.status in {1, 2}), outcome.err
    assert outcome.out == ""
    assert "Unexpected" not in outcome.err
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.sentence, outcome.err


def test_without_data_the_demo_says_how_to_get_it(work: Callable[..., Outcome]) -> None:
    outcome = work("extract")
    assert outcome.status == 2
    assert outcome.sentence.endswith("write the demo's: featx data digits --out cache/data/digits")


def test_verbose_shows_where_an_error_comes_from(work: Callable[..., Outcome]) -> None:
    assert "Traceback" in work("-v", "extract", "gone").err
    assert "Traceback" not in work("extract", "gone").err


def test_a_mistake_in_featx_is_told_as_such(work: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("featx.workflow.prepare.prepare", fail)
    outcome = work("fit-head", "pictures")
    assert outcome.status == 1
    assert outcome.sentence.startswith("featx: Unexpected ZeroDivisionError: oh.")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "No space left on the disk that holds /x"),
        (OSError(errno.EIO, "Input/output error", "/x/y"), "Check the disk and its limits"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "Cannot write to /x: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "set TMPDIR to a folder"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "Use fewer --workers"),
        (RuntimeError("can't start new thread"), "Use fewer --workers"),
        (RuntimeError("plugin.cpp:54: Resource temporarily unavailable"), "Use fewer --workers"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Not enough memory. Use a smaller --infer-batch"),
        (ImportError("libtensorflow.so: failed to map segment from shared object"), "Not enough memory."),
    ],
)
def test_limits_of_the_system_are_no_mistake_in_featx(
    work: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("featx.workflow.prepare.prepare", fail)
    outcome = work("fit-head", "pictures")
    assert outcome.status == 1
    assert words in outcome.sentence
    assert "Unexpected" not in outcome.err


def test_interrupted(work: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("featx.workflow.prepare.prepare", interrupt)
    outcome = work("fit-head", "pictures")
    assert outcome.status == 130
    assert "run the same command again" in outcome.sentence


def test_help_lists_every_command_and_every_command_has_help(work: Callable[..., Outcome]) -> None:
    from featx.cli.app import _COMMANDS

    text = work("--help")
    assert text.status == 0
    for name in _COMMANDS:
        assert f"\n  {name} " in text.out
        one = work(name, "--help")
        assert one.status == 0
        assert f"Usage: featx {name}" in one.out
    assert work("--version").out.startswith("featx, version ")
    assert work().status == 2


# --- run ---------------------------------------------------------------------------------------------------------


def stages(outcome: Outcome) -> dict[str, tuple[bool, str]]:
    return {one["stage"]: (one["done"], one["why"]) for one in only_json(outcome)["stages"]}


def test_run_does_what_is_out_of_date_and_says_why(work: Callable[..., Outcome], tmp_path: Path) -> None:
    first = work("run", "-p", "lab.yaml", "--set", "finetune.enabled=true", "--json")
    assert {name: done for name, (done, _) in stages(first).items()} == {
        "extract": False,  # the lab has done it
        "fit-head": True,
        "finetune": True,
    }
    assert stages(first)["extract"][1] == "0 images computed, 60 reused"
    again = work("run", "-p", "lab.yaml", "--set", "finetune.enabled=true", "--json")
    assert not any(done for done, _ in stages(again).values())
    assert stages(again)["fit-head"][1] == "up to date: runs/lab/1-logreg"
    assert stages(again)["finetune"][1] == "up to date: runs/lab/2-logreg-finetuned"
    assert again.json["bundle"] == first.json["bundle"]
    test = load_bundle(tmp_path / first.json["bundle"]).manifest.metrics_on("test")
    right = round(test.values["accuracy"] * test.images)
    assert (first.json["summary"]["part"], first.json["summary"]["right"]) == ("test", right)
    assert sorted(path.name for path in (tmp_path / "runs" / "lab").glob("*-*")) == ["1-logreg", "2-logreg-finetuned"]

    other = work("run", "-p", "lab.yaml", "--set", "head.clf=ridge", "--json")
    assert stages(other)["fit-head"] == (True, "no bundle with these features and options")
    assert stages(other)["finetune"] == (False, "finetune.enabled is false")
    text = work("run", "-p", "lab.yaml")
    assert "skipped" in text.out
    assert f"best bundle: {other.json['bundle']}" in text.out
    best = load_bundle(tmp_path / other.json["bundle"])
    before = other.json["summary"]
    if best.manifest.finetune is None:  # its features are cached
        assert text.out.splitlines()[-2] == before["text"]
        assert text.out.splitlines()[-1].startswith(f"Next: {before['next'][0]['text']}")
    else:
        assert before is None


def parts_by_content(folder: Path, run: Path) -> dict[str, str]:
    digests, codes = read_split(run / "split" / "split.npz")
    split = dict(zip(digests.tolist(), codes.tolist(), strict=True))
    return {digest_file(path).hex(): SPLITS[split[digest_file(path)]] for path in folder.rglob("*.png")}


def test_new_images_are_computed_alone_and_old_ones_keep_their_part(
    work: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert work("run", "-p", "lab.yaml").status == 0
    before = parts_by_content(tmp_path / "pictures", tmp_path / "runs" / "lab")
    write_pictures(tmp_path / "pictures", 4, seed=77)
    found = stages(work("run", "-p", "lab.yaml", "--json"))
    assert found["extract"] == (True, "12 images computed, 60 reused")
    assert found["fit-head"][0] is True
    after = parts_by_content(tmp_path / "pictures", tmp_path / "runs" / "lab")
    assert len(after) == 72
    assert {name: after[name] for name in before} == before
    assert {after[name] for name in after.keys() - before.keys()} == {"train", "val", "test"}


def test_a_relabelled_image_costs_a_fit_and_no_extraction(work: Callable[..., Outcome], tmp_path: Path) -> None:
    assert work("run", "-p", "lab.yaml").status == 0
    before = parts_by_content(tmp_path / "pictures", tmp_path / "runs" / "lab")
    shutil.move(tmp_path / "pictures" / "red" / "0-03.png", tmp_path / "pictures" / "blue" / "0-77.png")
    found = stages(work("run", "-p", "lab.yaml", "--json"))
    assert found["extract"] == (False, "0 images computed, 60 reused")
    assert found["fit-head"][0] is True
    after = parts_by_content(tmp_path / "pictures", tmp_path / "runs" / "lab")
    assert after == before
    # a new name alone changes nothing at all
    shutil.move(tmp_path / "pictures" / "red" / "0-04.png", tmp_path / "pictures" / "red" / "renamed.png")
    assert not any(done for done, _ in stages(work("run", "-p", "lab.yaml", "--json")).values())


# --- what people read --------------------------------------------------------------------------------------------


def test_results_are_on_stdout_and_the_rest_on_stderr(work: Callable[..., Outcome], tmp_path: Path) -> None:
    fitted = work("fit-head", "-p", "lab.yaml", "--set", "head.strength=null")
    assert "balanced_accuracy" in fitted.out
    assert "runs/lab/1-logreg" in fitted.out
    assert "(cv)" in fitted.err  # the search
    assert "(cv)" not in fitted.out
    told = work("predict", "pictures/red/0-00.png", "--model", "runs/lab", "--top", "3")
    assert "Predicting with runs/lab/1-logreg" in told.err
    assert "0-00.png" in told.out
    assert told.out.count("%") == 3
    written = work("predict", "pictures", "--model", "runs/lab", "--out", "found.csv")
    assert "60 predictions, 0 bad -> found.csv" in written.out
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 61
    measured = work("evaluate", "runs/lab", "--data", "pictures")
    assert "truth down, prediction across" in measured.out
    assert "30 of these images were trained on" in measured.err


def test_two_runs_do_not_stop_a_command_that_names_no_model(
    work: Callable[..., Outcome], lab: Lab, tmp_path: Path
) -> None:
    for name in ("first", "pictures"):
        assert work("fit-head", "-p", "lab.yaml", "--name", name).status == 0
    image = "pictures/red/0-00.png"
    said = "runs/pictures/1-logreg, the best of the newest run. For another one: --model NAME; featx models lists them."
    assert f"Predicting with {said}" in work("predict", image).err
    assert "Explaining runs/pictures/1-logreg by " in work("explain", image, "--out", "maps").err
    assert f"Measuring {said}" in work("evaluate", "--data", "pictures", "--no-html").err
    assert work("bundle", "pack", "first", "--out", "one.featx").status == 0
    for command in (
        ["predict", image, "--model", "one.featx"],
        ["evaluate", "one.featx", "--data", "pictures", "--no-html"],
    ):
        assert "with one.featx\n" in (told := work(*command)).err or "Measuring one.featx\n" in told.err
    assert work("evaluate", "one.featx", "--data", "pictures", "--no-html", "--json").json["bundle"] == "one.featx"
    # of the data's own run, since all of its images have the features
    by = work("similar", image, "--data", "pictures", "--cache", lab.root / "cache")
    assert "Comparing by runs/pictures/1-logreg, the best of runs/pictures whose features are cached." in by.err
    same = work("similar", image, "--data", "pictures", "--cache", lab.root / "cache", "--model", "first")
    assert same.out == by.out


def test_another_folder_of_the_same_name_does_not_join_the_run(
    work: Callable[..., Outcome], lab: Lab, tmp_path: Path
) -> None:
    options = ("--backbone", lab.root / "tiny.keras", "--cache", tmp_path / "cache", "--no-html")
    for number, place in enumerate(("a", "b")):
        write_pictures(tmp_path / place / "photos", 4, seed=number)
    assert work("fit-head", "a/photos", *options).status == 0
    refused = work("fit-head", "b/photos", *options)
    assert refused.status == 2
    assert "none of the 12 in b/photos is among them. Keep the results apart: --name b-photos." in refused.sentence
    assert work("look", "b/photos", *options).status == 2
    assert [path.name for path in (tmp_path / "runs" / "photos").glob("*-*")] == ["1-logreg"]
    assert work("fit-head", "b/photos", *options, "--name", "b-photos").status == 0


def test_tables_are_aligned() -> None:
    text = table(["name", "n", "share"], [("a", 1_234, 0.5), ("longer", None, 0.25)])
    assert text.splitlines() == ["name        n   share", "a       1,234  0.5000", "longer      -  0.2500"]
    assert table(["only", "headers"], []) == "only  headers"
    assert table(["x"], [(True,), (False,)]).splitlines()[1:] == ["yes", "no"]


def test_bad_images_are_listed_shortly() -> None:
    bad = [{"path": f"{i}.png", "reason": "empty file"} for i in range(12)]
    assert bad_images([]) == ""
    assert bad_images(bad[:1]) == "1 image could not be read and was left out:\n  0.png: empty file"
    assert bad_images(bad).splitlines()[-1] == "  and 2 more; --json lists them all"


def test_bars_are_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        bars("extract", 1, 2, bad=1)
        bars("extract", 2, 2)
    assert capsys.readouterr() == ("", "")


def test_bars_print_a_line_every_ten_seconds_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("featx.io.bars.time.monotonic", lambda: now[0])
    with Bars() as bars:
        for done in range(1, 1_501):  # a hundred in a second
            now[0] += 0.01
            bars("extract", done, 1_500)
    assert capsys.readouterr().err.splitlines() == ["extract: 1,000 of 1,500 images"]
    with Bars(quiet=True) as bars:
        now[0] += 60
        bars("extract", 1, 2)
    assert capsys.readouterr().err == ""


def test_bars_show_rate_counts_and_stages(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Bars() as bars:
        bars("hash", 5, 10)
        bars("extract", 3, 10, reused=4, bad=1)
        bars("extract", 10, 10, reused=4, bad=1)
    shown = capsys.readouterr().err
    assert "hash" in shown
    assert "extract: 100%" in shown or "extract:  30%" in shown
    assert "images" in shown
    assert "bad=1" in shown
    assert "reused=4" in shown


def test_what_large_libraries_make_is_not_looked_over_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    def frozen_by(modules: int) -> int:
        before = gc.get_freeze_count()
        with without_garbage_collection():
            for number in range(modules):
                monkeypatch.setitem(sys.modules, f"imported_{modules}_{number}", ModuleType("imported"))
        return gc.get_freeze_count() - before

    monkeypatch.setattr("featx.io.lazy._KeptImports.wanted", False)
    assert frozen_by(150) == 0  # in the process of somebody else, whose garbage it may be
    keep_imports()
    assert frozen_by(10) == 0
    assert frozen_by(160) > 160
    assert gc.isenabled()
