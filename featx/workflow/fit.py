"""The cheap stage: from cached features, labels and a split to the best head, measured, as a value."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones import Output
from featx.bundle import novelty
from featx.bundle.coverage import save_coverage
from featx.bundle.fields import read_record
from featx.bundle.manifest import Manifest
from featx.bundle.records import CandidateRecord, HeadRecord, NestedRecord, ScoreRecord
from featx.bundle.split import write_split
from featx.config import HeadOptions
from featx.config.head import plugin_of
from featx.dataset import SPLITS, TRAIN, VAL
from featx.errors import HeadError
from featx.extraction.flow import Extraction, frozen_files
from featx.extraction.sample import Sample
from featx.features import Features, width
from featx.heads import persist
from featx.heads.calibration import CALIBRATION_FILE
from featx.heads.classifiers import class_path
from featx.heads.kept import PICKLER
from featx.heads.transform import TRANSFORM_FILE, join
from featx.io.context import Context, Notify
from featx.io.counting import counted
from featx.io.digests import digest_bytes, digest_json
from featx.io.jsontypes import Json
from featx.io.modules import module_digests
from featx.metrics.measures import Measures
from featx.metrics.predictions import LabelledPredictions, align, group_codes, target_of
from featx.report.growth import Growth, growth_of
from featx.runs.measured import MeasuredParts, correction_record, epoch_records
from featx.runs.origin import Intake, Provenance, algorithm, augment_record, backbone_record, key_record, weighed_mark
from featx.runs.prepared import Prepared
from featx.selection.choice import Candidate, Choice
from featx.selection.layers import LayerError, LayersChoice, choose_layers
from featx.selection.nested import nested_estimate
from featx.selection.problem import Problem
from featx.selection.settings import SearchSettings
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog

_ALGORITHM = 3  # of choosing, fitting, calibrating: raised when equal options begin to give another head
_STATE = 1  # of what a training resumes from: raised when a state that was written before can no longer be gone on from
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A head that was fitted on features and is not a bundle yet, with what was measured of it.

    Attributes
    ----------
    manifest : what `bundle.json` holds, but for the checksums
    predictions : of val and test
    intake : what it was made of
    choice : the head, and what goes with it
    network : the backbone up to the chosen layers: name in a bundle -> file or folder in the store
    reference : what unknown images are found by
    recording : where the state is that trainings resume from, of no use once there is a bundle
    growth : what more images would bring, for the report; None where that takes long
    """

    manifest: Manifest
    predictions: tuple[LabelledPredictions, ...]
    intake: Intake
    choice: Choice
    network: Mapping[str, Path]
    reference: novelty.Reference
    recording: Recording
    growth: Growth | None = None

    @property
    def label(self) -> str:
        """What its folder in a run is called, after the number."""
        return self.choice.clf

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the files of a bundle into a folder; return what they are called in the bundle, and where they are."""
        choice, sample = self.choice, self.intake.sample
        head, _, left = persist.save_head(choice.head, choice.temperature, choice.transform, folder)
        reference, split = self.reference.save(folder), folder / "split.npz"
        write_split(split, sample.digests, sample.split)
        files = {head.name: head, split.name: split, reference.name: reference, **self.network}
        if left.changes:
            left.save(folder / TRANSFORM_FILE)
            files[TRANSFORM_FILE] = folder / TRANSFORM_FILE
        if choice.calibration.curves:
            choice.calibration.save(folder / CALIBRATION_FILE)
            files[CALIBRATION_FILE] = folder / CALIBRATION_FILE
        if not self.manifest.head.refitted:
            files |= save_coverage(folder, self.predictions[0])
        if len(log := _log_of(choice)):
            log.write_csv(folder / "training.csv")
            files["training.csv"] = folder / "training.csv"
        return files


def _digest_array(values: np.ndarray | None) -> str | None:
    return None if values is None else digest_bytes(np.ascontiguousarray(values).tobytes()).hex()


def fingerprint(prepared: Prepared) -> str:
    """What a bundle of a head depends on. Equal fingerprints: fitting again would give the same head."""
    extraction, sample, pipeline = prepared.extraction, prepared.sample, prepared.pipeline
    views, head = {} if sample.views is None else {"views": sample.views.identity}, pipeline.head
    return digest_json(
        views
        | weighed_mark(pipeline.head.class_weight, pipeline.head.positive_weight)
        | {
            "key": extraction.store.key.digest,
            "outputs": [output.name for output in extraction.outputs],
            "split": sample.digest,
            "groups": _digest_array(sample.groups),
            "weight": _digest_array(sample.weight),
            "head": _fingerprint_of_options(head),
            **_classifier_mark(head, several=sample.y.ndim == 2),
            "seed": pipeline.data.seed,
            "featx": algorithm(_ALGORITHM, head.schedule if head.clf in {"dense", "auto"} else "constant"),
        }
    )


def _fingerprint_of_options(head: HeadOptions) -> dict[str, Json]:
    """What a fingerprint holds of the options; one that came later is absent where it is not set."""
    found = asdict(replace(head, memory=None, tensorboard=None))
    return {name: value for name, value in found.items() if name != "gamma" or value is not None}


def _classifier_mark(head: HeadOptions, several: bool) -> dict[str, Json]:
    """What a fingerprint holds of a classifier that is not featx' own: its code, and how its labels are scored."""
    path, plugin = class_path(head), plugin_of(head.clf)
    if not path:
        return {}
    root = path.partition(".")[0]
    code = [] if root == "sklearn" else module_digests((root,))
    mark = [*code, *([plugin.title] if plugin else []), *(["odds"] if several else [])]
    return {"classifier": mark} if mark else {}


def fit(prepared: Prepared, context: Context = Context()) -> Fitted:
    """Fit on the layers and poolings of the extraction, and keep the best by validation.

    Raises
    ------
    HeadError
        One class, features that are not finite (names the image), too few images.
    """
    start = time.perf_counter()
    context.progress("fit", 0, 0)
    sample, seed = prepared.sample, prepared.pipeline.data.seed
    wanted = fingerprint(prepared)
    recording = _recording(wanted, prepared, context.notify)
    tables = _tables(prepared.extraction, sample)
    problem = _problem(tables, sample)
    settings = SearchSettings(prepared.pipeline.head, seed, context.notify, recording)
    chosen = _choose(tables, sample, problem, settings)
    choice = chosen.choice
    features = join([tables[name] for name in chosen.outputs])
    known = [sample.images.classes[code] for code in choice.head.classes_]
    predictions = tuple(_predict(choice, features, sample, part, known) for part in ("val", "test"))
    nested = nested_estimate(tables, problem, settings).as_json() if settings.options.nested else None
    provenance = Provenance(context.command, wanted, time.perf_counter() - start)
    manifest = replace(
        _describe(chosen, predictions, width(features), prepared),
        nested=None if nested is None else read_record(NestedRecord, nested),
    )
    return Fitted(
        provenance.stamp(manifest),
        predictions,
        Intake.of(prepared.extraction, sample),
        choice,
        frozen_files(prepared.extraction, manifest.outputs),
        _reference(features, sample, seed),
        recording,
        growth_of(features, sample, seed) if prepared.pipeline.report.html else None,
    )


def _describe(
    chosen: LayersChoice, predictions: Sequence[LabelledPredictions], features: int, prepared: Prepared
) -> Manifest:
    """What was chosen and measured.

    features : how many the head takes
    """
    choice, sample, measured = chosen.choice, prepared.sample, MeasuredParts.of(predictions)
    intake, views = Intake.of(prepared.extraction, sample), sample.views
    return Manifest(
        classes=tuple(sample.images.classes[code] for code in choice.head.classes_),
        split=intake.split_record(),
        data=intake.data_record(),
        outputs=tuple(Output.parse(name) for name in chosen.outputs),
        backbone=backbone_record(prepared.extraction),
        key=key_record(prepared.extraction),
        head=_head_record(choice, features, prepared.pipeline.head),
        target=target_of(sample.y),
        thresholds=None if choice.thresholds is None else tuple(choice.thresholds.tolist()),
        metrics=measured.metrics,
        per_class=measured.per_class,
        score=_score(choice, measured.parts["val"]),
        search={title: tuple(map(_candidate_record, some)) for title, some in chosen.tried.items()},
        history=epoch_records(_log_of(choice)),
        notes=(*sample.notes, *choice.notes, *_pickle_note(choice)),
        augment=None if views is None else augment_record(views.augmenter, views.each),
    )


def _head_record(choice: Choice, features: int, options: HeadOptions) -> HeadRecord:
    filed, plugin = persist.filed(choice.head), plugin_of(choice.clf)
    return HeadRecord(
        clf=choice.clf,
        temperature=choice.temperature,
        features=features,
        kind=filed.form,
        params=_jsonable(choice.params),
        calibration=choice.calibration.kind,
        refitted=options.refit and choice.val_logits is not None,
        class_weight=options.class_weight,
        positive_weight=options.positive_weight,
        file=filed.file,
        correction=correction_record(choice.calibration),
        imports=filed.imports,
        plugin="" if plugin is None else plugin.title,
        reason=filed.reason,
    )


def _pickle_note(choice: Choice) -> tuple[str, ...]:
    """What is said of a head that cannot be shared, and that has to be asked for."""
    filed = persist.filed(choice.head)
    if filed.form != "pickle":
        return ()
    named = " ".join(f"--import {name}" for name in (*filed.imports, PICKLER))
    return (f"The head is kept as a pickle ({filed.reason}): it is not packed, and other commands need {named}.",)


def _candidate_record(candidate: Candidate) -> CandidateRecord:
    return CandidateRecord(candidate.clf, candidate.params, candidate.score, candidate.metric, candidate.where)


def _reference(features: Features, sample: Sample, seed: int) -> novelty.Reference:
    """What unknown images are found by: images, no views; of several labels, those with the same ones are a class."""
    train, val = (np.flatnonzero(sample.split == code) for code in (TRAIN, VAL))
    codes = sample.y if sample.y.ndim == 1 else np.unique(sample.y, axis=0, return_inverse=True)[1]
    return novelty.fit_reference(features.take(train), codes[train], features.take(val), seed)


def _recording(wanted: str, prepared: Prepared, notify: Notify) -> Recording:
    """How heads that are trained epoch by epoch are recorded; other rows or their order do not resume a training."""
    state, events = [wanted, _digest_array(prepared.sample.digests)], prepared.pipeline.head.tensorboard
    digest = digest_json(state if _STATE == 1 else [*state, _STATE])
    folder = None if events is None else Path(events) / prepared.run.name
    return Recording(prepared.run.training_state("training", digest), folder, notify=notify)


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
        raise HeadError(
            f"{error.output} gives NaN or infinity for {counted(len(error.rows), 'image')}: {names}."
        ) from error


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


def _predict(choice: Choice, features: Features, sample: Sample, part: str, known: list[str]) -> LabelledPredictions:
    """One part with its probabilities; those of val by the fit on train alone, also where val was fitted on later."""
    rows = np.flatnonzero(sample.split == SPLITS.index(part))
    if not len(rows):
        logits = np.empty((0, len(known)), np.float32)
    elif part == "val" and choice.val_logits is not None:
        logits = choice.val_logits
    else:
        logits = choice.logits(features.take(rows))
    probabilities = choice.calibration.probabilities(logits)
    paths = tuple(sample.images.paths[row] for row in sample.rows[rows])
    groups = group_codes(sample.images.groups, sample.rows[rows])
    if choice.thresholds is not None:
        return LabelledPredictions(sample.y[rows], probabilities, tuple(known), choice.thresholds, part, paths, groups)
    labels, everything = align(sample.images.classes, sample.y[rows], known)
    emphasis = choice.calibration.emphasis
    return LabelledPredictions(labels, probabilities, tuple(everything), None, part, paths, groups, emphasis)


def _score(choice: Choice, val: Measures) -> ScoreRecord:
    """What the best bundle of a run is chosen by: the metric on val, or on folds of train where there is no val."""
    best = choice.best
    metric = best.metric if best else "accuracy"
    if val.images:
        return ScoreRecord(metric, val.value(metric), "val")
    return ScoreRecord(metric, best.score, best.where) if best else ScoreRecord(metric, None, "none")


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
