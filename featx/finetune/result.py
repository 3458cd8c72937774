"""What a fine-tune leaves: its network taken apart again, measured against the bundle that it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from featx.backbones import import_keras
from featx.bundle import novelty
from featx.bundle.bundle import Bundle
from featx.bundle.manifest import Manifest
from featx.bundle.records import AugmentRecord, FinetuneRecord, HeadRecord, OriginRecord, ScoreRecord
from featx.config import HeadOptions
from featx.dataset import TEST, TRAIN, VAL
from featx.features import ArrayFeatures
from featx.finetune.grafting import HEAD, feature_network, load_backbone
from featx.finetune.tuning import Tuning
from featx.heads.calibration import Calibration, fit_calibration
from featx.images.augment import Augmenter
from featx.metrics.comparison import SURE, Comparison, compare_predictions
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import is_better
from featx.runs.measured import MeasuredParts, epoch_records
from featx.runs.origin import Intake, Provenance, augment_record
from featx.runs.prepared import Prepared
from featx.runs.trained import Trained
from featx.selection.thresholds import search_thresholds
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog


@dataclass(frozen=True)
class DecisionRule:
    """How probabilities are made of the logits of a network, and from which one on a label is predicted.

    thresholds : float64 (k,) of several labels per image; None where an image has one
    """

    calibration: Calibration
    thresholds: np.ndarray | None

    @classmethod
    def of(cls, bundle: Bundle) -> DecisionRule:
        """As a bundle has it, the temperature applied to the logits."""
        return cls(bundle.calibration, bundle.thresholds if bundle.multilabel else None)

    @classmethod
    def fit(cls, tuning: Tuning, options: HeadOptions) -> DecisionRule:
        """Found on val as it is for a head: the temperature, and the thresholds of the pipeline's head section."""
        logits, rows = tuning.logits(VAL)
        labels = tuning.examples.labels[rows]
        if labels.ndim == 1:
            known = labels < tuning.examples.known
            return cls(fit_calibration("temperature", logits[known], labels[known]), None)
        found = fit_calibration("temperature", logits, labels)
        probabilities = found.probabilities(logits)
        return cls(found, search_thresholds(probabilities, labels, options.thresholds, *options.threshold_range))


def predict_parts(tuning: Tuning, rule: DecisionRule) -> tuple[LabelledPredictions, ...]:
    """Val and test as the model stands."""
    found, examples = [], tuning.examples
    for part, code in (("val", VAL), ("test", TEST)):
        logits, rows = tuning.logits(code)
        paths = tuple(examples.paths[row] for row in rows)
        probabilities = rule.calibration.probabilities(logits)
        found.append(
            LabelledPredictions(examples.labels[rows], probabilities, examples.classes, rule.thresholds, part, paths)
        )
    return tuple(found)


@dataclass(frozen=True)
class Finish:
    """A fine-tune at its end.

    bundle : that it started from; tuning : the network with the weights of the best epoch
    before : val and test by the network that it was; log : the epochs
    """

    bundle: Bundle
    prepared: Prepared
    tuning: Tuning
    before: Sequence[LabelledPredictions]
    log: TrainingLog

    def trained(self, provenance: Provenance, recording: Recording) -> Trained:
        """Calibrate and measure the network, and take it apart into backbone and head again."""
        rule = DecisionRule.fit(self.tuning, self.prepared.pipeline.head)
        predictions = predict_parts(self.tuning, rule)
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
            reference=_reference(self.tuning),
            log=self.log,
            engine=self.prepared.pipeline.features.engine,
            recording=recording,
        )

    def _describe(self, intake: Intake, predictions: Sequence[LabelledPredictions], rule: DecisionRule) -> Manifest:
        former, options, measured = self.bundle.manifest, self.tuning.options, MeasuredParts.of(predictions)
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
            head=self._head_record(rule.calibration.temperature),
            target=former.target,
            thresholds=None if rule.thresholds is None else tuple(rule.thresholds.tolist()),
            metrics=measured.metrics,
            per_class=measured.per_class,
            score=ScoreRecord(metric, measured.parts["val"].value(metric), "val"),
            history=epoch_records(self.log),
            finetune=FinetuneRecord(asdict(options), self.log.best),
            origin=OriginRecord(self.bundle.path.name, former.digest, before.metrics),
            comparison=_compare(predictions, self.before),
            augment=self._augment_record(),
        )

    def _head_record(self, temperature: float) -> HeadRecord:
        head = self.bundle.manifest.head
        former = head.temperature if head.kind == "network" else 1.0
        return replace(head, temperature=temperature * former, calibration="temperature")

    def _augment_record(self) -> AugmentRecord | None:
        """How its images are altered, or else those that its head has learned from."""
        pipeline = self.prepared.pipeline
        if pipeline.augment.operations:
            return augment_record(Augmenter(pipeline.augment, pipeline.data.seed))
        return self.bundle.manifest.augment

    def _backbone(self) -> Any:
        """The backbone of the bundle with the weights that were trained: a Keras model."""
        backbone = load_backbone(self.bundle, self.tuning.options.downscale)
        trained = {layer.name: layer for layer in self.tuning.model.layers}
        for layer in backbone.layers:
            if layer.name in trained:
                layer.set_weights(trained[layer.name].get_weights())
        return backbone

    def _head(self, temperature: float) -> Any:
        """Kernel (d, k) and bias (k,), the temperature applied; or the network of a head that is one."""
        head = self.tuning.model.get_layer(HEAD)
        if not isinstance(head, import_keras().layers.Dense):
            return head
        kernel, bias = (np.asarray(value) / np.float32(temperature) for value in head.get_weights())
        return kernel, bias


def _compare(
    after: Sequence[LabelledPredictions], before: Sequence[LabelledPredictions]
) -> dict[str, Comparison | None]:
    """Each part, what came out first, what it was second; None without images."""
    pairs = zip(after, before, strict=True)
    return {new.part: compare_predictions(new, old) if new.paths else None for new, old in pairs}


def _verdict(manifest: Manifest) -> str:
    """One sentence: did fine-tuning beat the bundle it started from, and how sure is that?"""
    assert manifest.origin is not None
    findings = [found for part in ("val", "test") if (found := _finding(manifest, manifest.origin, part))]
    if not findings:
        return f"There is nothing to compare with {manifest.origin.bundle} on."
    return f"Fine-tuning {', and '.join(findings)}."


def _finding(manifest: Manifest, origin: OriginRecord, part: str) -> str:
    """What follows from one part; nothing without images."""
    metric, comparison = manifest.score.metric, (manifest.comparison or {}).get(part)
    old, new = origin.metrics_on(part).chosen_by(metric), manifest.metrics_on(part).chosen_by(metric)
    if old is None or new is None or comparison is None:
        return ""
    low, high = comparison.interval
    ahead, sure = is_better(metric, new, old), comparison.p_value < SURE
    word = "equals" if new == old else "does not beat" if not ahead else "beats" if sure else "is just ahead of"
    noise = "" if sure or new == old else "within noise: "
    return (
        f"{word} {origin.bundle} on {part} ({metric} {new:.4f} against {old:.4f}; {noise}95 % interval of the "
        f"difference in accuracy {low:+.4f} to {high:+.4f})"
    )


def _reference(tuning: Tuning) -> novelty.Reference:
    """What unknown images are found by, in the features that the backbone gives after training."""
    network, examples = feature_network(tuning.model), tuning.examples
    d = int(network.output_shape[-1])

    def features(rows: np.ndarray) -> tuple[np.ndarray, ArrayFeatures]:
        read, found = [np.empty(0, np.int64)], [np.empty((0, d), np.float32)]
        for some, inputs in tuning.source.batches(rows, tuning.options.batch_size, None):
            found.append(np.asarray(network.predict_on_batch(inputs)))
            read.append(some)
        return np.concatenate(read), ArrayFeatures(np.concatenate(found))

    train, labels = examples.known_rows(TRAIN), examples.labels
    if labels.ndim == 2:  # images with the same labels count as a class
        labels = np.unique(labels, axis=0, return_inverse=True)[1]
    val = np.random.default_rng(tuning.seed).permutation(examples.rows(VAL))[: novelty.MOST_ROWS]
    read, kept = features(train[novelty.choose_rows(labels[train], d, tuning.seed)])
    return novelty.fit_reference(kept, labels[read], features(val)[1], tuning.seed)
