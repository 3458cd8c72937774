"""featx check --features, featx similar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.app import command_line
from featx.cli.arguments import has_demo, need_data, pipeline_of, section_options, was_typed
from featx.cli.bundles import choose, describe_choice, take
from featx.cli.help import SectionedCommand
from featx.cli.outputs import FORCE_OPTION, require_new
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, say, table
from featx.errors import FeatxError, UsageError
from featx.io.counting import counted
from featx.workflow.own_data import own_data

if TYPE_CHECKING:
    from featx.bundle.bundle import Bundle
    from featx.config import Pipeline
    from featx.dataset import ImageSet
    from featx.store.cache import Cache
    from featx.workflow.review import Review

_OWN = "Give their folder or CSV with --data, or the pipeline file with -p FILE."
_KINDS = {"label_errors": "likely label errors", "near_duplicates": "near-duplicates", "outliers": "outliers"}


def review_data(pipeline: Pipeline, out: Path | None, near: float | None, as_json: bool) -> None:
    """The features of a data set, looked through: `featx check --features`."""
    from featx.quality.near_duplicates import NEAR
    from featx.store.cache import Cache
    from featx.workflow.review import prepare_review, review

    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        prepared = prepare_review(pipeline, cache, bars)
        for note in (*prepared.extraction.images.notes, *prepared.sample.notes):
            say(note)
        out = out or prepared.run.check
        say(f"Comparing {counted(len(prepared.sample.rows), 'image')}")
        found = review(prepared, out, NEAR if near is None else near, command_line())
    emit(as_json, found.as_json(), _review_text(found))


def _review_text(found: Review) -> str:
    rows = [(_KINDS[one.finding.name], one.finding.found, one.csv, one.grid) for one in found.written]
    pairs = found.quality.duplicates
    parts = [
        bad_images(found.prepared.extraction.bad),
        f"{counted(found.images, 'different image')}, compared by {found.output}",
        table(["what", "found", "list", "pictures"], rows),
        f"Pairs of near-duplicates in different parts of the split: {found.across:,}" if found.across else "",
        "" if pairs.complete else "There are more near-duplicates than are listed. Raise --near.",
        *found.notes,
        *[one.finding.advice for one in found.written if one.finding.name == "label_errors"],
        f"all on one page: {found.report}" if found.report else "",
    ]
    return "\n".join(part for part in parts if part)


@click.command(cls=SectionedCommand)
@click.argument("images", nargs=-1, required=True)
@click.option("--data", "data", help="Search these images instead of the pipeline's.")
@click.option(
    "--model",
    metavar="BUNDLE",
    help="Compare by the features that this model predicts from (default: the best of the data's run that has such).",
)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Number of images to show.")
@click.option("--out", type=click.Path(path_type=Path), help="Draw them, as a PNG file.")
@FORCE_OPTION
@section_options("data", "features", "report", without=["report.plots"])
@JSON_OPTION
def similar(
    images: tuple[str, ...],
    data: str | None,
    model: str | None,
    top: int,
    out: Path | None,
    force: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Show the images of a set that look most like these, by their cached features.

    With --model, the features of that model are compared and images without them are left out; otherwise those of
    the best model of the data's run, if all images have them. If options describe the features, or there is no such
    model, missing features are extracted first.
    """
    from featx.images.resize import ResizeRule
    from featx.inference.predict import find_files
    from featx.io.suffixes import suffix_of
    from featx.quality.similar import search, search_with_bundle
    from featx.report.neighbours import draw_similar
    from featx.runs.labels import read_labelled
    from featx.store.cache import Cache
    from featx.workflow.prepare import choose_images

    if out is not None:
        suffix_of(out, (".png",), "A picture")
    require_new(out, force)
    pipeline = pipeline_of(data, pipeline_file, settings, values)
    described = _describes_features(pipeline_file, settings, values)
    if data is None and not described and not has_demo(pipeline):
        pipeline = _of_a_bundle(model, pipeline)
    pipeline = need_data(pipeline)
    queries, levels = find_files(images), str(pipeline.features.levels)
    with Cache(pipeline.features.cache) as cache:
        searched = choose_images(pipeline, read_labelled(pipeline, cache.index), cache)
        for note in searched.notes:
            say(note)
        if model is None and described:
            bundle = None
        else:
            bundle = _model_of(model, pipeline, searched, cache)
        if bundle is not None:
            levels = ResizeRule.parse(bundle.manifest.backbone.resize).levels
            done = search_with_bundle(queries, searched, bundle, cache, top)
        else:
            with Bars() as bars:
                done = search(queries, searched, pipeline.features, top, cache, bars)
    for note in done.notes:
        say(note)
    drawn = str(draw_similar(done.found, out, levels)) if out is not None and done.found else None
    rows = [(one.path, near.path, near.label, near.similarity) for one in done.found for near in one.similar]
    text = [
        table(["image", "similar", "class", "similarity"], rows) if rows else "",
        bad_images([asdict(one) for one in done.unread]),
    ]
    failure = None if done.found else FeatxError("None of the images could be read.")
    emit(as_json, done.as_json() | {"out": drawn}, "\n".join(part for part in [*text, drawn] if part), failure)


def _of_a_bundle(model: str | None, pipeline: Pipeline) -> Pipeline:
    """The pipeline of the images of a bundle, the one named or the best there is, and of its run."""
    from featx.bundle.bundle import load_bundle
    from featx.config import FeaturesOptions

    bundle = load_bundle(choose(model, pipeline).path)
    report = replace(pipeline.report, name=bundle.shown.resolve().parent.name)
    features = FeaturesOptions(cache=pipeline.features.cache)
    return replace(pipeline, data=own_data(bundle, pipeline, _OWN), features=features, report=report)


def _describes_features(pipeline_file: Path | None, settings: tuple[str, ...], values: Mapping[str, object]) -> bool:
    """Whether it was said by which features images are compared."""
    typed = [name for name in values if name.startswith("features__") and name != "features__cache" and was_typed(name)]
    return bool(pipeline_file or settings or typed)


def _model_of(model: str | None, pipeline: Pipeline, images: ImageSet, cache: Cache) -> Bundle | None:
    """The bundle by whose features images are compared: the one named, or the best of the data's run that can do it."""
    from featx.quality.similar import best_to_search_with
    from featx.runs.choosing import ChosenBundle
    from featx.runs.run import Run

    if model is not None:
        return take(model, pipeline, "Comparing by", quiet=True)
    best = best_to_search_with(Run.of(pipeline, images), images, cache)
    if best is None:
        return None
    chosen = ChosenBundle(best.path, f"the best of {best.path.parent} whose features are cached")
    say(f"Comparing by {best.path}{describe_choice(chosen)}")
    return best


def require_features_flag(out: Path | None, near: float | None) -> None:
    """Refuse options that only mean something with --features."""
    for name, value in (("--out", out), ("--near", near)):
        if value is not None:
            raise UsageError(f"{name} goes with --features: featx check DATA --features {name} ...")
