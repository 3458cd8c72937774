"""The content of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from featx.bundle.manifest import Manifest
from featx.bundle.records import MetricsRecord
from featx.config.results import PlotFormat
from featx.metrics.predictions import LabelledPredictions
from featx.report.growth import Growth
from featx.report.next_steps import Typed


@dataclass(frozen=True)
class Content:
    """Everything that a report shows.

    title : of the page; manifest : of the model
    judged : the parts that were measured; those without images are left out
    counts : part -> class -> images
    bad : images that could not be read, {path, reason}; duplicates : images that are copies of others
    timings : stage -> seconds
    history : loss, val_loss, accuracy, val_accuracy by epoch, as far as they are known; None for what has no epochs
    baselines : networks from scratch on the same images, name -> part -> metrics
    plots : "svg" or "pdf" for such files beside the PNG files
    keep_paths : whether names of images may have folders of this machine
    linked : whether the page leads to the files of images, whose data was named by a path below the current folder
    growth : what more images would bring; None where that was not measured
    pipeline : as YAML; command : that wrote the report; typed : what the commands of the next steps begin with
    """

    title: str
    manifest: Manifest
    judged: tuple[LabelledPredictions, ...]
    counts: Mapping[str, Mapping[str, int]]
    bad: Sequence[Mapping[str, str]] = ()
    duplicates: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] | None = None
    baselines: Mapping[str, Mapping[str, MetricsRecord]] = field(default_factory=dict)
    pipeline: str = ""
    command: str = ""
    plots: PlotFormat = "png"
    keep_paths: bool = False
    linked: bool = False
    typed: Typed = field(default_factory=Typed)
    growth: Growth | None = None
