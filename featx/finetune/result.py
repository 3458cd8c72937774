"""What a fine-tune leaves: its network taken apart again, measured against the bundle that it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.backbones import import_keras
from featx.bundle.bundle import Bundle
from featx.bundle.manifest import Manifest
from featx.bundle.novelty import Reference
from featx.finetune.grafting import HEAD, feature_network, load_backbone
from featx.finetune.trainee import FinetuneTrainee
from featx.images.augment import Augmenter
from featx.inference.reading import Reading, make_reference, predict_parts
from featx.inference.trained import Trained
from featx.metrics.comparison import SURE, compare_predictions
from featx.metrics.measures import measure
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import metric_of, signed_score
from featx.runs.origin import Intake, Provenance, describe_model
from featx.runs.prepared import Prepared
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Finish:
    """A fine-tune at its end.

    bundle : that it started from; trainee : the network with the weights of the best epoch
    before : val and test by the network that it was; log : the epochs
    """

    bundle: Bundle
    prepared: Prepared
    trainee: FinetuneTrainee
    before: Sequence[LabelledPredictions]
    log: TrainingLog

    def trained(self, provenance: Provenance, recording: Recording) -> Trained:
        """Calibrate and measure the network, and take it apart into backbone and head again."""
        reading = Reading.fit(self.trainee, self.prepared.pipeline.head)
        predictions = predict_parts(self.trainee, reading)
        intake = Intake.of(self.prepared.extraction, self.prepared.sample)
        about = self._describe(intake, provenance) | self._describe_result(predictions, reading)
        return Trained(
            label=f"{about['head']['clf']}-finetuned",
            manifest=Manifest.from_json(about | {"files": {}}, self.prepared.run.path),
            predictions=predictions,
            intake=intake,
            backbone=self._backbone(),
            head=self._head(reading.calibration.temperature),
            transform=self.bundle.transform,
            reference=self._reference(),
            log=self.log,
            engine=self.prepared.pipeline.features.engine,
            recording=recording,
        )

    def _describe(self, intake: Intake, provenance: Provenance) -> dict[str, Any]:
        """Where it comes from and how it was trained."""
        bundle, options, pipeline = self.bundle, self.trainee.options, self.prepared.pipeline
        about = describe_model(self.prepared.extraction, bundle.outputs, intake, bundle.classes, provenance) | {
            "backbone": bundle.manifest.backbone.as_json()
            | {"finetuned": True, "input_size": [options.downscale * side for side in bundle.input_size]},
            "key": bundle.manifest.key.as_json(),
            "multilabel": bundle.multilabel,
            "search": [],
            "history": self.log.as_json(),
            "finetune": asdict(options) | {"best_epoch": self.log.best},
            "notes": [],
        }
        if pipeline.augment.operations:
            about["augment"] = Augmenter(pipeline.augment, pipeline.data.seed).as_json()
        elif bundle.manifest.augment is not None:
            about["augment"] = bundle.manifest.augment.as_json()  # its head has learned from such views
        return about

    def _describe_result(self, predictions: Sequence[LabelledPredictions], reading: Reading) -> dict[str, Any]:
        """What it reaches, beside the bundle that it started from."""
        bundle, metric = self.bundle, self.bundle.manifest.score.metric
        measured = {one.part: measure(one) for one in predictions}
        former = bundle.temperature if bundle.manifest.head.kind == "network" else 1.0
        temperature = reading.calibration.temperature * former
        about = {
            "head": bundle.manifest.head.as_json() | {"temperature": temperature, "calibration": "temperature"},
            "thresholds": None if reading.thresholds is None else reading.thresholds.tolist(),
            "metrics": {part: found.summary() for part, found in measured.items()},
            "per_class": {part: found.as_json()["per_class"] for part, found in measured.items()},
            "score": {"metric": metric, "value": measured["val"].value(metric), "where": "val"},
            "from": {"bundle": bundle.path.name, "digest": bundle.manifest.digest, "metrics": _figures(self.before)},
            "comparison": _compare(predictions, self.before),
        }
        return about | {"verdict": _verdict(about, metric)}

    def _backbone(self) -> keras.Model:
        """The backbone of the bundle with the weights that were trained."""
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
        network = feature_network(self.trainee.model)
        return make_reference(self.trainee, network.predict_on_batch, int(network.output_shape[-1]))


def _figures(predictions: Sequence[LabelledPredictions]) -> dict[str, dict[str, Any]]:
    """The single figures of each part."""
    return {one.part: measure(one).summary() for one in predictions}


def _compare(
    after: Sequence[LabelledPredictions], before: Sequence[LabelledPredictions]
) -> dict[str, dict[str, Any] | None]:
    """`Comparison` of each part, what came out first, what it was second; None without images."""
    pairs = zip(after, before, strict=True)
    return {new.part: asdict(compare_predictions(new, old)) if new.paths else None for new, old in pairs}


def _verdict(about: dict[str, Any], metric: str) -> str:
    """One sentence: did fine-tuning beat the bundle it started from, and how sure is that?"""
    origin, before, after = about["from"]["bundle"], about["from"]["metrics"], about["metrics"]
    findings = []
    for part in ("val", "test"):
        old, new = metric_of(before[part], metric), metric_of(after[part], metric)
        if old is not None and new is not None:
            (low, high), p_value = (about["comparison"][part][name] for name in ("interval", "p_value"))
            ahead, sure = signed_score(metric, new - old) > 0, p_value < SURE
            word = "equals" if new == old else "does not beat" if not ahead else "beats" if sure else "is just ahead of"
            noise = "" if sure or new == old else "within noise: "
            findings.append(
                f"{word} {origin} on {part} ({metric} {new:.4f} against {old:.4f}; {noise}95 % interval of the "
                f"difference in accuracy {low:+.4f} to {high:+.4f})"
            )
    if not findings:
        return f"There is nothing to compare with {origin} on."
    return f"Fine-tuning {', and '.join(findings)}."
