"""When a report is written, and of what: after a fit, and after an evaluation.

A report is useful, not necessary: where it cannot be written, a warning says why and the work goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.bundle.bundle import Bundle
from featx.config import Pipeline
from featx.config.pipeline import as_yaml
from featx.inference.judge import Judged
from featx.report.content import Content
from featx.report.report import INDEX, write_report
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
    predictions: Judged
    bad: Sequence[Mapping[str, str]]
    seconds: float


def report_model(bundle: Bundle, predictions: Sequence[Judged], intake: Intake, pipeline: Pipeline) -> Path | None:
    """Write the report of a new bundle into its directory, unless the pipeline forbids it; None if there is none."""
    if not pipeline.report.html:
        return None
    about = bundle.about
    content = Content(
        title=f"{bundle.path.parent.name} / {bundle.path.name}",
        about=about,
        judged=tuple(predictions),
        counts=intake.class_counts(),
        bad=intake.bad,
        duplicates=intake.duplicates,
        timings={**intake.timings, "train" if "baseline" in about else "fit": float(about.get("seconds", 0.0))},
        history=history_of(about),
        baselines=baselines_beside(bundle.path, about),
        pipeline=as_yaml(pipeline),
        command=str(about.get("command", "")),
    )
    return _write(report_folder(bundle.path), content)


def report_evaluation(directory: Path, evaluation: Evaluation, pipeline: Pipeline, command: str) -> Path | None:
    """Write the report of a bundle measured on one part; None if it cannot be written."""
    predictions, about, source = evaluation.predictions, evaluation.bundle.about, evaluation.source
    labels, classes = predictions.labels, predictions.classes
    sizes = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
    content = Content(
        title=f"{source.resolve().parent.name} / {source.name} on {predictions.part}",
        about=about,
        judged=(predictions,),
        counts={predictions.part: dict(zip(classes, sizes.tolist(), strict=False))},
        bad=evaluation.bad,
        timings={"predict": evaluation.seconds},
        history=history_of(about),
        baselines=baselines_beside(source, about),
        pipeline=as_yaml(pipeline),
        command=command,
    )
    return _write(directory, content)


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


def baselines_beside(bundle: Path, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of the networks from scratch in a bundle's run, of the same images and split, the newest of each."""
    if about.get("baseline"):
        return {}
    found = [one.about for one in Run(bundle.resolve().parent).bundles() if one.about.get("baseline")]
    same = [one for one in found if one["split"]["digest"] == about["split"]["digest"]]
    return {str(one["baseline"]["net"]): one["metrics"] for one in same}


def history_of(about: Mapping[str, Any]) -> dict[str, list[float]] | None:
    """Loss and accuracy by epoch, as a bundle has them; None where it was not trained by epochs.

    about["history"] : a dict per epoch, as fine-tuning and dense heads keep it
    """
    epochs = about.get("history") or []
    found = {name: [one.get(key) for one in epochs] for key, name in _SERIES.items()}
    return {name: values for name, values in found.items() if values and None not in values} or None
