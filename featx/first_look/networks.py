"""Run networks on a sample of the images: ImageNet's classes, a linear head at a few depths, and advice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from featx.backbones import resolve
from featx.errors import BackboneError
from featx.extraction.precision_trial import PrecisionTrial
from featx.first_look.answers import ImageNetResult, describe_answers
from featx.first_look.depths import extract_depths
from featx.first_look.imagenet import ask
from featx.first_look.larger import try_larger
from featx.first_look.precision import note_precision, try_precision
from featx.first_look.recommendation import (
    DepthsResult,
    Recommendation,
    add_larger,
    describe_layers,
    judge_layers,
    recommend,
)
from featx.first_look.scale import warn_of_scale
from featx.first_look.study import Scope, Study, reasons_of
from featx.report.figure_folder import FigureFolder


@dataclass(frozen=True)
class NetworkResults:
    """What came of it; None where it was not asked for or cannot be had, and a note has the reason.

    unreadable : path -> reason, of images of the sample
    """

    imagenet: ImageNetResult | None = None
    depths: DepthsResult | None = None
    recommendation: Recommendation | None = None
    precision: PrecisionTrial | None = None
    notes: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)


def ask_networks(study: Study, scope: Scope, folder: FigureFolder, arguments: str = "") -> NetworkResults:
    """Run networks on the sample, as far as the scope and the images ask for it.

    arguments : of the commands that are advised, the data first

    Raises
    ------
    BackboneError
        With `scope.imagenet`: a network that cannot be had.
    """
    start = time.perf_counter()
    why_not = _why_no_advice(study) if scope.advice else ""
    notes = (f"No advice: {why_not}",) if why_not else ()
    advice = scope.advice and not why_not
    found = NetworkResults(notes=notes)
    if not len(study.sample) or not (scope.imagenet or advice):
        return found
    warning = warn_of_scale(resolve(study.pipeline.features), study.sample.paths)
    if warning:
        found = replace(found, notes=(warning, *found.notes))
    try:
        found = _add_imagenet(found, study, folder)
        if not advice:
            return found
        found = _add_advice(found, study, folder, arguments)
        found = _add_larger(found, study, arguments, _left(scope, start))
        return _add_precision(found, study, _left(scope, start))
    except BackboneError as error:
        if scope.imagenet:
            raise
        return replace(found, notes=(*found.notes, f"No advice: {error}"))


def _left(scope: Scope, start: float) -> float | None:
    """Seconds that there still are; None: any."""
    return None if scope.seconds is None else scope.seconds - (time.perf_counter() - start)


def _why_no_advice(study: Study) -> str:
    images = study.images
    if images.labels is None:
        return "the images have no labels."
    if len(images.classes) < 2:
        return f"there is one class ({', '.join(images.classes)}): judging layers takes two or more."
    return "" if len(study.sample) else "no image that can be read has a label."


def _add_imagenet(found: NetworkResults, study: Study, folder: FigureFolder) -> NetworkResults:
    answers = ask(study.plain, study.pipeline.features, study.cache, study.progress)
    return replace(
        found,
        imagenet=describe_answers(study, answers, folder),
        notes=(*found.notes, *answers.notes),
        unreadable=reasons_of(answers.extraction),
    )


def _add_advice(found: NetworkResults, study: Study, folder: FigureFolder, arguments: str) -> NetworkResults:
    features = extract_depths(study.plain, study.pipeline.features, study.cache, study.progress)
    found = replace(found, unreadable={**found.unreadable, **reasons_of(features.extraction)})
    probing = judge_layers(study, features)
    if probing is None:
        note = "No advice: to judge layers takes two classes, one of them of two images or more."
        return replace(found, notes=(*found.notes, note))
    separation = found.imagenet.separation if found.imagenet else None
    return replace(
        found,
        depths=describe_layers(probing, folder),
        recommendation=recommend(study, probing, separation, arguments),
    )


def _add_larger(found: NetworkResults, study: Study, arguments: str, seconds: float | None) -> NetworkResults:
    """With what larger images bring, as far as seconds are left."""
    advised = found.recommendation
    if advised is None:
        return found
    larger, note = try_larger(study, advised.advice.output, seconds)
    if larger is None:
        return replace(found, notes=(*found.notes, note)) if note else found
    return replace(found, recommendation=add_larger(advised, larger, study, arguments))


def _add_precision(found: NetworkResults, study: Study, seconds: float | None) -> NetworkResults:
    """With what bfloat16 saves and costs, as far as seconds are left."""
    if found.recommendation is None:
        return found
    trial = try_precision(study, found.recommendation.advice.output, seconds)
    if trial is None:
        return found
    return replace(found, precision=trial, notes=(*found.notes, note_precision(trial, len(study.images))))
