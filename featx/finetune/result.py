"""The result of a fine-tune: its network taken apart again and compared with the original bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import import_keras
from featx.bundle.bundle import Bundle
from featx.bundle.manifest import Manifest
from featx.bundle.novelty import Reference
from featx.bundle.records import AugmentRecord, FinetuneRecord, HeadRecord, MetricsRecord, OriginRecord, ScoreRecord
from featx.finetune.examples import emphasis_in_training
from featx.finetune.grafting import HEAD, feature_tensor, load_backbone
from featx.finetune.trainee import FinetuneTrainee
from featx.finetune.untrained import Untrained
from featx.heads.calibration import CORRECTED_NOTE, Calibration
from featx.images.augment import Augmenter
from featx.inference.decision import DecisionRule, make_reference, predict_parts
from featx.metrics.comparison import compare_predictions
from featx.metrics.digits import ends_text, figure_text
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import is_better, metric_label
from featx.metrics.verdict import SURE, Comparison
from featx.runs.best import is_tie
from featx.runs.measured import MeasuredParts, correction_record, epoch_records
from featx.runs.origin import Intake, Provenance, augment_record
from featx.runs.prepared import Prepared
from featx.runs.trained import Trained
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class FinishedFinetune:
    """A fine-tune at the end of its training.

    bundle : that it started from; trainee : the network with the weights of the best epoch
    backbone : the part of the trainee that is the bundle's
    before : val and test by the network that it was; log : the epochs
    notes : which images were left out
    """

    bundle: Bundle
    prepared: Prepared
    trainee: FinetuneTrainee
    backbone: Untrained
    before: Sequence[LabelledPredictions]
    log: TrainingLog
    notes: tuple[str, ...] = ()

    def trained(self, provenance: Provenance, recording: Recording) -> Trained:
        """Calibrate and measure the network, and take it apart into backbone and head again."""
        weights = emphasis_in_training(self.bundle, self.trainee.examples, self.trainee.options.class_weight)
        rule = DecisionRule.fit(self.trainee, self.prepared.pipeline.head, weights)
        predictions = predict_parts(self.trainee, rule)
        intake = Intake.of(self.prepared.extraction, self.prepared.sample)
        manifest = self._describe(intake, predictions, rule)
        return Trained(
            label=f"{manifest.head.clf}-finetuned",
            manifest=provenance.stamp(replace(manifest, verdict=_verdict(manifest))),
            predictions=predictions,
            intake=intake,
            backbone=self._backbone(),
            head=self._head(rule.calibration.temperature),
            transform=self.bundle.transform,
            reference=self._reference(),
            log=self.log,
            engine=self.prepared.pipeline.features.engine,
            recording=recording,
            former=self.bundle.seen(),
            licenses={name: self.bundle.path / name for name in self.bundle.manifest.licenses},
        )

    def _describe(self, intake: Intake, predictions: Sequence[LabelledPredictions], rule: DecisionRule) -> Manifest:
        former, options, measured = self.bundle.manifest, self.trainee.options, MeasuredParts.of(predictions)
        metric, before = former.score.metric, MeasuredParts.of(self.before)
        height, width = self.bundle.input_size
        return Manifest(
            classes=former.classes,
            split=intake.split_record(),
            data=intake.data_record(),
            outputs=former.outputs,
            backbone=replace(
                former.backbone,
                finetuned=True,
                input_size=(options.downscale * height, options.downscale * width),
            ),
            key=former.key,
            head=self._head_record(rule.calibration),
            target=former.target,
            thresholds=None if rule.thresholds is None else tuple(rule.thresholds.tolist()),
            metrics=measured.metrics,
            per_class=measured.per_class,
            score=ScoreRecord(metric, measured.parts["val"].value(metric), "val"),
            history=epoch_records(self.log),
            finetune=FinetuneRecord(asdict(options), self.log.best),
            origin=OriginRecord(self.bundle.name, former.digest, before.metrics),
            comparison=_compare(predictions, self.before, metric),
            augment=self._augment_record(),
            notes=(
                *self.prepared.sample.notes,
                *self.notes,
                *describe_other_figures(self.bundle, before.metrics, self.prepared.sample.digest),
                *((CORRECTED_NOTE,) if rule.calibration.emphasis is not None else ()),
            ),
        )

    def _head_record(self, calibration: Calibration) -> HeadRecord:
        head = self.bundle.manifest.head
        former = head.temperature if head.kind == "network" else 1.0
        return replace(
            head,
            temperature=calibration.temperature * former,
            calibration="temperature",
            correction=correction_record(calibration),
            refitted=False,
        )

    def _augment_record(self) -> AugmentRecord | None:
        """How its images are altered, or else those that its head has learned from."""
        pipeline = self.prepared.pipeline
        if pipeline.augment.operations:
            return augment_record(Augmenter(pipeline.augment, pipeline.data.seed))
        return self.bundle.manifest.augment

    def _backbone(self) -> keras.Model:
        """The backbone of the bundle with the weights that were trained."""
        if self.trainee.precision == "float32" and self.trainee.network.devices.strategy is None:
            return self.backbone.set_back()
        # its layers have been told to compute otherwise, or their variables are those of several devices
        backbone = load_backbone(self.bundle, self.trainee.options.downscale)
        trained = {layer.name: layer for layer in self.trainee.model.layers}
        for layer in backbone.layers:
            if layer.name in trained:
                layer.set_weights(trained[layer.name].get_weights())
        return backbone

    def _head(self, temperature: float) -> tuple[np.ndarray, np.ndarray] | keras.Model:
        """Kernel (d, k) and bias (k,), the temperature applied; or the network of a head that is one."""
        head = self.trainee.model.get_layer(HEAD)
        if not isinstance(head, import_keras().layers.Dense):
            return head
        kernel, bias = (np.asarray(value) / np.float32(temperature) for value in head.get_weights())
        return kernel, bias

    def _reference(self) -> Reference:
        network = self.trainee.network
        return make_reference(self.trainee, network.features, int(feature_tensor(network.model).shape[-1]))


def describe_other_figures(bundle: Bundle, measured: Mapping[str, MetricsRecord], split: str) -> list[str]:
    """A sentence where a bundle has another figure here than in its record, though the images are the same.

    measured : by the network itself, part -> figures; split : the digest of the split that these are of
    """
    former = bundle.manifest
    if former.split.digest != split or former.finetune is not None or former.baseline is not None:
        return []  # of other images, or recorded as it is measured here
    metric, label, found = former.score.metric, metric_label(former.score.metric), []
    for part, figures in measured.items():
        record = former.metrics_on(part)
        before, now = record.chosen_by(metric), figures.chosen_by(metric)
        if before is None or now is None or before == now or record.images != figures.images:
            continue
        shown = figure_text(before, record.images), figure_text(now, record.images)
        if shown[0] != shown[1]:
            found.append(f"{label} {shown[0]} on {part} in its record and {shown[1]} here")
    if not found:
        return []
    cached = f"Its record is of features from the cache, computed in {former.backbone.precision}"
    here = "here the network itself predicts, in float32. Both sides of the comparison are measured so."
    return [f"{bundle.name} has {' and '.join(found)}. {cached}; {here}"]


def _compare(
    after: Sequence[LabelledPredictions], before: Sequence[LabelledPredictions], metric: str
) -> dict[str, Comparison | None]:
    """Each part, what came out first, what it was second; None without images."""
    pairs = zip(after, before, strict=True)
    return {new.part: compare_predictions(new, old, metric) if new.paths else None for new, old in pairs}


def _verdict(manifest: Manifest) -> str:
    """One sentence: did fine-tuning beat the bundle it started from, and how sure is that?"""
    assert manifest.origin is not None
    findings = [found for part in ("val", "test") if (found := _finding(manifest, manifest.origin, part))]
    if not findings:
        return f"There is nothing to compare with {manifest.origin.bundle} on."
    text = f"Fine-tuning {', and '.join(findings)}."
    if is_tie(manifest):
        text += (
            f" That is less than one standard error on val, a tie: both are kept, {manifest.origin.bundle} in the lead."
        )
    return text


def _finding(manifest: Manifest, origin: OriginRecord, part: str) -> str:
    """What follows from one part; nothing without images."""
    metric, comparison = manifest.score.metric, (manifest.comparison or {}).get(part)
    old, new = origin.metrics_on(part).chosen_by(metric), manifest.metrics_on(part).chosen_by(metric)
    if old is None or new is None or comparison is None:
        return ""
    judged = comparison.judged
    ahead, sure = is_better(metric, new, old), judged.metric == metric and judged.p_value < SURE
    word = "equals" if new == old else "does not beat" if not ahead else "beats" if sure else "is just ahead of"
    noise = "" if sure or new == old else "within noise: "
    shown, before = figure_text(new, comparison.images), figure_text(old, comparison.images)
    bounds = ends_text(judged.interval, comparison.images, "+")
    return (
        f"{word} {origin.bundle} on {part} ({metric} {shown} against {before}; {noise}95 % interval of the difference "
        f"in {judged.metric} {bounds})"
    )
