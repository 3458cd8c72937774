"""featx run, extract, fit-head, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featx.cli.app import command_line
from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.render import Bars, bad_images, counted, emit, metric_names, say, table

if TYPE_CHECKING:
    from featx.bundle.bundle import Bundle
    from featx.config import Pipeline
    from featx.extraction.flow import Extraction

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_DATA = click.argument("data", required=False)


@click.command()
@_DATA
@section_options()
@_JSON
def run(data: str | None, pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Bring every stage up to date, and say why each was run or not."""
    from featx.store.cache import Cache
    from featx.workflow.run import run_pipeline

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, {}))
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        done = run_pipeline(pipeline, cache, command_line(), bars, say)
    lines = [f"{one['stage']:<9} {'done' if one['done'] else 'skipped':<8} {one['why']}" for one in done["stages"]]
    lines.append(f"best bundle: {done['bundle']}")
    emit(as_json, done, "\n".join([*lines, *([f"report: {done['report']}"] if done["report"] else [])]))


@click.command()
@_DATA
@section_options("data", "features", "augment")
@click.option("--dry-run", is_flag=True, help="Only say what would be computed.")
@_JSON
def extract(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **values: object,
) -> None:
    """Compute the features of every image that lacks them, and with --views those of views, and cache them."""
    from featx.store.cache import Cache
    from featx.workflow.prepare import extract_all, plan_all

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    _tell_unused_policy(pipeline)
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        if dry_run:
            content = plan_all(pipeline, cache, bars, say)
            emit(as_json, content, _plan_text(content))
        else:
            done, views = extract_all(pipeline, cache, bars, say)
            content = done.as_json() | ({} if views is None else {"views": views.as_json()})
            text = _extraction_text(done)
            emit(as_json, content, text if views is None else f"{text}\n{_views_text(content['views'])}")


def _tell_unused_policy(pipeline: Pipeline) -> None:
    """Say that operations were chosen which this command has no use for."""
    if pipeline.augment.operations and not pipeline.augment.views:
        names = ", ".join(pipeline.augment.operations)
        say(
            f"Without --views nothing is augmented here: {names} matter to featx finetune. Add --views 3, for instance."
        )


def _views_text(views: dict[str, Any]) -> str:
    return (
        f"{views['each']:,} views of each of {views['images']:,} training images: {views['computed']:,} computed, "
        f"{views['reused']:,} reused, in {views['seconds']:.1f} s, in {views['store']}"
        + (f"\n{bad_images(views['bad'])}" if views["bad"] else "")
    )


def _plan_text(plan: dict[str, Any]) -> str:
    plans = [plan, plan["views"]] if "views" in plan else [plan]

    def total(name: str) -> float | None:
        known = [one[name] for one in plans if one[name] is not None]
        return sum(known) if len(known) == len(plans) else None

    seconds, size, unknown = total("seconds"), total("bytes"), "unknown before a first run"
    return (
        f"{'; '.join(one['reason'] for one in plans)}.\nrows to compute  {total('rows'):,}\n"
        f"time             {unknown if seconds is None else f'about {seconds:.0f} s'}\n"
        f"new features     {unknown if size is None else f'{size / 1e6:,.1f} MB'}\n"
        f"free disk        {plan['free_bytes'] / 1e9:,.1f} GB"
    )


def _extraction_text(done: Extraction) -> str:
    found = done.as_json()
    rate = f" ({found['images_per_second']} images/s)" if found["images_per_second"] else ""
    head = (
        f"{counted(found['images'], 'image')}: {found['computed']:,} computed, {found['reused']:,} reused, "
        f"{found['duplicates']:,} duplicates, {len(found['bad']):,} bad, in {found['seconds']:.1f} s{rate}"
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


@click.command("fit-head")
@_DATA
@section_options("data", "features", "augment", "head", "report", "tracking")
@_JSON
def fit_head(
    data: str | None, pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool, **values: object
) -> None:
    """Fit a head on cached features, measure it on val and test, and save it as a bundle.

    Features that are missing are extracted first. With --views N the head is fitted on N altered versions of every
    training image as well.
    """
    from featx.store.cache import Cache
    from featx.workflow.prepare import prepare
    from featx.workflow.run import fit

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    _tell_unused_policy(pipeline)
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        prepared = prepare(pipeline, cache, bars)
        for note in prepared.extraction.images.notes:
            say(note)
        bundle = fit(prepared, command_line(), say)
    views = prepared.sample.views
    tell_bundle(bundle, prepared.extraction.bad + ([] if views is None else views.extraction.bad), as_json)


@click.command()
@_DATA
@section_options("data", "features", "augment", "finetune", "report", "tracking")
@click.option("--from", "origin", metavar="BUNDLE", help="Start from this bundle (default: the best one).")
@_JSON
def finetune(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    origin: str | None,
    as_json: bool,
    **values: object,
) -> None:
    """Graft a bundle's head onto its backbone and train both end to end; keep the result as one more bundle."""
    from featx.bundle.bundle import load_bundle
    from featx.finetune.flow import finetune as train
    from featx.runs.bundles import find_bundle
    from featx.runs.folder import run_directory
    from featx.store.cache import Cache
    from featx.workflow.prepare import prepare
    from featx.workflow.run import regraft

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        prepared = prepare(pipeline, cache, bars, views=False)
        start = load_bundle(
            find_bundle(origin, prepared.run.parent, run_directory(pipeline, prepared.extraction.images).name)
        )
        start = regraft(start, prepared, command_line(), say)
        say(f"Starting from {start.path}")
        bundle = train(start, prepared, command_line(), bars, say)
    tell_bundle(bundle, prepared.extraction.bad, as_json)
    if not as_json:
        click.echo(str(bundle.about["verdict"]))


def tell_bundle(bundle: Bundle, bad: list[dict[str, str]], as_json: bool) -> None:
    """Say what a new bundle reaches, and where it is."""
    from featx.report.occasions import report_of

    about, report = bundle.about, report_of(bundle.path)
    content = {
        "bundle": str(bundle.path),
        "report": report and str(report),
        "clf": about["head"]["clf"],
        "output": ", ".join(about["outputs"]),
        "params": about["head"]["params"],
        **({"nested": about["nested"]} if about.get("nested") else {}),
        "seconds": about["seconds"],
        **about["metrics"],
        "bad": bad,
        **_against(about),
    }
    names = metric_names(about["metrics"]["val"])
    rows = [(part, *[about["metrics"][part].get(name) for name in names]) for part in ("val", "test")]
    parts = [
        table(["part", *names], rows),
        _nested_text(about["nested"]) if about.get("nested") else "",
        *[f"note: {note}" for note in about["notes"]],
        bad_images(bad),
        f"{about['head']['clf']} on {content['output']} in {about['seconds']:.1f} s -> {bundle.path}",
        f"report: {report}" if report else "",
    ]
    emit(as_json, content, "\n".join(part for part in parts if part))


def _against(about: dict[str, Any]) -> dict[str, Any]:
    """What a fine-tuned bundle was compared with; nothing of others."""
    if "verdict" not in about:
        return {}
    return {"from": about["from"]["metrics"], "comparison": about["comparison"], "verdict": about["verdict"]}


def _nested_text(nested: dict[str, Any]) -> str:
    names = metric_names(nested)
    rows = [("nested", *[nested.get(name) for name in names])]
    return f"{nested['folds']} folds, each with a search of its own:\n" + table(["estimate", *names], rows)
