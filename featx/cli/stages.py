"""featx run, extract, fit-head, finetune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featx.cli.app import command_line
from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.forecasts import DRY_RUN_OPTION, show_extraction, show_forecast
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, figure_cells, metric_names, say, table
from featx.io.counting import counted

if TYPE_CHECKING:
    from featx.bundle.bundle import Bundle
    from featx.bundle.manifest import Manifest
    from featx.bundle.records import NestedRecord
    from featx.config import Pipeline
    from featx.dataset import ImageSet
    from featx.extraction.flow import Extraction
    from featx.io.jsontypes import Json
    from featx.report.verdict import Verdict
    from featx.runs.trained import Trained
    from featx.workflow.fit import Fitted

_DATA = click.argument("data", required=False)


@click.command(cls=SectionedCommand)
@_DATA
@section_options()
@JSON_OPTION
def run(data: str | None, pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Extract features, fit a head and fine-tune: bring every stage up to date, and print why each ran or did not.

    What it will do is printed first. It fine-tunes the whole network, which takes minutes to hours, unless
    finetune.enabled is false in the pipeline file, or by --set finetune.enabled=false. What is up to date is not done
    again.
    """
    from featx.io.context import Context
    from featx.store.cache import Cache
    from featx.workflow.run import describe_plan, run_pipeline

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, {}))
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        context = Context(command_line(), bars, say)
        for line in describe_plan(pipeline, cache, context):
            say(line)
        done = run_pipeline(pipeline, cache, context)
    lines = [f"{one.stage:<9} {'done' if one.done else 'skipped':<8} {one.why}" for one in done.stages]
    lines.append(f"best bundle: {done.bundle}")
    lines += [f"report: {done.report}"] if done.report else []
    emit(as_json, done.as_json(), "\n".join([*lines, *([done.verdict.lines] if done.verdict else [])]))


@click.command(cls=SectionedCommand)
@_DATA
@section_options("data", "features", "augment")
@DRY_RUN_OPTION
@JSON_OPTION
def extract(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **values: object,
) -> None:
    """Compute the features of every image that lacks them, and with --views those of views, and cache them."""
    from featx.io.context import Context
    from featx.store.cache import Cache
    from featx.workflow.gather import extract_all, plan_all

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    _warn_unused_policy(pipeline)
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        context = Context(command_line(), bars, say)
        if dry_run:
            show_extraction(plan_all(pipeline, cache, context), as_json)
            return
        done, views = extract_all(pipeline, cache, context)
    content = done.as_json() | ({} if views is None else {"views": views.as_json()})
    text = _extraction_text(done)
    emit(as_json, content, text if views is None else f"{text}\n{_views_text(content['views'], done.images)}")


def _warn_unused_policy(pipeline: Pipeline) -> None:
    """Warn that operations were chosen which this command has no use for."""
    if pipeline.augment.operations and not pipeline.augment.views:
        names = ", ".join(pipeline.augment.operations)
        say(
            f"Without --views nothing is augmented here: {names} apply to featx finetune only. Add "
            "--views 3, for instance."
        )


def _views_text(views: dict[str, Any], images: ImageSet) -> str:
    kind = "training image" if images.can_be_split else "image"
    return (
        f"{counted(views['each'], 'view')} of each of {counted(views['images'], kind)}: "
        f"{views['computed']:,} computed, {views['reused']:,} reused, in {views['seconds']:.1f} s, in {views['store']}"
        + (f"\n{bad_images(views['bad'])}" if views["bad"] else "")
    )


def _extraction_text(done: Extraction) -> str:
    found = done.as_json()
    rate = f" ({found['images_per_second']} images/s)" if found["images_per_second"] else ""
    head = (
        f"{counted(found['images'], 'image')}: {found['computed']:,} computed, {found['reused']:,} reused, "
        f"{counted(found['duplicates'], 'duplicate')}, {len(found['bad']):,} bad, in {found['seconds']:.1f} s{rate}"
    )
    rows = [
        (name, "x".join(map(str, one["shape"])), one["dtype"], one["path"]) for name, one in found["layers"].items()
    ]
    parts = (head, table(["features", "shape", "type", "folder"], rows), _workers_text(done), bad_images(found["bad"]))
    return "\n".join(part for part in parts if part)


def _workers_text(done: Extraction) -> str:
    """What each worker of a cluster has done; nothing where this process computed."""
    if not done.workers:
        return ""
    rows = [
        (f"{one.host}:{one.pid}", one.images, one.images / one.seconds if one.seconds else None) for one in done.workers
    ]
    return table(["worker", "images", "images/s"], rows)


@click.command("fit-head", cls=SectionedCommand)
@_DATA
@section_options("data", "features", "augment", "head", "report", "tracking")
@DRY_RUN_OPTION
@JSON_OPTION
def fit_head(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **values: object,
) -> None:
    """Fit a head on cached features, measure it on val and test, and save it as a bundle.

    Features that are missing are extracted first. With --views N the head is fitted on N altered versions of every
    training image as well.
    """
    from featx.io.context import Context
    from featx.store.cache import Cache
    from featx.workflow.fit import fit
    from featx.workflow.forecast import forecast_head
    from featx.workflow.prepare import prepare_head
    from featx.workflow.publish import publish

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    _warn_unused_policy(pipeline)
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        if dry_run:
            show_forecast(forecast_head(pipeline, cache, Context(command_line(), bars, say)), as_json)
            return
        prepared = prepare_head(pipeline, cache, bars)
        for note in prepared.extraction.images.notes:
            say(note)
        fitted = fit(prepared, Context(command_line(), bars, say))
        bundle = publish(fitted, prepared.run, prepared.pipeline)
    views = prepared.sample.views
    bad = prepared.extraction.bad + ([] if views is None else views.extraction.bad)
    show_bundle(bundle, bad, as_json, verdict_after(fitted, bundle, pipeline))


@click.command(cls=SectionedCommand)
@_DATA
@section_options("data", "features", "augment", "finetune", "report", "tracking")
@click.option("--from", "origin", metavar="BUNDLE", help="Start from this bundle (default: the best one).")
@DRY_RUN_OPTION
@JSON_OPTION
def finetune(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    origin: str | None,
    dry_run: bool,
    as_json: bool,
    **values: object,
) -> None:
    """Graft a bundle's head onto its backbone and train both end to end; keep the result as one more bundle."""
    from featx.finetune.flow import finetune as train
    from featx.io.context import Context
    from featx.store.cache import Cache
    from featx.workflow.forecast import forecast_finetune
    from featx.workflow.publish import publish
    from featx.workflow.regraft import regraft
    from featx.workflow.start import origin_of, prepare_finetune

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        context = Context(command_line(), bars, say)
        start = origin_of(pipeline, origin)
        if dry_run:
            show_forecast(forecast_finetune(pipeline, start, cache, context), as_json)
            return
        say(f"Starting from {start.shown}")
        prepared = prepare_finetune(start, pipeline, cache, context)
        tuned = train(regraft(start, prepared, context), prepared, context)
        bundle = publish(tuned, prepared.run, prepared.pipeline)
    show_bundle(bundle, prepared.extraction.bad, as_json, verdict_after(tuned, bundle, pipeline))


def verdict_after(made: Fitted | Trained, bundle: Bundle, pipeline: Pipeline) -> Verdict:
    """How good a new bundle is, in words."""
    from featx.report.occasions import verdict_on

    return verdict_on(bundle, made.predictions, pipeline, command_line(), made.intake.duplicates)


def show_bundle(
    bundle: Bundle, bad: Sequence[Mapping[str, str]], as_json: bool, verdict: Verdict | None = None
) -> None:
    """Print what a new bundle reaches, where it is, and how good that is in words."""
    from featx.bundle.choices import describe_choices
    from featx.report.occasions import report_of

    manifest, report = bundle.manifest, report_of(bundle.path)
    measured = {part: manifest.metrics_on(part).as_json() for part in ("val", "test")}
    names = metric_names(measured["val"])
    rows = [(part, *figure_cells(found, names)) for part, found in measured.items()]
    layers = ", ".join(manifest.output_names)
    parts = [
        table(["part", *names], rows),
        "" if manifest.nested is None else _nested_text(manifest.nested),
        *[f"note: {note}" for note in (*manifest.notes, *describe_choices(manifest))],
        bad_images(bad),
        f"{manifest.head.clf} on {layers} in {manifest.seconds or 0.0:.1f} s -> {bundle.path}",
        f"report: {report}" if report else "",
        manifest.verdict or "",
        "" if verdict is None else verdict.lines,
    ]
    content = _bundle_json(bundle, report, bad) | ({} if verdict is None else {"summary": verdict.as_json()})
    emit(as_json, content, "\n".join(part for part in parts if part))


def _bundle_json(bundle: Bundle, report: Path | None, bad: Sequence[Mapping[str, str]]) -> dict[str, Json]:
    from featx.bundle.choices import choices_of
    from featx.bundle.fields import to_json

    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "report": str(report) if report else None,
        "clf": manifest.head.clf,
        "output": ", ".join(manifest.output_names),
        "params": to_json(manifest.head.params),
        **({} if manifest.nested is None else {"nested": manifest.nested.as_json()}),
        "seconds": manifest.seconds,
        **{part: to_json(measured) for part, measured in manifest.metrics.items()},
        "bad": list(bad),
        "notes": list(manifest.notes),
        "chosen": [one.as_json() for one in choices_of(manifest)],
        **_against(manifest),
    }


def _against(manifest: Manifest) -> dict[str, Json]:
    """What a fine-tuned bundle was compared with; nothing of others."""
    from featx.bundle.fields import to_json
    from featx.runs.best import replaces_origin

    if manifest.origin is None:
        return {}
    return {
        "from": to_json(manifest.origin.metrics),
        "comparison": to_json(manifest.comparison),
        "verdict": manifest.verdict,
        "replaces": replaces_origin(manifest),
    }


def _nested_text(nested: NestedRecord) -> str:
    found = nested.as_json()
    names = metric_names(found)
    rows = [("nested", *figure_cells(found, names))]
    return f"{nested.folds} folds, each with a search of its own:\n" + table(["estimate", *names], rows)
