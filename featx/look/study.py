"""What networks say of a sample of the images: ImageNet's classes, a linear head at a few depths, and advice."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.config import Pipeline
from featx.dataset import ImageSet
from featx.dataset.check import count_classes
from featx.errors import BackboneError
from featx.extraction.flow import Extraction
from featx.images.grid import Picture
from featx.io.digest_arrays import first_of_equal
from featx.io.progress import Progress, no_progress
from featx.look.advice import Advice, Judged, Numbers, advise, difference_error
from featx.look.album import Album
from featx.look.depths import Probe, Probing, extract_depths, probe_depths
from featx.look.imagenet import Answers, ask, class_names, count_pairs, measure_separation
from featx.look.sheet import NO_LABEL, some_of
from featx.report.plots import draw_depths, style
from featx.report.scores import metric_label
from featx.store.cache import Cache

_LEAST_OF_A_CLASS = 5  # images in the sample; of more classes than fit, some are drawn
_ANSWERED = 24  # images in the picture of ImageNet's answers
_COMMONEST = 3  # ImageNet classes that are told of each class


def draw_sample(images: ImageSet, most: int, seed: int, without: Collection[int] = ()) -> np.ndarray:
    """Positions of at most so many images, as many of each class as there are, drawn by seed alone: int64 (n,).

    Of more classes than have room for five images each, some are drawn. Images with several labels are drawn alike.

    without : positions that are left out, of images that cannot be read
    """
    generator = np.random.default_rng(seed)
    usable = np.setdiff1d(np.arange(len(images)), np.array(list(without), np.int64))
    if images.labels is None or images.multilabel:
        return np.sort(generator.permutation(usable)[:most])
    labels = images.labels[usable]
    classes = some_of(np.unique(labels[labels >= 0]).tolist(), max(2, most // _LEAST_OF_A_CLASS), generator)
    quota = max(1, most // max(1, len(classes)))
    drawn = [generator.permutation(usable[labels == code])[:quota] for code in classes]
    return np.sort(np.concatenate([np.empty(0, np.int64), *drawn]))


@dataclass
class Study:
    """A sample of the images, and what becomes known of it.

    Attributes
    ----------
    images, sample : all images, and those that networks are run on
    cache : where their features are
    notes : what could not be told, and why
    bad : path -> reason, of images of the sample that cannot be read
    """

    images: ImageSet
    sample: ImageSet
    pipeline: Pipeline
    cache: Cache
    progress: Progress = no_progress
    notes: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def plain(self) -> ImageSet:
        """The sample as images alone: that a class has none that can be read is not an error here."""
        return replace(self.sample, labels=None, classes=())

    def different(self, extraction: Extraction) -> np.ndarray:
        """The rows of the sample that can be read, of equal images one; the others are put down."""
        self.bad |= {one["path"]: one["reason"] for one in extraction.bad}
        rows = np.flatnonzero(extraction.readable)
        return np.asarray(rows[first_of_equal(extraction.digests[rows])])

    def codes(self, rows: np.ndarray) -> np.ndarray | None:
        """The class of each row, int64 (n,); of several labels, which set of them; None without labels."""
        labels = self.sample.labels
        if labels is None:
            return None
        return np.unique(labels[rows], axis=0, return_inverse=True)[1] if labels.ndim == 2 else labels[rows]

    def groups(self, rows: np.ndarray) -> np.ndarray | None:
        """The group of each row, int64 (n,); a row without one is a group of its own. None where there are none."""
        groups = self.sample.groups
        if groups is None:
            return None
        return np.unique([groups[row] or f"\0{row}" for row in rows.tolist()], return_inverse=True)[1]

    def name(self, row: int) -> str:
        """The labels of a row of the sample, in words."""
        return " + ".join(self.sample.label_names(row)) or NO_LABEL


def tell(study: Study, insist: bool, advice: bool, album: Album, arguments: str = "") -> dict[str, Any]:
    """What networks say of the sample, as far as they say anything: the keys imagenet, depths, advice.

    insist : whether ImageNet's classes have to be told; advice : whether to advise; arguments : of its commands

    Raises
    ------
    BackboneError
        Where it insists: a network that cannot be had.
    """
    told: dict[str, Any] = {}
    why_not = _why_no_advice(study) if advice else ""
    if why_not:
        study.notes.append(f"No advice: {why_not}")
    advice = advice and not why_not
    if not len(study.sample) or not (insist or advice):
        return told
    try:
        answers = ask(study.plain, study.pipeline.features, study.cache, study.progress)
        study.notes += answers.notes
        told["imagenet"] = _describe_answers(study, answers, album)
        if advice:
            told |= _advise(study, told["imagenet"]["separation"], album, arguments)
    except BackboneError as error:
        if insist:
            raise
        study.notes.append(f"No advice: {error}")
    return told


def _why_no_advice(study: Study) -> str:
    images = study.images
    if images.labels is None:
        return "the images have no labels."
    if len(images.classes) < 2:
        return f"there is one class ({', '.join(images.classes)}), and nothing to tell it from."
    return "" if len(study.sample) else "no image that can be read has a label."


# --- ImageNet's classes ----------------------------------------------------------------------------------------------


def _describe_answers(study: Study, answers: Answers, album: Album) -> dict[str, Any]:
    rows = study.different(answers.extraction)
    place = np.searchsorted(answers.rows, rows)
    first, codes = answers.first[place], study.codes(rows)
    separation = None if codes is None else measure_separation(first, codes)
    shown = sorted(_alternate(codes, len(rows))[:_ANSWERED].tolist(), key=lambda i: (study.name(int(rows[i])), i))
    pictures = [_answered(study, int(rows[i]), answers.top(int(place[i]))) for i in shown]
    album.grid("imagenet", pictures, columns=6)
    return {
        "picture": album.path_of("imagenet"),
        "backbone": answers.spec.label,
        "preprocessing": answers.spec.preprocessing,
        "images": len(rows),
        "separation": separation and asdict(separation),
        "classes": [] if codes is None else _commonest(study, rows, first, codes),
        "predictions": [
            {
                "path": study.sample.paths[row],
                "label": None if codes is None else study.name(row),
                "top": [{"label": label, "confidence": confidence} for label, confidence in answers.top(at)],
            }
            for row, at in zip(rows.tolist(), place.tolist(), strict=True)
        ],
    }


def _answered(study: Study, row: int, top: list[tuple[str, float]]) -> Picture:
    path = study.sample.paths[row]
    title = Path(path).name if study.sample.labels is None else study.name(row)
    return Picture(path, (title, *(f"{chance:.0%} {label}" for label, chance in top)))


def _commonest(study: Study, rows: np.ndarray, first: np.ndarray, codes: np.ndarray) -> list[dict[str, Any]]:
    """Of each class the ImageNet classes that most of its images are taken for."""
    table, seen, names = count_pairs(first, codes), np.unique(first), class_names()
    told = []
    for counts, code in zip(table, np.unique(codes), strict=True):
        order = [column for column in np.argsort(-counts, kind="stable")[:_COMMONEST].tolist() if counts[column]]
        shares = [{"label": names[seen[column]], "share": float(counts[column] / counts.sum())} for column in order]
        label = study.name(int(rows[codes == code][0]))
        told.append({"label": label, "images": int(counts.sum()), "commonest": shares})
    return told


def _alternate(codes: np.ndarray | None, count: int) -> np.ndarray:
    """Positions in turns: the first of every class, then the second of every class, and so on."""
    if codes is None:
        return np.arange(count)
    turn = np.zeros(count, np.int64)
    for code in np.unique(codes):
        turn[codes == code] = np.arange((codes == code).sum())
    return np.lexsort((codes, turn))


# --- advice ----------------------------------------------------------------------------------------------------------


def _advise(study: Study, separation: dict[str, float] | None, album: Album, arguments: str) -> dict[str, Any]:
    features = extract_depths(study.plain, study.pipeline.features, study.cache, study.progress)
    rows = study.different(features.extraction)
    labels = study.sample.labels
    assert labels is not None
    probing = probe_depths(features, rows, labels[rows], study.groups(rows), study.pipeline.data.seed)
    if probing is None:
        study.notes.append("No advice: to judge layers takes two classes, one of them of two images or more.")
        return {}
    metric = metric_label(probing.metric).lower()
    with style():
        alt = "; ".join(f"{probe.output.name} {probe.score:.3f}" for probe in probing.probes)
        album.figure("depths", draw_depths(_lines(probing), metric), f"{metric.capitalize()} by layer: {alt}.")
    numbers = gather(study.images, probing, metric, separation)
    advice = advise(numbers)
    name = study.pipeline.report.name or study.images.name
    return {
        "depths": {
            "picture": album.path_of("depths"),
            "metric": probing.metric,
            "images": probing.rows,
            "probes": [
                {"output": probe.output.name, "share": probe.share, "score": probe.score} for probe in probing.probes
            ],
        },
        "advice": {
            "case": advice.case,
            **asdict(advice),
            "reasons": list(advice.reasons),
            "commands": write_commands(advice, arguments, name),
            "numbers": asdict(numbers),
        },
    }


def _lines(probing: Probing) -> dict[str, list[tuple[str, float]]]:
    """Pooling -> (layer, score) from the lowest layer up; grids of any number of cells are one line."""
    lines: dict[str, list[tuple[str, float]]] = {}
    for probe in probing.probes:
        pooling = "averaged" if probe.output.pooling == "avg" else "averaged over a grid"
        lines.setdefault(pooling, []).append((probe.output.layer, probe.score))
    return lines


def gather(images: ImageSet, probing: Probing, metric: str, separation: dict[str, float] | None) -> Numbers:
    """The numbers that advice is given on. metric : in words; separation : of ImageNet's classes, where it is known"""
    sizes = list(count_classes(images, np.ones(len(images), bool)).values())
    last = max(probing.last, key=lambda probe: probe.score)
    inner = max(probing.inner, key=lambda probe: probe.score, default=None)
    error = None
    if inner is not None and inner.right is not None and last.right is not None:
        error = difference_error(inner.right.tolist(), last.right.tolist())
    known = separation or {}
    return Numbers(
        images=len(images) if images.multilabel else sum(sizes),
        classes=len(sizes),
        median=float(np.median(sizes)),
        inner=None if inner is None else _judged(inner),
        last=_judged(last),
        judged=probing.rows,
        error=error,
        metric=metric,
        information=known.get("information"),
        told=known.get("told"),
        chance=known.get("chance"),
    )


def _judged(probe: Probe) -> Judged:
    return Judged(probe.output.name, probe.share, probe.score)


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
