"""What a baseline leaves: its network taken apart into backbone and head, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.baseline.material import Material
from featx.baseline.networks import LOGITS, OUTPUT, feature_network
from featx.baseline.trainee import Scratch
from featx.bundle import novelty
from featx.bundle.manifest import Manifest
from featx.config import Pipeline
from featx.dataset import TEST, TRAIN, VAL
from featx.features import ArrayFeatures
from featx.heads.transform import Transform
from featx.inference.trained import Trained
from featx.metrics.measures import measure
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.scores import resolve_metric
from featx.runs.origin import Intake, Provenance, describe_intake
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog

if TYPE_CHECKING:
    import keras


def conclude(
    scratch: Scratch, log: TrainingLog, pipeline: Pipeline, provenance: Provenance, recording: Recording
) -> Trained:
    """Calibrate and measure the trained network, and take it apart into backbone and head."""
    temperature = scratch.fit_temperature()
    predictions = tuple(scratch.judge(code, temperature) for code in (VAL, TEST))
    material, backbone = scratch.material, feature_network(scratch.model)
    intake = Intake(material.sample, material.bad, material.duplicates, {})
    about = (
        describe_intake(intake, material.examples.classes[: material.examples.known], provenance)
        | _describe_network(scratch, temperature)
        | _describe_training(scratch, log)
        | _describe_result(predictions, _metric_of_run(material, pipeline))
    )
    kernel, bias = (
        np.asarray(value) / np.float32(temperature) for value in scratch.model.get_layer(LOGITS).get_weights()
    )
    return Trained(
        label=scratch.options.net,
        manifest=Manifest.from_json(about | {"files": {}}, material.run.path),
        predictions=predictions,
        intake=intake,
        backbone=backbone,
        head=(kernel, bias),
        transform=Transform(),
        reference=_reference(scratch, backbone),
        log=log,
        engine=pipeline.features.engine,
        recording=recording,
    )


def _describe_network(scratch: Scratch, temperature: float) -> dict[str, Any]:
    options = scratch.options
    return {
        "outputs": [OUTPUT],
        "backbone": {
            "name": options.net,
            "weights": "from scratch",
            "weights_seed": scratch.seed,
            "input_size": [options.input_size, options.input_size],
            "preprocessing": "none",
            "resize": scratch.material.source.resize,
            "precision": "float32",
        },
        "key": {"baseline": options.net},
        "head": {
            "clf": options.net,
            "kind": "linear",
            "file": "head.npz",
            "params": {"dropout": options.dropout, "parameters": int(scratch.model.count_params())},
            "temperature": temperature,
            "features": _width(scratch),
            "calibration": "temperature",
            "refitted": False,
        },
    }


def _describe_training(scratch: Scratch, log: TrainingLog) -> dict[str, Any]:
    options = scratch.options
    return {
        "search": {},
        "history": log.as_json(),
        "baseline": asdict(options) | {"best_epoch": log.best},
        "augment": scratch.material.source.augmenter.as_json(),
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


def _width(scratch: Scratch) -> int:
    """How many values the last layer takes."""
    return int(scratch.model.get_layer(LOGITS).kernel.shape[0])


def _metric_of_run(material: Material, pipeline: Pipeline) -> str:
    """The metric that the run's bundles are compared by: that of the newest on the same split, else the pipeline's."""
    made = [bundle.manifest for bundle in material.run.bundles()]
    same = [manifest for manifest in made if manifest.split.digest == material.sample.digest]
    return same[-1].score.metric if same else resolve_metric(pipeline.head.metric, "class")


def _reference(scratch: Scratch, backbone: keras.Model) -> novelty.Reference:
    """What unknown images are found by, in the features before the last layer."""
    d = _width(scratch)

    def features(rows: np.ndarray) -> tuple[np.ndarray, ArrayFeatures]:
        found, read = scratch.infer(lambda images: np.asarray(backbone.predict_on_batch(images)[OUTPUT]), rows, d)
        return read, ArrayFeatures(found)

    labels, train = scratch.examples.labels, scratch.examples.known_rows(TRAIN)
    val = np.random.default_rng(scratch.seed).permutation(scratch.examples.rows(VAL))[: novelty.MOST_ROWS]
    read, kept = features(train[novelty.choose_rows(labels[train], d, scratch.seed)])
    return novelty.fit_reference(kept, labels[read], features(val)[1], scratch.seed)
