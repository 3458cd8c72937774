"""What a baseline leaves: its network taken apart into backbone and head, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from featx.baseline.material import Material
from featx.baseline.networks import LOGITS, OUTPUT, feature_network
from featx.bundle.manifest import Manifest
from featx.config import BaselineOptions, Pipeline
from featx.heads.transform import Transform
from featx.inference.reading import Reading, make_reference, predict_parts
from featx.inference.trained import Trained
from featx.metrics.measures import measure
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.scores import resolve_metric
from featx.runs.origin import Provenance, describe_intake
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog
from featx.training.source import ImageSource
from featx.training.trainee import ImageTrainee


def conclude(
    trainee: ImageTrainee,
    material: Material,
    log: TrainingLog,
    pipeline: Pipeline,
    provenance: Provenance,
    recording: Recording,
) -> Trained:
    """Calibrate and measure the trained network, and take it apart into backbone and head."""
    options, examples = pipeline.baseline, material.examples
    reading = Reading.fit(trainee, pipeline.head)
    predictions, temperature = predict_parts(trainee, reading), reading.calibration.temperature
    backbone, last = feature_network(trainee.model), trainee.model.get_layer(LOGITS)
    kernel, bias = (np.asarray(value) / np.float32(temperature) for value in last.get_weights())
    head = {
        "params": {"dropout": options.dropout, "parameters": int(trainee.model.count_params())},
        "temperature": temperature,
        "features": len(kernel),
    }
    about = (
        describe_intake(material.intake, examples.classes[: examples.known], provenance)
        | _describe_network(options, material.source, trainee.seed, head)
        | _describe_training(options, material.source, log)
        | _describe_result(predictions, _metric_of_run(material, pipeline))
    )
    return Trained(
        label=options.net,
        manifest=Manifest.from_json(about | {"files": {}}, material.run.path),
        predictions=predictions,
        intake=material.intake,
        backbone=backbone,
        head=(kernel, bias),
        transform=Transform(),
        reference=make_reference(trainee, lambda images: backbone.predict_on_batch(images)[OUTPUT], len(kernel)),
        log=log,
        engine=pipeline.features.engine,
        recording=recording,
    )


def _describe_network(options: BaselineOptions, source: ImageSource, seed: int, head: dict[str, Any]) -> dict[str, Any]:
    return {
        "outputs": [OUTPUT],
        "backbone": {
            "name": options.net,
            "weights": "from scratch",
            "weights_seed": seed,
            "input_size": [options.input_size, options.input_size],
            "preprocessing": "none",
            "resize": source.resize,
            "precision": "float32",
        },
        "key": {"baseline": options.net},
        "head": {
            "clf": options.net,
            "kind": "linear",
            "file": "head.npz",
            "calibration": "temperature",
            "refitted": False,
        }
        | head,
    }


def _describe_training(options: BaselineOptions, source: ImageSource, log: TrainingLog) -> dict[str, Any]:
    return {
        "search": {},
        "history": log.as_json(),
        "baseline": asdict(options) | {"best_epoch": log.best},
        "augment": source.augmenter.as_json(),
        "notes": [],
    }


def _describe_result(predictions: Sequence[LabelledPredictions], metric: str) -> dict[str, Any]:
    measured = {one.part: measure(one) for one in predictions}
    return {
        "multilabel": False,
        "thresholds": None,
        "metrics": {part: found.summary() for part, found in measured.items()},
        "per_class": {part: found.as_json()["per_class"] for part, found in measured.items()},
        "score": {"metric": metric, "value": measured["val"].value(metric), "where": "val"},
    }


def _metric_of_run(material: Material, pipeline: Pipeline) -> str:
    """The metric that the run's bundles are compared by: that of the newest on the same split, else the pipeline's."""
    made = [bundle.manifest for bundle in material.run.bundles()]
    same = [manifest for manifest in made if manifest.split.digest == material.intake.sample.digest]
    return same[-1].score.metric if same else resolve_metric(pipeline.head.metric, "class")
