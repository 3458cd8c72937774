"""Bundles in MLflow: a local store is asked by MLflow's own client what it was told."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fitted import Lab, call
from manifests import manifest_of

from featx.config import TrackingOptions
from featx.errors import UsageError
from featx.io.context import Context
from featx.runs.prepared import Prepared
from featx.workflow import tracking
from featx.workflow.publish import publish_finetuned, publish_head
from featx.workflow.tracking import describe_parameters, iter_metrics, require_tracker, track

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed: pip install 'featx[mlflow]'"
)


def test_parameters_are_the_options_that_were_said_and_what_was_chosen(lab: Lab) -> None:
    manifest = lab.bundle("logreg").manifest
    head = replace(lab.pipeline.head, clf="logreg", class_weight="balanced")
    found = describe_parameters(manifest, replace(lab.pipeline, head=head))
    assert found["head.class_weight"] == "balanced"
    assert found["data.split"] == "(0.5, 0.25, 0.25)"
    assert "head.metric" not in found  # at its default
    assert found["layers"] == "last@avg"
    assert found["chosen.C"] == str(manifest.head.params["C"])
    assert found["images.train"] == "30"


def test_metrics_are_all_figures_and_the_epochs(lab: Lab) -> None:
    manifest = lab.bundle("dense").manifest
    found = {(name, step): value for name, value, step in iter_metrics(manifest)}
    assert found["val/accuracy", 0] == manifest.metrics_on("val").get("accuracy")
    assert found["test/log_loss", 0] == manifest.metrics_on("test").get("log_loss")
    losses = [value for (name, _), value in found.items() if name == "epoch/loss"]
    assert losses == [epoch.values["loss"] for epoch in manifest.history]
    assert not [name for name, _ in found if "interval" in name]
    undefined = manifest_of(metrics={"val": {"images": 0, "accuracy": None}, "test": None})
    assert not list(iter_metrics(undefined))


def test_without_the_package_it_is_refused_at_once(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it could not be found
    with pytest.raises(UsageError, match=r"pip install 'featx\[mlflow\]'"):
        require_tracker(TrackingOptions(tracker="mlflow"))
    require_tracker(TrackingOptions())
    done = call("fit-head", lab.root / "pictures", "--tracker", "mlflow", cwd=tmp_path)
    assert done.status == 2
    assert "not installed" in done.sentence
    assert not list(tmp_path.iterdir())


def test_a_store_that_fails_is_a_warning(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tracking, "_log_to_mlflow", fail)
    pipeline = replace(lab.pipeline, tracking=TrackingOptions(tracker="mlflow"))
    with caplog.at_level(logging.WARNING):
        track(lab.bundle("logreg"), pipeline)
        track(lab.bundle("logreg"), lab.pipeline)
    assert [record.getMessage() for record in caplog.records] == [
        f"{lab.bundle('logreg').path} could not be tracked: no route to host"
    ]


@pytest.mark.slow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # MLflow's own libraries use what others deprecate
def test_a_fit_and_a_fine_tune_are_runs_of_one_experiment(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    pipeline = replace(
        prepared.pipeline,
        head=replace(prepared.pipeline.head, clf="dense"),
        report=replace(prepared.pipeline.report, html=True),
        tracking=TrackingOptions(tracker="mlflow", tracking_uri=store),
    )
    work = replace(prepared, pipeline=pipeline)
    first = publish_head(work, Context("featx fit-head"))
    second = publish_finetuned(first, work, Context("featx finetune"))
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(prepared.run.name)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {first.path.name, second.path.name}
    for bundle in (first, second):
        run = runs[bundle.path.name]
        assert run.info.status == "FINISHED"
        for part in ("val", "test"):
            assert run.data.metrics[f"{part}/accuracy"] == bundle.manifest.metrics_on(part).get("accuracy")
        history = client.get_metric_history(run.info.run_id, "epoch/val_accuracy")
        told = {one.step: one.value for one in history}
        assert told == {one.epoch: one.values["val_accuracy"] for one in bundle.manifest.history}
        assert run.data.params["head.clf"] == "dense"
        assert run.data.tags["featx.digest"] == bundle.manifest.digest
        names = {one.path for one in client.list_artifacts(run.info.run_id)}
        assert names == {"bundle.json", "model-card.md", "report"}
        copy = client.download_artifacts(run.info.run_id, "bundle.json", str(tmp_path))
        assert json.loads(Path(copy).read_text())["digest"] == bundle.manifest.digest
        assert "report/index.html" in {one.path for one in client.list_artifacts(run.info.run_id, "report")}
