"""What a fine-tune leaves: one more bundle, measured against the one it comes from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.backbones import import_keras
from featx.bundle import novelty
from featx.bundle.bundle import Bundle
from featx.bundle.split import write_split
from featx.config import HeadOptions
from featx.dataset import TEST, TRAIN, VAL
from featx.engines.choice import choose_engine, compile_graph
from featx.features import ArrayFeatures
from featx.finetune.grafting import HEAD, feature_network, load_backbone
from featx.finetune.tuning import Tuning
from featx.heads.calibration import Calibration, fit_calibration
from featx.heads.transform import TRANSFORM_FILE
from featx.images.augment import Augmenter
from featx.metrics.comparison import SURE, compare_predictions
from featx.metrics.measures import measure
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import metric_of, signed_score
from featx.report.occasions import report_fit
from featx.runs.bundles import add_bundle
from featx.selection.thresholds import search_thresholds
from featx.training.log import TrainingLog
from featx.workflow.describe import describe_model
from featx.workflow.tracking import track

if TYPE_CHECKING:
    from featx.extraction.prepared import Prepared

_LOG = "training.csv"


@dataclass(frozen=True)
class Reading:
    """How the logits of a network are read: as probabilities, and from which one on a label is given.

    thresholds : float64 (k,) of several labels per image; None where an image has one
    """

    calibration: Calibration
    thresholds: np.ndarray | None

    @classmethod
    def of(cls, bundle: Bundle) -> Reading:
        """As a bundle has it, the temperature applied to the logits."""
        return cls(bundle.calibration, bundle.thresholds if bundle.multilabel else None)

    @classmethod
    def fit(cls, tuning: Tuning, options: HeadOptions) -> Reading:
        """Found on val as it is for a head: the temperature, and the thresholds of the pipeline's head section."""
        logits, rows = tuning.logits(VAL)
        truth = tuning.examples.labels[rows]
        if truth.ndim == 1:
            known = truth < tuning.examples.known
            return cls(fit_calibration("temperature", logits[known], truth[known]), None)
        found = fit_calibration("temperature", logits, truth)
        probabilities = found.probabilities(logits)
        return cls(found, search_thresholds(probabilities, truth, options.thresholds, *options.threshold_range))


def judge_parts(tuning: Tuning, reading: Reading) -> list[LabelledPredictions]:
    """Val and test as the model stands."""
    found, examples = [], tuning.examples
    for part, code in (("val", VAL), ("test", TEST)):
        logits, rows = tuning.logits(code)
        paths = tuple(examples.paths[row] for row in rows)
        chances = reading.calibration.probabilities(logits)
        found.append(
            LabelledPredictions(examples.labels[rows], chances, examples.classes, reading.thresholds, part, paths)
        )
    return found


def save_tuned(
    bundle: Bundle,
    prepared: Prepared,
    tuning: Tuning,
    before: Sequence[LabelledPredictions],
    log: TrainingLog,
    command: str,
    fingerprint: str,
    seconds: float,
) -> Bundle:
    """Split the trained model into backbone and head again, calibrate, measure and write.

    before : val and test by the model that it was
    """
    reading = Reading.fit(tuning, prepared.pipeline.head)
    judged = judge_parts(tuning, reading)
    measured = {one.part: measure(one) for one in judged}
    metric = bundle.about["score"]["metric"]
    temperature = reading.calibration.temperature
    total = temperature * (bundle.temperature if bundle.about["head"]["kind"] == "network" else 1.0)
    about = describe_model(prepared.extraction, bundle.outputs, prepared.sample, list(bundle.classes), command) | {
        "backbone": bundle.about["backbone"]
        | {"finetuned": True, "input_size": [tuning.options.downscale * side for side in bundle.input_size]},
        "key": bundle.about["key"],
        "fingerprint": fingerprint,
        "head": bundle.about["head"] | {"temperature": total, "calibration": "temperature"},
        "multilabel": bundle.multilabel,
        "thresholds": None if reading.thresholds is None else reading.thresholds.tolist(),
        "metrics": {part: found.summary() for part, found in measured.items()},
        "per_class": {part: found.as_json()["per_class"] for part, found in measured.items()},
        "score": {"metric": metric, "value": measured["val"].value(metric), "where": "val"},
        "search": [],
        "history": log.as_json(),
        "finetune": asdict(tuning.options) | {"best_epoch": log.best},
        "from": {"bundle": bundle.path.name, "digest": bundle.about["digest"], "metrics": _figures(before)},
        "comparison": _compare(judged, before),
        "notes": [],
        "seconds": round(seconds, 3),
    }
    policy = prepared.pipeline.augment
    if policy.operations:
        about["augment"] = Augmenter(policy, prepared.pipeline.data.seed).as_json()
    elif "augment" in bundle.about:
        about["augment"] = bundle.about["augment"]  # its head has learned from such views
    about["verdict"] = _verdict(about, metric)
    with tempfile.TemporaryDirectory(prefix="featx-") as name:
        tuned = _write(bundle, prepared, tuning, temperature, log, about, Path(name))
    sample = prepared.sample
    report_fit(tuned, prepared.extraction, sample.y, sample.split, judged, prepared.pipeline)
    track(tuned, prepared.pipeline)
    return tuned


def _figures(judged: Sequence[LabelledPredictions]) -> dict[str, dict[str, Any]]:
    """The single figures of each part."""
    return {one.part: measure(one).summary() for one in judged}


def _compare(
    after: Sequence[LabelledPredictions], before: Sequence[LabelledPredictions]
) -> dict[str, dict[str, Any] | None]:
    """`Comparison` of each part, what came out first, what it was second; None without images."""
    pairs = zip(after, before, strict=True)
    return {new.part: asdict(compare_predictions(new, old)) if new.paths else None for new, old in pairs}


def _verdict(about: dict[str, Any], metric: str) -> str:
    """One sentence: did fine-tuning beat the bundle it started from, and how sure is that?"""
    origin, before, after = about["from"]["bundle"], about["from"]["metrics"], about["metrics"]
    told = []
    for part in ("val", "test"):
        old, new = metric_of(before[part], metric), metric_of(after[part], metric)
        if old is not None and new is not None:
            (low, high), p_value = (about["comparison"][part][name] for name in ("interval", "p_value"))
            ahead, sure = signed_score(metric, new - old) > 0, p_value < SURE
            word = "equals" if new == old else "does not beat" if not ahead else "beats" if sure else "is just ahead of"
            noise = "" if sure or new == old else "within noise: "
            told.append(
                f"{word} {origin} on {part} ({metric} {new:.4f} against {old:.4f}; {noise}95 % interval of the "
                f"difference in accuracy {low:+.4f} to {high:+.4f})"
            )
    return f"Fine-tuning {', and '.join(told)}." if told else f"There is nothing to compare with {origin} on."


def _write(
    bundle: Bundle,
    prepared: Prepared,
    tuning: Tuning,
    temperature: float,
    log: TrainingLog,
    about: dict[str, Any],
    folder: Path,
) -> Bundle:
    keras = import_keras()
    backbone = load_backbone(bundle, tuning.options.downscale)
    trained = {layer.name: layer for layer in tuning.model.layers}
    for layer in backbone.layers:
        if layer.name in trained:
            layer.set_weights(trained[layer.name].get_weights())
    backbone.save(folder / "backbone.keras")
    sources = {name: bundle.path / name for name in (TRANSFORM_FILE,) if name in bundle.about["files"]}
    sources |= {name: folder / name for name in ("backbone.keras", "split.npz", _LOG)}
    write_split(folder / "split.npz", prepared.sample.digests, prepared.sample.split)  # of what it was trained on
    log.write_csv(folder / _LOG)
    sources[novelty.FILE] = _reference(tuning).save(folder)
    head = trained[HEAD]
    if isinstance(head, keras.layers.Dense):
        kernel, bias = (np.asarray(value) / np.float32(temperature) for value in head.get_weights())
        np.savez(folder / "head.npz", kernel=kernel, bias=bias)
        sources["head.npz"] = folder / "head.npz"
    else:
        head.save(folder / "head.keras")
        sources["head.keras"] = folder / "head.keras"
    if choose_engine(prepared.pipeline.features.engine) == "openvino":
        shutil.rmtree(folder / "graph", ignore_errors=True)
        compile_graph("openvino", lambda: backbone, folder / "graph", "float32")
        sources["graph"] = folder / "graph"
    return add_bundle(prepared.run, f"{about['head']['clf']}-finetuned", about, sources)


def _reference(tuning: Tuning) -> novelty.Reference:
    """What unknown images are told by, in the features that the backbone gives after training."""
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
