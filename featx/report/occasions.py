"""When and about what a report is written: after a fit, and after an evaluation.

A report is useful, not necessary: where it cannot be written, a warning says why and the work goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.bundle.bundle import Bundle
from featx.bundle.manifest import Manifest
from featx.bundle.records import MetricsRecord
from featx.bundle.sealing import without_folders
from featx.config import Pipeline
from featx.config.arguments import file_of
from featx.config.pipeline import as_shown, command_shown
from featx.io.commands import short_path
from featx.io.urls import is_url
from featx.metrics.predictions import LabelledPredictions
from featx.report.content import Content
from featx.report.growth import Growth
from featx.report.report import INDEX, write_report
from featx.report.typed import typed_again, typed_for, typed_shown
from featx.report.verdict import FLATTERED, Verdict, reach_verdict
from featx.runs.origin import Intake
from featx.runs.run import Run, report_folder

_SERIES = {"loss": "loss", "val_log_loss": "val_loss", "accuracy": "accuracy", "val_accuracy": "val_accuracy"}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """A bundle measured on one part.

    source : the bundle as it was named, a directory or a `.featx` file, which `bundle.path` is only unpacked from
    bad : {path, reason} of images that could not be read; seconds : that predicting took
    """

    bundle: Bundle
    source: Path
    predictions: LabelledPredictions
    bad: Sequence[Mapping[str, str]]
    seconds: float


def report_model(
    bundle: Bundle,
    predictions: Sequence[LabelledPredictions],
    intake: Intake,
    pipeline: Pipeline,
    growth: Growth | None = None,
) -> Path | None:
    """Write the report of a new bundle into its directory, unless the pipeline forbids it; None if there is none."""
    if not pipeline.report.html:
        return None
    manifest = _shown(bundle.manifest, pipeline)
    content = Content(
        title=f"{bundle.path.parent.name} / {bundle.path.name}",
        manifest=manifest,
        judged=tuple(predictions),
        counts=intake.class_counts(),
        bad=_bad(intake.bad, pipeline),
        duplicates=intake.duplicates,
        timings={**intake.timings, "train" if manifest.baseline else "fit": manifest.seconds or 0.0},
        history=history_of(manifest),
        baselines=baselines_beside(bundle.path, manifest),
        pipeline=as_shown(pipeline),
        plots=pipeline.report.plots,
        keep_paths=pipeline.report.keep_paths,
        linked=_is_below(pipeline.data.path),
        command=manifest.command,
        typed=typed_shown(typed_for(bundle, pipeline, bundle.manifest.command), pipeline),
        growth=growth,
    )
    return _write(report_folder(bundle.path), content)


def report_evaluation(directory: Path, evaluation: Evaluation, pipeline: Pipeline, command: str) -> Path | None:
    """Write the report of a bundle measured on one part; None if it cannot be written."""
    predictions, source = evaluation.predictions, evaluation.source
    manifest = _shown(evaluation.bundle.manifest, pipeline)
    labels, classes = predictions.labels, predictions.classes
    sizes = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
    content = Content(
        title=f"{source.resolve().parent.name} / {source.name} on {predictions.part}",
        manifest=manifest,
        judged=(predictions,),
        counts={predictions.part: dict(zip(classes, sizes.tolist(), strict=False))},
        bad=_bad(evaluation.bad, pipeline),
        timings={"predict": evaluation.seconds},
        history=history_of(manifest),
        baselines=baselines_beside(source, manifest),
        pipeline=as_shown(pipeline) if file_of(command) is not None else "",  # else it is not the model's
        plots=pipeline.report.plots,
        keep_paths=pipeline.report.keep_paths,
        linked=_is_below(pipeline.data.path),
        command=command_shown(pipeline, command),
        typed=typed_shown(typed_again(evaluation.bundle, pipeline, command), pipeline),
    )
    return _write(directory, content)


def _shown(manifest: Manifest, pipeline: Pipeline) -> Manifest:
    return manifest if pipeline.report.keep_paths else without_folders(manifest)


def _bad(bad: Sequence[Mapping[str, str]], pipeline: Pipeline) -> Sequence[Mapping[str, str]]:
    return bad if pipeline.report.keep_paths else [{**one, "path": short_path(one["path"])} for one in bad]


def _is_below(data: str | None) -> bool:
    """Whether data was named by a path below the current folder, so that a link to it names no other folder."""
    return data is not None and not is_url(data) and not Path(data).is_absolute() and short_path(data) == data


def shows_links(pipeline: Pipeline) -> bool:
    """Whether a page may lead to the files of the data, which name no other folder of this machine."""
    return _is_below(pipeline.data.path)


def verdict_on(
    bundle: Bundle, predictions: Sequence[LabelledPredictions], pipeline: Pipeline, command: str, duplicates: int = 0
) -> Verdict:
    """The verdict that the report of a new bundle opens with; `predictions`, `duplicates` as in `Content`."""
    return reach_verdict(predictions, bundle.manifest, duplicates, typed_for(bundle, pipeline, command))


def verdict_again(
    bundle: Bundle, judged: LabelledPredictions, pipeline: Pipeline, command: str, notes: Sequence[str] = ()
) -> Verdict:
    """The verdict on a bundle that was measured again, by a pipeline that need not be the one that it was made by.

    notes : on the images, of which the verdict has the one that they were trained on, where no part says so
    """
    found = reach_verdict([judged], bundle.manifest, 0, typed_again(bundle, pipeline, command))
    flattered = [note for note in notes if note.endswith(FLATTERED) and judged.part not in {"train", "all"}]
    return replace(found, sentences=(*flattered, *found.sentences))


def _write(directory: Path, content: Content) -> Path | None:
    try:
        return write_report(directory, content)
    except Exception as error:  # whatever a drawing library or a disk complains of, the model is made and measured
        _logger.warning(
            "The report could not be written to %s: %s", directory, error, exc_info=_logger.isEnabledFor(logging.INFO)
        )
        return None


def report_of(bundle: Path) -> Path | None:
    """The report in a bundle's directory, None where there is none."""
    index = report_folder(bundle) / INDEX
    return index if index.is_file() else None


def belongs_to_run(bundle: Path) -> bool:
    """Whether a path is the directory of a bundle of a run, where reports are kept; not a `.featx` file."""
    path = bundle.resolve()
    return path.is_dir() and any(one.path == path for one in Run(path.parent).bundles())


def baselines_beside(bundle: Path, manifest: Manifest) -> dict[str, dict[str, MetricsRecord]]:
    """The metrics of the networks from scratch in a bundle's run, of the same images and split, the newest of each."""
    if manifest.baseline is not None:
        return {}
    beside = [one.manifest for one in Run(bundle.resolve().parent).bundles()]
    return {
        one.baseline.net: {part: measured for part, measured in one.metrics.items() if measured is not None}
        for one in beside
        if one.baseline is not None and one.split.digest == manifest.split.digest
    }


def history_of(manifest: Manifest) -> dict[str, list[float]] | None:
    """Loss and accuracy by epoch; None where a model was not trained by epochs. What an epoch lacks is left out."""
    found = {name: [one.values.get(key) for one in manifest.history] for key, name in _SERIES.items()}
    whole = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: values for name, values in whole.items() if values and len(values) == len(found[name])} or None
