"""What a baseline leaves: its network taken apart into backbone and head, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import Output
from featx.baseline.material import Material
from featx.baseline.networks import LOGITS, OUTPUT, feature_network
from featx.baseline.trainee import Scratch
from featx.bundle import novelty
from featx.bundle.fields import read_record
from featx.bundle.manifest import Manifest
from featx.bundle.records import BackboneRecord, BaselineRecord, HeadRecord, KeyRecord, ScoreRecord
from featx.config import Pipeline
from featx.dataset import TEST, TRAIN, VAL
from featx.features import ArrayFeatures
from featx.heads.persist import FILES
from featx.heads.transform import Transform
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.scores import resolve_metric
from featx.runs.measured import MeasuredParts, epoch_records
from featx.runs.origin import Intake, Provenance, augment_record
from featx.runs.trained import Trained
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
    metric = _metric_of_run(material, pipeline)
    intake = Intake(material.sample, material.bad, material.duplicates, {})
    kernel, bias = (
        np.asarray(value) / np.float32(temperature) for value in scratch.model.get_layer(LOGITS).get_weights()
    )
    return Trained(
        label=scratch.options.net,
        manifest=provenance.stamp(_describe(scratch, intake, predictions, temperature, metric, log)),
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


def _describe(
    scratch: Scratch,
    intake: Intake,
    predictions: Sequence[LabelledPredictions],
    temperature: float,
    metric: str,
    log: TrainingLog,
) -> Manifest:
    options, source, measured = scratch.options, scratch.material.source, MeasuredParts.of(predictions)
    return Manifest(
        classes=source.examples.classes[: source.examples.known],
        split=intake.split_record(),
        data=intake.data_record(),
        outputs=(Output.parse(OUTPUT),),
        backbone=BackboneRecord(
            input_size=(options.input_size, options.input_size),
            name=options.net,
            weights="from scratch",
            weights_seed=scratch.seed,
            resize=source.resize,
        ),
        key=KeyRecord(baseline=options.net),
        head=_head_record(scratch, temperature),
        metrics=measured.metrics,
        per_class=measured.per_class,
        score=ScoreRecord(metric, measured.parts["val"].value(metric), "val"),
        history=epoch_records(log),
        baseline=read_record(BaselineRecord, asdict(options) | {"best_epoch": log.best}),
        augment=augment_record(source.augmenter),
    )


def _head_record(scratch: Scratch, temperature: float) -> HeadRecord:
    params = {"dropout": scratch.options.dropout, "parameters": int(scratch.model.count_params())}
    return HeadRecord(
        clf=scratch.options.net,
        temperature=temperature,
        features=_width(scratch),
        kind="linear",
        params=params,
        file=FILES["linear"],
    )


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
