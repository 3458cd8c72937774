"""When a report is written, and of what: after a fit, and after an evaluation.

A report is of use, not of need: where it cannot be written, a warning says why and the work goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featx.bundle.bundle import Bundle
from featx.config import Pipeline
from featx.config.pipeline import as_yaml
from featx.dataset import SPLITS
from featx.extraction.flow import Extraction
from featx.metrics.predictions import LabelledPredictions
from featx.report.content import Content
from featx.report.report import INDEX, write_report
from featx.runs.bundles import list_bundles

FOLDER = "report"  # in a bundle's directory; not one of the bundle's files, which are sealed before
_SERIES = {"loss": "loss", "val_log_loss": "val_loss", "accuracy": "accuracy", "val_accuracy": "val_accuracy"}
_logger = logging.getLogger(__name__)


def report_fit(
    bundle: Bundle,
    extraction: Extraction,
    y: np.ndarray,
    split: np.ndarray,
    judged: Sequence[LabelledPredictions],
    pipeline: Pipeline,
) -> Path | None:
    """Write the report of a new bundle into its directory, unless the pipeline says not to; None if there is none.

    y : int64 (n,), positions in the classes of the extraction's images, or bool (n, classes); split : uint8 (n,)
    """
    timings = {
        "extract": extraction.seconds,
        **{f"extract: {stage}": seconds for stage, seconds in asdict(extraction.stages).items()},
        "fit": float(bundle.about.get("seconds", 0.0)),
    }
    counts = count_classes(extraction.images.classes, y, split)
    return report_model(bundle, counts, judged, pipeline, extraction.bad, extraction.duplicates, timings)


def report_model(
    bundle: Bundle,
    counts: Mapping[str, Mapping[str, int]],
    judged: Sequence[LabelledPredictions],
    pipeline: Pipeline,
    bad: Sequence[Mapping[str, str]],
    duplicates: int,
    timings: Mapping[str, float],
) -> Path | None:
    """Write the report of a new bundle of any kind; the parameters are those of `Content`."""
    if not pipeline.report.html:
        return None
    content = Content(
        title=f"{bundle.path.parent.name} / {bundle.path.name}",
        about=bundle.about,
        judged=tuple(judged),
        counts=counts,
        bad=bad,
        duplicates=duplicates,
        timings=timings,
        history=history_of(bundle.about),
        baselines=baselines_beside(bundle.path, bundle.about),
        pipeline=as_yaml(pipeline),
        command=str(bundle.about.get("command", "")),
    )
    return _write(bundle.path / FOLDER, content)


def report_evaluation(
    directory: Path,
    bundle: Bundle,
    source: Path,
    judged: LabelledPredictions,
    bad: Sequence[Mapping[str, str]],
    pipeline: Pipeline,
    command: str,
    seconds: float,
) -> Path | None:
    """Write the report of a bundle measured on one part; None if it cannot be written.

    source : the bundle as it was named, a directory or a `.featx` file, which `bundle.path` is only unpacked from
    """
    multilabel = judged.target == "labels"
    sizes = judged.labels.sum(axis=0) if multilabel else np.bincount(judged.labels, minlength=len(judged.classes))
    content = Content(
        title=f"{source.resolve().parent.name} / {source.name} on {judged.part}",
        about=bundle.about,
        judged=(judged,),
        counts={judged.part: dict(zip(judged.classes, sizes.tolist(), strict=False))},
        bad=bad,
        timings={"predict": seconds},
        history=history_of(bundle.about),
        baselines=baselines_beside(source, bundle.about),
        pipeline=as_yaml(pipeline),
        command=command,
    )
    return _write(directory, content)


def _write(directory: Path, content: Content) -> Path | None:
    try:
        return write_report(directory, content)
    except Exception as error:  # whatever a drawing library or a disk has to say, the model is made and measured
        _logger.warning(
            "The report could not be written to %s: %s", directory, error, exc_info=_logger.isEnabledFor(logging.INFO)
        )
        return None


def report_of(bundle: Path) -> Path | None:
    """The report in a bundle's directory, None where there is none."""
    index = bundle / FOLDER / INDEX
    return index if index.is_file() else None


def belongs_to_run(bundle: Path) -> bool:
    """Whether a path is the directory of a bundle of a run, where reports are kept; not a `.featx` file."""
    path = bundle.resolve()
    return path.is_dir() and any(about["path"] == path for about in list_bundles(path.parent))


def baselines_beside(bundle: Path, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of the networks from scratch in a bundle's run, of the same images and split, the newest of each."""
    if about.get("baseline"):
        return {}
    found = [one for one in list_bundles(bundle.resolve().parent) if one.get("baseline")]
    same = [one for one in found if one["split"]["digest"] == about["split"]["digest"]]
    return {str(one["baseline"]["net"]): one["metrics"] for one in same}


def count_classes(classes: Sequence[str], y: np.ndarray, split: np.ndarray) -> dict[str, dict[str, int]]:
    """Part -> class -> images, of the parts that have any."""
    counts = {}
    for code, part in enumerate(SPLITS):
        labels = y[split == code]
        if len(labels):
            sizes = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
            counts[part] = dict(zip(classes, sizes.tolist(), strict=True))
    return counts


def history_of(about: Mapping[str, Any]) -> dict[str, list[float]] | None:
    """Loss and accuracy by epoch of what a bundle says of its training; None where it was not trained by epochs.

    about["history"] : a dict per epoch, as fine-tuning and dense heads keep it
    """
    epochs = about.get("history") or []
    found = {name: [one.get(key) for one in epochs] for key, name in _SERIES.items()}
    return {name: values for name, values in found.items() if values and None not in values} or None
