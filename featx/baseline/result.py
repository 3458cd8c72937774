"""What a baseline leaves: one more bundle of its run, and its figures in the report of the best head."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.baseline.networks import LOGITS, OUTPUT, feature_network
from featx.baseline.trainee import Scratch
from featx.bundle import novelty
from featx.bundle.bundle import Bundle, load_bundle
from featx.bundle.split import write_split
from featx.config import BaselineOptions, Pipeline
from featx.dataset import SPLITS, TEST, TRAIN, VAL
from featx.engines.choice import choose_engine, compile_graph
from featx.extraction.sample import Sample
from featx.features import ArrayFeatures
from featx.heads.scaling import float_blocks
from featx.heads.transform import join
from featx.io.progress import Tell
from featx.metrics.measures import measure
from featx.metrics.predictions import LabelledPredictions, align
from featx.metrics.scores import resolve_metric
from featx.report.occasions import FOLDER, count_classes, report_evaluation, report_model
from featx.runs.bundles import add_bundle, best_bundle, list_bundles
from featx.store.cache import Cache
from featx.training.log import TrainingLog
from featx.workflow.describe import describe_sample
from featx.workflow.tracking import track

if TYPE_CHECKING:
    import keras

_LOG = "training.csv"


def save_baseline(
    scratch: Scratch,
    log: TrainingLog,
    pipeline: Pipeline,
    command: str,
    fingerprint: str,
    start: float,
) -> Bundle:
    """Calibrate and measure the trained network, and write it below its run as the next bundle, with a report.

    start : of the training, as `time.perf_counter` has it
    """
    material, options = scratch.material, scratch.options
    temperature = scratch.fit_temperature()
    judged = [scratch.judge(code, temperature) for code in (VAL, TEST)]
    measured = {one.part: measure(one) for one in judged}
    metric = _metric_of_run(material.run, material.sample.digest, pipeline)
    backbone = feature_network(scratch.model)
    known = list(material.examples.classes[: material.examples.known])
    about = describe_sample(material.sample, len(material.bad), material.duplicates, known, command) | {
        "outputs": [OUTPUT],
        "backbone": _describe_network(options, material.source.resize, scratch.seed),
        "key": {"baseline": options.net},
        "fingerprint": fingerprint,
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
        "multilabel": False,
        "thresholds": None,
        "metrics": {part: found.summary() for part, found in measured.items()},
        "per_class": {part: found.as_json()["per_class"] for part, found in measured.items()},
        "score": {"metric": metric, "value": measured["val"].value(metric), "where": "val"},
        "search": {},
        "history": log.as_json(),
        "baseline": asdict(options) | {"best_epoch": log.best},
        "augment": material.source.augmenter.as_json(),
        "notes": [],
        "seconds": round(time.perf_counter() - start, 3),
    }
    with tempfile.TemporaryDirectory(prefix="featx-") as name:
        sources = _write(scratch, backbone, temperature, log, pipeline.features.engine, Path(name))
        bundle = add_bundle(material.run, options.net, about, sources)
    counts = count_classes(material.sample.images.classes, material.sample.y, material.sample.split)
    timings = {"train": float(bundle.about["seconds"])}
    report_model(bundle, counts, judged, pipeline, material.bad, material.duplicates, timings)
    track(bundle, pipeline)
    return bundle


def _width(scratch: Scratch) -> int:
    """How many values the last layer takes."""
    return int(scratch.model.get_layer(LOGITS).kernel.shape[0])


def _metric_of_run(run: Path, split: str, pipeline: Pipeline) -> str:
    """The metric that the run's bundles are compared by: that of the newest on the same split, else the pipeline's."""
    told = [about["score"]["metric"] for about in list_bundles(run) if about["split"]["digest"] == split]
    return str(told[-1]) if told else resolve_metric(pipeline.head.metric, "class")


def _describe_network(options: BaselineOptions, resize: str, seed: int) -> dict[str, Any]:
    return {
        "name": options.net,
        "weights": "from scratch",
        "weights_seed": seed,
        "input_size": [options.input_size, options.input_size],
        "preprocessing": "none",
        "resize": resize,
        "precision": "float32",
    }


def _write(
    scratch: Scratch, backbone: keras.Model, temperature: float, log: TrainingLog, engine: str, folder: Path
) -> dict[str, Path]:
    """Write the files of the bundle into a folder; return what is where."""
    names = ["backbone.keras", "head.npz", "split.npz", _LOG, novelty.FILE]
    backbone.save(folder / "backbone.keras")
    kernel, bias = (
        np.asarray(value) / np.float32(temperature) for value in scratch.model.get_layer(LOGITS).get_weights()
    )
    np.savez(folder / "head.npz", kernel=kernel, bias=bias)
    write_split(folder / "split.npz", scratch.material.sample.digests, scratch.material.sample.split)
    log.write_csv(folder / _LOG)
    _reference(scratch, backbone).save(folder)
    if choose_engine(engine) == "openvino":
        compile_graph("openvino", lambda: backbone, folder / "graph", "float32")
        names.append("graph")
    return {name: folder / name for name in names}


def _reference(scratch: Scratch, backbone: keras.Model) -> novelty.Reference:
    """What unknown images are told by, in the features before the last layer."""
    d = _width(scratch)

    def features(rows: np.ndarray) -> tuple[np.ndarray, ArrayFeatures]:
        found, read = scratch.infer(lambda images: np.asarray(backbone.predict_on_batch(images)[OUTPUT]), rows, d)
        return read, ArrayFeatures(found)

    labels, train = scratch.examples.labels, scratch.examples.known_rows(TRAIN)
    val = np.random.default_rng(scratch.seed).permutation(scratch.examples.rows(VAL))[: novelty.MOST_ROWS]
    read, kept = features(train[novelty.choose_rows(labels[train], d, scratch.seed)])
    return novelty.fit_reference(kept, labels[read], features(val)[1], scratch.seed)


def renew_report(scratch: Scratch, pipeline: Pipeline, cache: Cache, command: str, tell: Tell) -> None:
    """Write the report of the run's best head anew, on test, with the baseline in it; from cached features alone."""
    material, split = scratch.material, scratch.material.sample.digest

    def is_rival(about: dict[str, Any]) -> bool:
        return not about.get("baseline") and about["split"]["digest"] == split

    if not pipeline.report.html or not any(map(is_rival, list_bundles(material.run))):
        return
    bundle = load_bundle(best_bundle(material.run, is_rival))
    start = time.perf_counter()
    judged = judge_cached(bundle, material.sample, TEST, cache)
    if judged is None or not len(judged.labels):
        tell(f"featx evaluate {bundle.path} writes its report anew, with this baseline beside it.")
        return
    seconds = time.perf_counter() - start
    report_evaluation(bundle.path / FOLDER, bundle, bundle.path, judged, material.bad, pipeline, command, seconds)


def judge_cached(bundle: Bundle, sample: Sample, code: int, cache: Cache) -> LabelledPredictions | None:
    """One part of a sample by a bundle of one label per image, from features in the cache; None where some are not."""
    if bundle.about["backbone"].get("finetuned"):
        return None
    stores = [store for store in cache.stores() if store.key.as_json() == bundle.about["key"]]
    rows = np.flatnonzero(sample.split == code)
    tables = [store.table(one.layer, one.pooling) for store in stores[:1] for one in bundle.outputs]
    if not tables or any(table.missing(sample.digests[rows]).any() for table in tables):
        return None
    features = join([table.read(sample.digests[rows]) for table in tables])
    chances = [np.empty((0, len(bundle.classes))), *map(bundle.probabilities, float_blocks(features))]
    labels, classes = align(sample.images.classes, sample.y[rows], bundle.classes)
    paths = tuple(sample.images.paths[row] for row in sample.rows[rows])
    return LabelledPredictions(labels, np.concatenate(chances), tuple(classes), part=SPLITS[code], paths=paths)
