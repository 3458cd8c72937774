"""The result of a baseline: its network split into backbone and head, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from featx.backbones import Output
from featx.baseline.material import Material
from featx.baseline.networks import LOGITS, OUTPUT, feature_network
from featx.bundle.fields import read_record
from featx.bundle.manifest import Manifest
from featx.bundle.records import BackboneRecord, BaselineRecord, HeadRecord, KeyRecord, ScoreRecord
from featx.config import Pipeline
from featx.heads.persist import FILES
from featx.heads.transform import Transform
from featx.inference.decision import DecisionRule, make_reference, predict_parts
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.scores import resolve_metric
from featx.runs.measured import MeasuredParts, epoch_records
from featx.runs.origin import Provenance, augment_record
from featx.runs.trained import Trained
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog
from featx.training.trainee import ImageTrainee


@dataclass(frozen=True)
class FinishedBaseline:
    """A baseline at the end of its training.

    trainee : the network with the weights of the best epoch; log : the epochs
    """

    material: Material
    pipeline: Pipeline
    trainee: ImageTrainee
    log: TrainingLog

    def trained(self, provenance: Provenance, recording: Recording) -> Trained:
        """Calibrate and measure the network, and take it apart into backbone and head."""
        rule = DecisionRule.fit(self.trainee, self.pipeline.head)
        predictions, temperature = predict_parts(self.trainee, rule), rule.calibration.temperature
        backbone, last = feature_network(self.trainee.model), self.trainee.model.get_layer(LOGITS)
        kernel, bias = (np.asarray(value) / np.float32(temperature) for value in last.get_weights())
        head = self._head_record(temperature, len(kernel))
        return Trained(
            label=head.clf,
            manifest=provenance.stamp(self._describe(head, predictions)),
            predictions=predictions,
            intake=self.material.intake,
            backbone=backbone,
            head=(kernel, bias),
            transform=Transform(),
            reference=make_reference(self.trainee, self.trainee.network.features, len(kernel)),
            log=self.log,
            engine=self.pipeline.features.engine,
            recording=recording,
        )

    def _describe(self, head: HeadRecord, predictions: Sequence[LabelledPredictions]) -> Manifest:
        options, source = self.pipeline.baseline, self.material.source
        intake, examples = self.material.intake, self.material.examples
        metric, measured = self._metric_of_run(), MeasuredParts.of(predictions)
        return Manifest(
            classes=examples.classes[: examples.known],
            split=intake.split_record(),
            data=intake.data_record(),
            outputs=(Output.parse(OUTPUT),),
            backbone=BackboneRecord(
                input_size=(options.input_size, options.input_size),
                name=options.net,
                weights="from scratch",
                weights_seed=self.trainee.seed,
                resize=source.resize,
            ),
            key=KeyRecord(baseline=options.net),
            head=head,
            metrics=measured.metrics,
            per_class=measured.per_class,
            score=ScoreRecord(metric, measured.parts["val"].value(metric), "val"),
            history=epoch_records(self.log),
            baseline=read_record(BaselineRecord, asdict(options) | {"best_epoch": self.log.best}),
            augment=augment_record(source.augmenter),
            notes=intake.sample.notes,
        )

    def _head_record(self, temperature: float, features: int) -> HeadRecord:
        options = self.pipeline.baseline
        return HeadRecord(
            clf=options.net,
            temperature=temperature,
            features=features,
            kind="linear",
            params={"dropout": options.dropout, "parameters": int(self.trainee.model.count_params())},
            file=FILES["linear"],
        )

    def _metric_of_run(self) -> str:
        """What bundles of the run are compared by: the metric of the newest on this split, or the pipeline's."""
        made = [bundle.manifest for bundle in self.material.run.bundles()]
        same = [manifest for manifest in made if manifest.split.digest == self.material.intake.sample.digest]
        return same[-1].score.metric if same else resolve_metric(self.pipeline.head.metric, "class")
