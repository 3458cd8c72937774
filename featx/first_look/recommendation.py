"""From a sample to advice: a few layers judged, plotted, and the next commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featx.config import Metric
from featx.dataset import ImageSet
from featx.dataset.check import count_classes
from featx.first_look.advice import Advice, Numbers, ScoredOutput, advise, difference_error, margin
from featx.first_look.depths import DepthFeatures, Probe, Probing, probe_depths
from featx.first_look.larger import LargerSize
from featx.first_look.separation import Separation
from featx.first_look.study import Study, different_rows
from featx.io.commands import without_folders
from featx.io.jsontypes import Json
from featx.metrics.table import metric_label
from featx.report.figure_folder import FigureFolder
from featx.report.plot_style import style
from featx.report.plots import draw_depths


@dataclass(frozen=True)
class DepthsResult:
    """How well a linear head does on a few layers. probes : the lowest layer first; images : they were judged on"""

    picture: str
    metric: Metric
    images: int
    probes: tuple[ScoredOutput, ...]

    def as_json(self) -> dict[str, Json]:
        """What `featx look --json` prints of it."""
        probes: list[Json] = [{"output": one.name, "share": one.share, "score": one.score} for one in self.probes]
        return {"picture": self.picture, "metric": self.metric, "images": self.images, "probes": probes}


@dataclass(frozen=True)
class Recommendation:
    """Advice with the commands that follow it, and the numbers that it was given on.

    larger : what a larger size of the images brought; None where none was tried
    """

    advice: Advice
    commands: tuple[str, ...]
    numbers: Numbers
    larger: LargerSize | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """All of them in sentences."""
        return (*self.advice.reasons, *([] if self.larger is None else [self.larger.sentence]))

    @property
    def input_size(self) -> int | None:
        """Which size of the images is advised; None: that which they have."""
        return self.larger.side if self.larger is not None and self.larger.better else None

    def without_folders(self) -> Recommendation:
        """The same with commands that name no folder of this machine."""
        return replace(self, commands=tuple(map(without_folders, self.commands)))

    def as_json(self) -> dict[str, Json]:
        """What `featx look --json` prints of it."""
        larger = None if self.larger is None else self.larger.as_json()
        more = {"reasons": self.reasons, "commands": self.commands, "numbers": self.numbers.as_json(), "larger": larger}
        return self.advice.as_json() | more


def judge_layers(study: Study, features: DepthFeatures) -> Probing | None:
    """Judge the layers on the different readable images of a sample with labels; None where no row can be left out."""
    rows, labels = different_rows(features.extraction), study.sample.labels
    assert labels is not None
    return probe_depths(features, rows, labels[rows], study.groups(rows), study.pipeline.data.seed)


def describe_layers(probing: Probing, folder: FigureFolder) -> DepthsResult:
    """Draw what was judged."""
    metric = metric_label(probing.metric).lower()
    with style():
        alt = "; ".join(f"{probe.output.name} {probe.score:.3f}" for probe in probing.probes)
        picture = folder.draw("depths", draw_depths(_lines(probing), metric), f"{metric.capitalize()} by layer: {alt}.")
    return DepthsResult(picture, probing.metric, probing.rows, tuple(map(_scored, probing.probes)))


def recommend(study: Study, probing: Probing, separation: Separation | None, arguments: str) -> Recommendation:
    """What to try. arguments : of the commands, the data first"""
    numbers = gather(study.images, probing, separation)
    advice = advise(numbers)
    return Recommendation(advice, tuple(write_commands(advice, arguments, _run_name(study))), numbers)


def add_larger(found: Recommendation, larger: LargerSize, study: Study, arguments: str) -> Recommendation:
    """With what a larger size of the images brought, and that size in the commands where it is better."""
    found = replace(found, larger=larger)
    if found.input_size is None:
        return found
    typed = re.sub(r" --input-size[ =]\d+", "", f" {arguments}").strip()
    arguments = f"{typed} --input-size {found.input_size}".strip()
    return replace(found, commands=tuple(write_commands(found.advice, arguments, _run_name(study))))


def _run_name(study: Study) -> str:
    return study.pipeline.report.name or study.images.name


def _lines(probing: Probing) -> dict[str, list[tuple[str, float]]]:
    """Pooling -> (layer, score) from the lowest layer up; grids of any number of cells are one line."""
    lines: dict[str, list[tuple[str, float]]] = {}
    names = {"avg": "averaged", "cls": "class token"}
    for probe in probing.probes:
        pooling = names.get(probe.output.pooling, "averaged over a grid")
        lines.setdefault(pooling, []).append((probe.output.layer, probe.score))
    return lines


def gather(images: ImageSet, probing: Probing, separation: Separation | None) -> Numbers:
    """The numbers that advice is given on. separation : by ImageNet's classes, where it is known"""
    sizes = list(count_classes(images, np.ones(len(images), bool)).values())
    last, inner = _cheapest(probing.last), _cheapest(probing.inner) if probing.inner else None
    error = None if inner is None else _error_between(inner, last)
    return Numbers(
        images=len(images) if images.multilabel else sum(sizes),
        classes=len(sizes),
        median=float(np.median(sizes)),
        inner=None if inner is None else _scored(inner),
        last=_scored(last),
        judged=probing.rows,
        error=error,
        metric=metric_label(probing.metric).lower(),
        separation=separation,
    )


def _cheapest(probes: Sequence[Probe]) -> Probe:
    """The best output, or the best of those with the fewest cells that are within noise of it."""
    best = max(probes, key=lambda probe: probe.score)
    near = [probe for probe in probes if best.score - probe.score <= margin(_error_between(best, probe))]
    return min(near, key=lambda probe: (_cells(probe), -probe.score))


def _cells(probe: Probe) -> int:
    """Places of the layer's map that features are taken from."""
    _, _, side = probe.output.pooling.partition(":")
    return int(side) ** 2 if side else 1


def _error_between(one: Probe, other: Probe) -> float | None:
    """The standard error of the difference between two scores; None where images have several labels."""
    if one.right is None or other.right is None:
        return None
    return difference_error(one.right.tolist(), other.right.tolist())


def _scored(probe: Probe) -> ScoredOutput:
    return ScoredOutput(probe.output.name, probe.share, probe.score)


def write_commands(advice: Advice, arguments: str, name: str) -> list[str]:
    """What to type. A fine-tune from another layer than the first head's has a run of its own to start from.

    arguments : the data, and the options that differ from the defaults; name : of the run
    """
    data = f" {arguments}" if arguments else ""
    fit = f"featx fit-head{data} --layer {advice.output} --clf {advice.clf}"
    if advice.tune is None:
        return [fit]
    if advice.tune == advice.output:
        return [fit, f"featx finetune{data} --layer {advice.tune}"]
    apart = f"--layer {advice.tune} --name {shlex.quote(f'{name}-tuned')}"
    return [fit, f"featx fit-head{data} {apart} --clf logreg", f"featx finetune{data} {apart}"]
