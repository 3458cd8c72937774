"""Fine-tuning from the start to the result: what it starts from, what it leaves, and that it never loses anything."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from math import ceil, floor
from pathlib import Path
from typing import Any

import forked
import h5py
import numpy as np
import pytest
import yaml
from arrays import weights_of
from cached import prepare
from conftest import environment
from fitted import Lab, Outcome, call, with_finetune, write_squares
from forked import Forked

from featx.bundle.bundle import Bundle, load_bundle
from featx.config.pipeline import as_yaml
from featx.dataset import TRAIN
from featx.finetune.examples import make_examples
from featx.heads.base import row_weights
from featx.images.decoder import load_image
from featx.inference.predict import predict
from featx.metrics.comparison import compare
from featx.runs.prepared import Prepared
from featx.runs.run import Run
from featx.workflow.publish import publish_finetuned, publish_head


def on_tensorflow(lab: Lab) -> Any:
    return replace(lab.pipeline, features=replace(lab.pipeline.features, engine="tensorflow"))


@pytest.fixture
def work(lab: Lab, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a command beside `lab.yaml`, whose results go to `runs/lab` there."""
    report = replace(lab.pipeline.report, runs="runs")
    (tmp_path / "lab.yaml").write_text(as_yaml(replace(on_tensorflow(lab), report=report)))

    def run(*arguments: Any) -> Outcome:
        return call(*map(str, arguments), cwd=tmp_path)

    return run


def read_log(bundle: Path) -> list[dict[str, str]]:
    with open(bundle / "training.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pixels(paths: list[str]) -> np.ndarray:
    return np.stack([load_image(path, (32, 32), "stretch") for path in paths]).astype(np.float32)


# --- callbacks ---------------------------------------------------------------------------------------------------


def test_schedule_stop_log_curves_and_checkpoints_of_a_fine_tune(
    work: Callable[..., Outcome], lab: Lab, tmp_path: Path
) -> None:
    import keras

    start = lab.bundle("logreg").path
    schedule = ("--schedule", "piecewise", "--boundaries", "1,2", "--rates", "1e-4,1e-3,5e-4", "--epochs", "5")
    stop = ("--optimizer", "rmsprop", "--stop-val-accuracy", "0.01", "--checkpoints", "all", "--tensorboard", "curves")
    # the first epoch reaches such an accuracy
    first = work("finetune", "-p", "lab.yaml", "--from", start, *schedule, *stop, "--unfreeze", "none", "--json")
    assert first.status == 0, first.err
    assert len(read_log(tmp_path / first.json["bundle"])) == 1

    more = ("--optimizer", "rmsprop", "--patience", "2", "--min-delta", "0.9", "--checkpoints", "all", "--html")
    done = work(
        "finetune", "-p", "lab.yaml", "--from", start, *schedule, *more, "--tensorboard", "curves", "--html", "--json"
    )
    assert done.status == 0, done.err
    bundle = load_bundle(tmp_path / done.json["bundle"])
    rows = read_log(bundle.path)
    # an improvement by 0.9 comes in the first epoch at most
    assert [float(row["learning_rate"]) for row in rows] == [1e-4, 1e-4, 1e-3]
    history = [epoch.values for epoch in bundle.manifest.history]
    for name, told in (("loss", "loss"), ("accuracy", "accuracy"), ("val_loss", "val_log_loss")):
        assert [float(row[name]) for row in rows] == [one[told] for one in history]
    assert all(one["seconds"] > 0 for one in history)
    events = list((tmp_path / "curves" / "lab").glob("finetune-*/*/events.out.tfevents.*"))
    assert {path.parent.name for path in events} == {"train", "validation"}

    kept = sorted((bundle.path / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["epoch-001.keras", "epoch-002.keras", "epoch-003.keras"]
    assert not any(name.startswith("checkpoints") for name in bundle.manifest.files)
    best = kept[bundle.manifest.finetune.best_epoch - 1]
    whole = keras.saving.load_model(best)  # as anyone can, without featx
    images = pixels(lab.pictures[::7])
    backbone = keras.saving.load_model(bundle.path / "backbone.keras", compile=False)
    expected = bundle.head(np.asarray(backbone(images)["last@avg"]))
    ratio = np.asarray(whole(images)) / expected  # the temperature that was found afterwards
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
    assert (tmp_path / done.json["report"]).with_name("learning.png").exists()


def test_only_the_best_network_is_kept_where_that_is_asked_for(lab: Lab, prepared: Prepared) -> None:
    tuned = publish_finetuned(
        lab.bundle("logreg"), with_finetune(prepared, epochs=3, checkpoints="best", unfreeze="none")
    )
    (kept,) = (tuned.path / "checkpoints").iterdir()
    assert kept.name == f"epoch-{tuned.manifest.finetune.best_epoch:03}.keras"
    assert not list(prepared.run.path.glob(".finetune-*"))


def test_nothing_of_the_optimizer_is_saved(lab: Lab, prepared: Prepared) -> None:
    import keras

    tuned = publish_finetuned(
        lab.bundle("dense"),
        with_finetune(prepared, epochs=1, optimizer="adam", checkpoints="all", unfreeze="last"),
    )
    networks = sorted(tuned.path.rglob("*.keras"))
    assert {path.name for path in networks} == {"backbone.keras", "head.keras", "epoch-001.keras"}
    for path in networks:
        with zipfile.ZipFile(path) as archive:
            assert not json.loads(archive.read("config.json")).get("compile_config")
            with archive.open("model.weights.h5") as file, h5py.File(file) as held:
                assert "optimizer" not in held
                values: list[int] = []
                held.visititems(lambda _, one, values=values: values.append(getattr(one, "size", 0)))
        found = sum(array.size for array in keras.saving.load_model(path, compile=False).get_weights())
        assert found <= sum(values) <= found + 4  # what dropout draws from; Adam keeps twice as many as there are


# --- it never loses ----------------------------------------------------------------------------------------------


def test_a_fine_tune_that_got_worse_is_not_what_predicts(
    work: Callable[..., Outcome], lab: Lab, tmp_path: Path
) -> None:
    fitted = work("fit-head", "-p", "lab.yaml", "--json").json
    done = work("finetune", "-p", "lab.yaml", "--epochs", "1", "--optimizer", "sgd", "--learning-rate", "0.5")
    assert done.status == 0, done.err
    tuned = load_bundle(tmp_path / "runs" / "lab" / "2-logreg-finetuned")
    assert tuned.manifest.metrics_on("val").get("accuracy") < fitted["val"]["accuracy"]
    assert tuned.manifest.verdict in done.out.splitlines()
    assert tuned.manifest.verdict.startswith("Fine-tuning does not beat 1-logreg on val (accuracy 0.")
    assert Run(tmp_path / "runs" / "lab").best().path.name == "1-logreg"
    told = work("predict", lab.pictures[0], "-p", "lab.yaml", "--json")
    by_name = work("predict", lab.pictures[0], "--model", "runs/lab/1-logreg", "--json")
    assert told.status == 0, told.err
    assert told.json == by_name.json


def test_both_are_compared_on_the_same_images(lab: Lab, prepared: Prepared) -> None:
    start = lab.bundle("svm")
    tuned = publish_finetuned(start, with_finetune(prepared, learning_rate=1e-2))
    sample = prepared.sample
    for part, code in (("val", 1), ("test", 2)):
        rows = np.flatnonzero(sample.split == code)
        paths = [sample.images.paths[row] for row in sample.rows[rows]]
        truth = [sample.images.classes[code] for code in sample.y[rows]]
        right = [
            np.array([one.label for one in predict(bundle, paths)]) == np.array(truth) for bundle in (tuned, start)
        ]
        expected, found = compare(*right), tuned.manifest.comparison[part]
        assert found.images == len(rows)
        assert found.only == expected.only
        assert found.p_value == pytest.approx(expected.p_value)
        assert found.interval == pytest.approx(expected.interval)
        low, high = floor(100 * expected.interval[0]) / 100, ceil(100 * expected.interval[1]) / 100
        assert f"accuracy {low:+.2f} to {high:+.2f}" in tuned.manifest.verdict


# --- what it starts from -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [("knn",), ("svm", "--kernel", "rbf")])
def test_a_head_that_is_no_network_is_fitted_again_as_one(
    work: Callable[..., Outcome], tmp_path: Path, head: Any
) -> None:
    class_weight = "none" if head == ("knn",) else "red=3,blue=0.5"  # which nearest neighbours do not heed
    fit_options = ("--clf", *head, "--strength", "5", "--normalize", "l2", "--class-weight", class_weight)
    first = work("fit-head", "-p", "lab.yaml", *fit_options, "--json")
    assert first.status == 0, first.err
    refused = work("finetune", "-p", "lab.yaml", "--epochs", "1")
    assert refused.status == 1
    assert "logreg, svm, ridge, dense" in refused.sentence
    assert "--regraft" in refused.sentence
    little = ("--epochs", "1", "--unfreeze", "none", "--optimizer", "sgd", "--regraft", "--json")
    done = work("finetune", "-p", "lab.yaml", *little)
    assert done.status == 0, done.err
    names = sorted(path.name for path in (tmp_path / "runs" / "lab").glob("[0-9]*"))
    assert names == [f"1-{head[0]}", "2-logreg", "3-logreg-finetuned"]
    again = load_bundle(tmp_path / "runs" / "lab" / "2-logreg")
    assert again.transform.unit
    assert again.manifest.head.class_weight == class_weight
    assert again.manifest.split == load_bundle(tmp_path / "runs" / "lab" / f"1-{head[0]}").manifest.split
    assert load_bundle(tmp_path / done.json["bundle"]).manifest.origin.bundle == "2-logreg"
    # what was fitted in its place once is not fitted again
    more = work("finetune", "-p", "lab.yaml", "--from", f"runs/lab/1-{head[0]}", *little)
    assert more.json["bundle"].endswith("4-logreg-finetuned")
    other = work("finetune", "-p", "lab.yaml", "--from", f"runs/lab/1-{head[0]}", "--regraft", "--layer", "body")
    assert other.status == 2
    assert "last@avg" in other.sentence


def test_a_fine_tuned_bundle_is_trained_further(work: Callable[..., Outcome], tmp_path: Path) -> None:
    assert work("fit-head", "-p", "lab.yaml", "--clf", "ridge").status == 0
    first = work("finetune", "-p", "lab.yaml", "--epochs", "1", "--json").json["bundle"]
    little = ("--epochs", "1", "--unfreeze", "none", "--learning-rate", "1e-4", "--json")
    more = work("finetune", "-p", "lab.yaml", "--from", first, *little)
    assert more.status == 0, more.err
    before, after = load_bundle(tmp_path / first), load_bundle(tmp_path / more.json["bundle"])
    assert after.manifest.origin.bundle == before.path.name == "2-ridge-finetuned"
    # it begins with what it came from, measured again
    for part in ("val", "test"):
        for name in ("accuracy", "log_loss"):
            again = after.manifest.origin.metrics_on(part).get(name)
            assert again == pytest.approx(before.manifest.metrics_on(part).get(name), abs=1e-4)
    assert after.manifest.backbone.finetuned


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weight", ["none", "balanced", "red=3,blue=0.5"])
def test_the_weights_of_the_head_are_those_of_the_fine_tune(lab: Lab, tmp_path: Path, class_weight: str) -> None:
    given = np.random.default_rng(0).uniform(0.5, 2, len(lab.prepared.sample.rows))
    uneven = lab.prepared.sample.split.copy()
    uneven[np.flatnonzero((uneven == TRAIN) & (lab.prepared.sample.y == 0))[:5]] = 2
    sample = replace(lab.prepared.sample, weight=given, split=uneven)
    head = replace(lab.pipeline.head, class_weight=class_weight, strength=0.01)
    weighed = replace(lab.prepared, sample=sample, run=Run(tmp_path), pipeline=replace(on_tensorflow(lab), head=head))
    bundle = publish_head(weighed)
    little = with_finetune(weighed, epochs=1, unfreeze="none", optimizer="sgd")
    train = sample.split == TRAIN
    y = sample.y[train]
    if class_weight == "balanced":
        expected = row_weights(y, given[train], "balanced")
    else:
        by_name = {"red": 3.0, "blue": 0.5} if "red" in class_weight else {}
        expected = given[train] * np.array([by_name.get(sample.images.classes[code], 1.0) for code in y])
    found = make_examples(bundle, weighed).targets.weight[train]
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-5)
    again = make_examples(publish_finetuned(bundle, little), weighed).targets.weight[train]
    np.testing.assert_array_equal(again, found)


def test_the_first_step_is_that_of_keras_with_the_weights(lab: Lab, prepared: Prepared) -> None:
    """One step of plain SGD on all images at once moves the head as Keras' own training does."""
    import keras

    from featx.finetune.flow import graft
    from featx.finetune.unfreezing import Unfreezing

    start = lab.bundle("logreg")
    sample = prepared.sample
    weight = np.random.default_rng(1).uniform(0.1, 3, len(sample.rows))
    weighed = replace(prepared, sample=replace(sample, weight=weight))
    tuned = publish_finetuned(
        start, with_finetune(weighed, epochs=1, batch_size=64, optimizer="sgd", momentum=0.0, learning_rate=0.1)
    )
    model = graft(start)
    Unfreezing(model, ["featx_head"], "all").set(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    rows = np.flatnonzero(sample.split == TRAIN)
    paths = [sample.images.paths[row] for row in sample.rows[rows]]
    told = model.train_on_batch(pixels(paths), sample.y[rows], sample_weight=weight[rows] / weight[rows].mean())
    assert tuned.manifest.history[0].values["loss"] == pytest.approx(float(np.asarray(told)), rel=1e-4)
    network = keras.saving.load_model(tuned.path / "backbone.keras", compile=False)
    for name in ("stem", "body", "last"):
        moved = model.get_layer(name).get_weights()[0]
        np.testing.assert_allclose(network.get_layer(name).get_weights()[0], moved, atol=2e-5)
        assert np.abs(moved - graft(start).get_layer(name).get_weights()[0]).max() > 1e-4


# --- several labels per image ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clf", ["logreg", "dense"])
def test_heads_of_several_labels_are_fine_tuned(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clf: str
) -> None:
    import keras

    if clf == "dense":  # its report has the figures of the other
        monkeypatch.setattr("featx.report.report.draw_figures", lambda *_: {})
    data = replace(lab.pipeline.data, path=str(write_squares(tmp_path)), label_separator="$")
    head = replace(lab.head(clf), class_weight="balanced", positive_weight=2.0, folds=2, epochs=3)
    report = replace(lab.pipeline.report, runs=str(tmp_path / "runs"))
    tuning = replace(lab.pipeline.finetune, epochs=3, learning_rate=3e-3)
    features = replace(lab.pipeline.features, engine="tensorflow", pooling=("max",))
    several = prepare(replace(lab.pipeline, data=data, head=head, report=report, finetune=tuning, features=features))
    start = publish_head(several)
    shown = replace(several, pipeline=replace(several.pipeline, report=replace(report, html=True)))
    tuned = publish_finetuned(start, shown)
    manifest = tuned.manifest
    assert manifest.multilabel
    assert len(manifest.thresholds) == 3
    assert manifest.history[-1].values["loss"] < manifest.history[0].values["loss"]
    assert manifest.score.metric == start.manifest.score.metric == "average_precision"
    assert manifest.metrics_on("val").get("exact_match") is not None
    assert manifest.comparison["val"].images == manifest.metrics_on("val").images
    assert (tuned.path / "report" / "index.html").exists()
    # the loss of the first batch order is Keras' binary cross-entropy with the emphasis of each label
    examples = make_examples(start, several)
    truth = several.sample.y[several.sample.split == TRAIN]
    there = truth.sum(axis=0)
    np.testing.assert_allclose(examples.targets.emphasis, 2.0 * (len(truth) - there) / there, rtol=1e-5)
    # and what it tells of the images is what was measured
    rows = np.flatnonzero(several.sample.split == 1)
    paths = [several.sample.images.paths[row] for row in several.sample.rows[rows]]
    given = [set(answer.labels) for answer in predict(tuned, paths)]
    known = [{several.sample.images.classes[i] for i in np.flatnonzero(y)} for y in several.sample.y[rows]]
    exact = np.mean([one == other for one, other in zip(given, known, strict=True)])
    assert exact == pytest.approx(manifest.metrics_on("val").get("exact_match"))
    assert keras.saving.load_model(tuned.path / "backbone.keras", compile=False)


def test_images_of_the_other_kind_are_refused(lab: Lab, tmp_path: Path) -> None:
    data = replace(lab.pipeline.data, path=str(write_squares(tmp_path)), label_separator="$")
    several = prepare(replace(lab.pipeline, data=data, report=replace(lab.pipeline.report, runs=str(tmp_path))))
    from featx.errors import DataError

    with pytest.raises(DataError, match="must have one label per image"):
        publish_finetuned(lab.bundle("logreg"), several)


# --- killed at random --------------------------------------------------------------------------------------------


_BOTH = """
import json, sys
from featx.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_a_random_moment_it_ends_with_the_same_bits(lab: Lab, tmp_path: Path) -> None:
    start = lab.bundle("dense").path  # with dropout
    report = replace(lab.pipeline.report, runs="runs")
    pipeline = replace(on_tensorflow(lab), report=report)
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(yaml.safe_load(as_yaml(pipeline))))
    tuning = ("--epochs", "6", "--batch-size", "3", "--optimizer", "nadam", "--schedule", "cosine")
    tuning += ("--checkpoints", "all", "--json")
    command = ["finetune", "-p", "lab.yaml", "--from", str(start), *tuning, "--name"]
    settings: dict[str, Any] = {"cwd": tmp_path, "env": environment(TF_DETERMINISTIC_OPS="1")}
    random = np.random.default_rng()
    killed = Forked([*command, "part"], **settings)
    wait_for_epochs(killed, tmp_path / "runs" / "part", int(random.integers(1, 5)))
    time.sleep(random.uniform(0, 0.2))
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    # what is left of it, and then the same undisturbed, in one process
    done = forked.run([json.dumps([[*command, name] for name in ("part", "whole")])], code=_BOTH, **settings)
    assert done.returncode == 0, done.stderr
    part, whole = [load_bundle(tmp_path / json.loads(line)["bundle"]) for line in done.stdout.splitlines()]
    assert done.stderr.count("Going on after epoch") == 1
    for one, other in zip(weights(whole), weights(part), strict=True):
        np.testing.assert_array_equal(other, one)
    logs = [[{**row, "seconds": ""} for row in read_log(one.path)] for one in (whole, part)]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 6
    assert whole.manifest.metrics == part.manifest.metrics
    assert len(list((part.path / "checkpoints").iterdir())) == 6


def wait_for_epochs(process: Forked, run: Path, epochs: int) -> None:
    give_up = time.monotonic() + 200
    while process.poll() is None and done_epochs(run) < epochs:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert process.poll() is None, "it was over before it could be killed"


def done_epochs(run: Path) -> int:
    logs = list(run.glob(".finetune-*/history.json"))
    return len(json.loads(logs[0].read_text())) if logs else 0


def weights(bundle: Bundle) -> list[np.ndarray]:
    files = (bundle.path / "backbone.keras", bundle.path / "head.keras")
    return [array for path in files for arrays in weights_of(path).values() for array in arrays]
