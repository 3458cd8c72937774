"""The cheap stage: cached features + labels + split -> the best head -> Bundle."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import featx
from featx.backbones import Output
from featx.bundle import novelty
from featx.bundle.bundle import Bundle
from featx.bundle.split import write_split
from featx.config import HeadOptions, Pipeline
from featx.dataset import SPLITS, TRAIN, VAL
from featx.errors import HeadError
from featx.extraction.flow import Extraction, frozen_files
from featx.extraction.sample import Sample
from featx.features import Features, width
from featx.heads import persist
from featx.heads.calibration import CALIBRATION_FILE
from featx.heads.transform import TRANSFORM_FILE, join
from featx.io.digests import digest_bytes, digest_json
from featx.io.progress import Tell, say_nothing
from featx.metrics.measures import Measures, measure
from featx.metrics.predictions import LabelledPredictions, align
from featx.report.occasions import report_fit
from featx.runs.bundles import add_bundle
from featx.selection.choice import Choice
from featx.selection.layers import LayerError, LayersChoice, choose_layers
from featx.selection.nested import nested_estimate
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog
from featx.workflow.describe import describe_model
from featx.workflow.tracking import track

_logger = logging.getLogger(__name__)


def _digest_array(values: np.ndarray | None) -> str | None:
    return None if values is None else digest_bytes(np.ascontiguousarray(values).tobytes()).hex()


def fingerprint(extraction: Extraction, sample: Sample, options: HeadOptions, seed: int) -> str:
    """What a bundle of a head depends on. Equal fingerprints: fitting again would give the same head."""
    views = {} if sample.views is None else {"views": sample.views.identity}
    return digest_json(
        views
        | {
            "key": extraction.store.key.digest,
            "outputs": [output.name for output in extraction.outputs],
            "split": sample.digest,
            "groups": _digest_array(sample.groups),
            "weight": _digest_array(sample.weight),
            "head": asdict(replace(options, memory=None, tensorboard=None)),
            "seed": seed,
            "featx": featx.__version__,
        }
    )


def fit_head(
    extraction: Extraction,
    sample: Sample,
    options: HeadOptions,
    seed: int,
    run: Path,
    command: str = "",
    tell: Tell = say_nothing,
    pipeline: Pipeline | None = None,
) -> Bundle:
    """Fit on the layers and poolings of the extraction, keep the best by validation, save it below `run`.

    pipeline : for the report, which is written where there is one and it asks for it

    Raises
    ------
    HeadError
        One class, features that are not finite (names the image), too few images.
    """
    start = time.perf_counter()
    wanted = fingerprint(extraction, sample, options, seed)
    recording = _recording(wanted, sample, options, run, tell)
    tables = _tables(extraction, sample)
    problem, settings = _problem(tables, sample), SearchSettings(options, seed, tell, recording)
    chosen = _choose(tables, sample, problem, settings)
    choice, outputs = chosen.choice, tuple(Output.parse(name) for name in chosen.outputs)
    features = join([tables[name] for name in chosen.outputs])
    known = [sample.images.classes[code] for code in choice.head.classes_]
    judged = [_judge(choice, features, sample, part, known) for part in ("val", "test")]
    metrics = {one.part: measure(one) for one in judged}
    about = describe_model(extraction, outputs, sample, known, command) | {
        "fingerprint": wanted,
        "head": {
            "clf": choice.clf,
            "params": _jsonable(choice.params),
            "temperature": choice.temperature,
            "features": width(features),
            "calibration": choice.calibration.kind,
            "refitted": options.refit,
            "class_weight": options.class_weight,
            "positive_weight": options.positive_weight,
        },
        "multilabel": sample.y.ndim == 2,
        "thresholds": None if choice.thresholds is None else choice.thresholds.tolist(),
        "metrics": {part: found.summary() for part, found in metrics.items()},
        "per_class": {part: found.as_json()["per_class"] for part, found in metrics.items()},
        "score": _score(choice, metrics["val"]),
        "search": {title: [one.as_json() for one in some] for title, some in chosen.tried.items()},
        "nested": nested_estimate(tables, problem, settings).as_json() if options.nested else None,
        "history": _log_of(choice).as_json(),
        "notes": list(choice.notes),
        "seconds": round(time.perf_counter() - start, 3),
    }
    if sample.views is not None:
        about["augment"] = sample.views.augmenter.as_json() | {"views": sample.views.each}
    bundle = save_model(
        run, about, choice, frozen_files(extraction, outputs), sample, _reference(features, sample, seed)
    )
    recording.discard_state()
    if pipeline is not None:
        report_fit(bundle, extraction, sample.y, sample.split, judged, pipeline)
        track(bundle, pipeline)
    return bundle


def _reference(features: Features, sample: Sample, seed: int) -> novelty.Reference:
    """What unknown images are told by: images, no views; of several labels, those with the same ones are a class."""
    train, val = (np.flatnonzero(sample.split == code) for code in (TRAIN, VAL))
    codes = sample.y if sample.y.ndim == 1 else np.unique(sample.y, axis=0, return_inverse=True)[1]
    return novelty.fit_reference(features.take(train), codes[train], features.take(val), seed)


def _recording(wanted: str, sample: Sample, options: HeadOptions, run: Path, tell: Tell) -> Recording:
    """How heads that are trained epoch by epoch are recorded; other rows or their order do not resume a training."""
    state = digest_json([wanted, _digest_array(sample.digests)])
    events = None if options.tensorboard is None else Path(options.tensorboard) / run.name
    return Recording(run / f".training-{state[:12]}", events, notify=tell)


def _tables(extraction: Extraction, sample: Sample) -> dict[str, Features]:
    """The features of the sample, and below them of its views, by output name; maps cannot be fitted on."""
    tables: dict[str, Features] = {}
    for output in extraction.outputs:
        if output.pooling == "none":
            text = "%s is a map: heads take rows of features (pooling flatten), finetune --from-cache takes maps."
            _logger.warning(text, output.name)
        else:
            own, views = extraction.features(output, sample.rows), sample.views
            tables[output.name] = own if views is None else own.followed_by(views.features(output))
    if not tables:
        raise HeadError("There are only maps (pooling none) to fit on. Add --pooling avg or flatten.")
    return tables


def _choose(tables: dict[str, Features], sample: Sample, problem: Problem, settings: SearchSettings) -> LayersChoice:
    try:
        return choose_layers(tables, problem, settings)
    except LayerError as error:
        rows = sample.rows[np.unique(sample.fitted[error.rows])]
        names = ", ".join(sample.images.paths[row] for row in rows[:3])
        raise HeadError(f"{error.output} gives NaN or infinity for {len(error.rows)} images: {names}.") from error


def _problem(tables: dict[str, Features], sample: Sample) -> Problem:
    """What is known of the rows of `_tables`, with the features of the first; a view has what its image has."""
    fitted = sample.fitted
    return Problem(
        next(iter(tables.values())),
        sample.y[fitted],
        sample.split[fitted],
        sample.images.classes,
        groups=None if sample.groups is None else sample.groups[fitted],
        image_of=None if sample.views is None else fitted,
        weight=None if sample.weight is None else sample.weight[fitted],
    )


def _judge(choice: Choice, features: Features, sample: Sample, part: str, known: list[str]) -> LabelledPredictions:
    """One part with its probabilities; those of val by the fit on train alone, also where val was fitted on later."""
    rows = np.flatnonzero(sample.split == SPLITS.index(part))
    if not len(rows):
        logits = np.empty((0, len(known)), np.float32)
    elif part == "val" and choice.val_logits is not None:
        logits = choice.val_logits
    else:
        logits = choice.logits(features.take(rows))
    chances = choice.calibration.probabilities(logits)
    paths = tuple(sample.images.paths[row] for row in sample.rows[rows])
    if choice.thresholds is not None:
        return LabelledPredictions(sample.y[rows], chances, tuple(known), choice.thresholds, part, paths)
    labels, everything = align(sample.images.classes, sample.y[rows], known)
    return LabelledPredictions(labels, chances, tuple(everything), part=part, paths=paths)


def _score(choice: Choice, val: Measures) -> dict[str, Any]:
    """What the best bundle of a run is chosen by: the metric on val, or on folds of train where there is no val."""
    best = choice.best
    metric = best.metric if best else "accuracy"
    if val.images:
        return {"metric": metric, "value": val.value(metric), "where": "val"}
    return {"metric": metric, "value": best.score if best else None, "where": best.where if best else "none"}


def save_model(
    run: Path,
    about: dict[str, Any],
    choice: Choice,
    sources: dict[str, Path],
    sample: Sample,
    reference: novelty.Reference,
) -> Bundle:
    """Write head, split, reference and network below `run` as the next bundle."""
    with tempfile.TemporaryDirectory(prefix="featx-") as name:
        folder = Path(name)
        head_file, kind, left = persist.save_head(choice.head, choice.temperature, choice.transform, folder)
        write_split(folder / "split.npz", sample.digests, sample.split)
        files = {head_file.name: head_file, "split.npz": folder / "split.npz", **sources}
        files[novelty.FILE] = reference.save(folder)
        if left.changes:
            left.save(folder / TRANSFORM_FILE)
            files[TRANSFORM_FILE] = folder / TRANSFORM_FILE
        if choice.calibration.curves:
            choice.calibration.save(folder / CALIBRATION_FILE)
            files[CALIBRATION_FILE] = folder / CALIBRATION_FILE
        if len(log := _log_of(choice)):
            log.write_csv(folder / "training.csv")
            files["training.csv"] = folder / "training.csv"
        about = about | {"head": about["head"] | {"kind": kind, "file": head_file.name}}
        return add_bundle(run, choice.clf, about, files)


def _log_of(choice: Choice) -> TrainingLog:
    """Return the log of a head that is trained epoch by epoch; one without epochs of any other."""
    log: TrainingLog = getattr(choice.head, "training_log_", TrainingLog())
    return log


def _jsonable(params: dict[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value.item() if isinstance(value, np.generic) else value
        for name, value in params.items()
        if isinstance(value, str | int | float | bool | tuple | dict | np.generic) or value is None
    }
