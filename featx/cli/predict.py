"""featx predict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import pipeline_of, section_options
from featx.cli.bundles import (
    COVERAGE_OPTION,
    IMPORT_OPTION,
    MODEL_OPTION,
    PER_CLASS_OPTION,
    TTA_OPTION,
    average_of,
    require_coverage,
    take,
)
from featx.cli.help import SectionedCommand
from featx.cli.outputs import FORCE_OPTION, require_new
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, say, table
from featx.cli.values import number
from featx.config.bounds import Confidence, Count, Distance
from featx.errors import FeatxError
from featx.io.counting import counted, counted_of
from featx.io.lazy import without_garbage_collection

if TYPE_CHECKING:
    from featx.bundle.bundle import Bundle
    from featx.inference.cached import CachedFeatures
    from featx.inference.predict import Predicted, Prediction, Unread
    from featx.io.jsontypes import Json


@click.command(cls=SectionedCommand)
@click.argument("images", nargs=-1, required=True)
@MODEL_OPTION
@click.option("--top", type=number(Count), default=1, show_default=True, help="Number of top classes to show.")
@click.option(
    "--min-confidence", type=number(Confidence), default=0.0, help="Answer 'unsure' where the confidence is lower."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write a file instead of printing: .csv, .json or .parquet by the end of its name.",
)
@FORCE_OPTION
@click.option(
    "--max-distance",
    type=number(Distance),
    help="Answer 'unknown' for images farther than this from all training images; 99 % of images of known "
    "classes are within 1.",
)
@COVERAGE_OPTION
@PER_CLASS_OPTION
@TTA_OPTION
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Read the features of images that are in this cache; only those of the others are computed, and not kept.",
)
@IMPORT_OPTION
@section_options("augment", "report", without=["augment.views", "report.html", "report.keep_paths", "report.plots"])
@JSON_OPTION
def predict(
    images: tuple[str, ...],
    model: str | None,
    top: int,
    min_confidence: float,
    out: Path | None,
    force: bool,
    max_distance: float | None,
    coverage: float | None,
    per_class: bool,
    tta: int,
    cache: Path | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Predict the class of images, or of all images in folders, with its confidence.

    Fails when no image at all could be read.
    """
    from dataclasses import asdict

    with without_garbage_collection():
        from featx.bundle.bundle import is_bundle
        from featx.config import Pipeline
        from featx.inference.answer_files import Columns, require_writable, write_answers
        from featx.inference.predict import AnswerOptions, Predicted, find_files
        from featx.inference.predict import predict as answer
        from featx.inference.sets import guarantee

    require_coverage(coverage, per_class)
    require_new(out, force)
    if out is not None:
        require_writable(out)
    named = model is not None and pipeline_file is None and not settings and is_bundle(Path(model))
    pipeline = Pipeline() if named else pipeline_of(None, pipeline_file, settings, values)
    bundle = take(model, pipeline, "Predicting with", quiet=as_json)
    paths = find_files(images)
    average = average_of(bundle, tta, pipeline_file, settings, values)
    options = AnswerOptions(top, min_confidence, max_distance, coverage, per_class)
    promised = None if coverage is None else guarantee(bundle, coverage, per_class)
    if promised is not None:
        say(promised.sentence())
    if bundle.manifest.calibrated_on == 0:
        say(f"Confidence is unmeasured: no image was left out of the fit of {bundle.path}. Add images, and fit again.")
    more: dict[str, Json] = {} if promised is None else {"coverage": promised.as_json()}
    with _features_in(cache, bundle, len(paths)) as cached, Bars() as bars:
        answers = _counted_by(bars, answer(bundle, paths, options, average=average, cached=cached), len(paths))
        if out is not None:
            columns = Columns(max_distance is not None, coverage is not None, bundle.multilabel)
            read, unread = write_answers(out, answers, columns)
        else:
            found = Predicted.of(answers)
    more |= {} if cached is None else {"cached": cached.found}
    if out is not None:
        bad = [asdict(one) for one in unread]
        text = "\n".join(filter(None, [bad_images(bad), f"{counted(read, 'prediction')}, {len(bad):,} bad -> {out}"]))
        emit(as_json, {"out": str(out), "images": read, "bad": bad, **more}, text, _nothing_read(read))
    else:
        text = _predictions_text(found, bundle.manifest.calibrated_on)
        emit(as_json, found.as_json() | more, text, _nothing_read(len(found.predictions)))


@contextmanager
def _features_in(folder: Path | None, bundle: Bundle, images: int) -> Iterator[CachedFeatures | None]:
    """What a cache has of the bundle's network, None where no cache is named; reports how far it was used."""
    if folder is None:
        yield None
        return
    from featx.inference.cached import open_cached

    with open_cached(folder, bundle) as cached:
        if not cached:
            say(f"{folder} has no features of the network of {bundle.shown}: those of every image are computed.")
        yield cached
        if cached:
            say(f"The features of {counted_of(cached.found, images, 'image')} are from {folder}.")


def _nothing_read(read: int) -> FeatxError | None:
    return None if read else FeatxError("None of the images could be read.")


def _counted_by(bars: Bars, answers: Iterable[Prediction | Unread], total: int) -> Iterator[Prediction | Unread]:
    """The answers, with a bar that shows how many there are."""
    for done, answer in enumerate(answers, 1):
        bars("predict", done, total)
        yield answer


def _prediction_text(one: Prediction, images: int | None) -> str:
    from featx.metrics.digits import confidence_text

    top = ", ".join(f"{entry.label} {confidence_text(entry.confidence, images)}" for entry in one.top)
    if one.unknown:
        return f"unknown (most likely {top})"
    if one.labels is not None:
        return f"{' | '.join(one.labels) or 'no label'} ({top})"
    return top if one.label == one.top[0].label else f"{one.label} ({top})"


def _predictions_text(found: Predicted, images: int | None) -> str:
    from dataclasses import asdict

    sets = any(one.set is not None for one in found.predictions)
    measured = any(one.distance is not None for one in found.predictions)
    rows = [
        (
            one.path,
            _prediction_text(one, images),
            *([f"{one.distance:.2f}"] if measured else []),
            *([" | ".join(one.set or ()) or "none"] if sets else []),
        )
        for one in found.predictions
    ]
    text = (
        table(["image", "class", *(["distance"] if measured else []), *(["set"] if sets else [])], rows) if rows else ""
    )
    bad = bad_images([asdict(one) for one in found.unread], shown=50)
    return "\n".join(part for part in (text, bad) if part)
