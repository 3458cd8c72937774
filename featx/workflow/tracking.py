"""Record results in a tracker: an MLflow store, in a local file or on a server.

A tracked run is a bundle: what it was made with, what was measured, its epochs, its report and its model card. The
bundle itself stays where it is. As with the report, a fit does not fail where its tracking does.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields

from featx.bundle.bundle import Bundle
from featx.bundle.fields import to_json
from featx.bundle.manifest import Manifest
from featx.bundle.sealing import MANIFEST, without_folders
from featx.card.card import model_card
from featx.config import SECTIONS, Pipeline, TrackingOptions
from featx.errors import UsageError
from featx.io.urls import plain
from featx.runs.run import report_folder

_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # that an MLflow server takes at once
_MOST_LETTERS = 500  # of a parameter that every store takes
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_logger = logging.getLogger(__name__)


def require_tracker(options: TrackingOptions) -> None:
    """Refuse a tracker that is not installed, before anything is computed.

    Raises
    ------
    UsageError
        Says what to install.
    """
    if options.tracker == "mlflow" and importlib.util.find_spec("mlflow") is None:
        raise UsageError(
            "tracking.tracker is mlflow, which is not installed: pip install 'featx[mlflow]', or --tracker none."
        )


def track(bundle: Bundle, pipeline: Pipeline) -> None:
    """Write a new bundle down in the tracker of the pipeline, if there is one."""
    if pipeline.tracking.tracker == "none":
        return
    try:
        _log_to_mlflow(bundle, pipeline)
    except Exception as error:  # whatever a server or a database complains of, the model is made and measured
        _logger.warning("%s could not be tracked: %s", bundle.path, error, exc_info=_logger.isEnabledFor(logging.INFO))


def _log_to_mlflow(bundle: Bundle, pipeline: Pipeline) -> None:
    os.environ.setdefault(_RETRIES, "2")  # seven of them take minutes where there is no server
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    for name in ("mlflow", "alembic"):  # they log every table that they create
        logging.getLogger(name).setLevel(logging.ERROR)
    options, manifest = pipeline.tracking, bundle.manifest
    client = MlflowClient(tracking_uri=options.tracking_uri)
    name = options.experiment or bundle.path.parent.name
    experiment = client.get_experiment_by_name(name)
    where = client.create_experiment(name) if experiment is None else experiment.experiment_id
    run = client.create_run(where, run_name=bundle.path.name).info.run_id
    tags = {"bundle": str(bundle.path.resolve()), "digest": manifest.digest, "command": manifest.command}
    client.log_batch(run, tags=[RunTag(f"featx.{key}", value[:_MOST_LETTERS]) for key, value in tags.items()])
    parameters = [Param(key, value[:_MOST_LETTERS]) for key, value in describe_parameters(manifest, pipeline).items()]
    for start in range(0, len(parameters), _MOST_PARAMETERS):
        client.log_batch(run, params=parameters[start : start + _MOST_PARAMETERS])
    metrics = [Metric(key, value, 0, step) for key, value, step in iter_metrics(manifest)]
    for start in range(0, len(metrics), _MOST_METRICS):
        client.log_batch(run, metrics=metrics[start : start + _MOST_METRICS])
    client.log_artifact(run, str(bundle.path / MANIFEST))
    described = manifest if pipeline.report.keep_paths else without_folders(manifest)
    client.log_text(run, model_card(described, f"{name}/{bundle.path.name}", str(bundle.path)), "model-card.md")
    report = report_folder(bundle.path)
    if report.is_dir():
        client.log_artifacts(run, str(report), report.name)
    client.set_terminated(run)


def describe_parameters(manifest: Manifest, pipeline: Pipeline) -> dict[str, str]:
    """What a bundle was made with: every option that is not at its default, and what was chosen in the search."""
    backbone, split = manifest.backbone, manifest.split
    chosen = {
        "backbone": backbone.name,
        "weights": backbone.weights,
        "layers": ", ".join(manifest.output_names),
        "input_size": "x".join(map(str, backbone.input_size)),
        "clf": manifest.head.clf,
        "split": split.digest[:16],
        **{f"chosen.{name}": to_json(value) for name, value in manifest.head.params.items()},
        **{f"images.{part}": count for part, count in split.images.items()},
    }
    given = {
        f"{section}.{entry.name}": getattr(getattr(pipeline, section), entry.name)
        for section, kind in SECTIONS.items()
        for entry in fields(kind)
        if getattr(getattr(pipeline, section), entry.name) != entry.default
    }
    return {name: plain(str(value)) for name, value in {**given, **chosen}.items()}


def iter_metrics(manifest: Manifest) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of every figure: `val/...` and `test/...` at step 0, `epoch/...` at the epoch."""
    for part in manifest.metrics:
        yield from ((f"{part}/{name}", value, 0) for name, value in _figures(manifest.metrics_on(part).values))
    for epoch in manifest.history:
        yield from ((f"epoch/{name}", value, epoch.epoch) for name, value in _figures(epoch.values))


def _figures(values: Mapping[str, float | None]) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in values.items() if value is not None)
