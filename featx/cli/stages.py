"""featx run, extract, fit-head, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featx.cli import command_line
from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.render import Bars, bad_images, emit, metric_names, say, table

if TYPE_CHECKING:
    from featx.bundle import Bundle
    from featx.extract import Extraction

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_DATA = click.argument("data", required=False)


@click.command()
@_DATA
@section_options()
@_JSON
def run(data: str | None, pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Bring every stage up to date, and say why each was run or not."""
    from featx.run import run_pipeline

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, {}))
    with Bars() as bars:
        done = run_pipeline(pipeline, command_line(), bars, say)
    lines = [f"{one['stage']:<9} {'done' if one['done'] else 'skipped':<8} {one['why']}" for one in done["stages"]]
    lines.append(f"best bundle: {done['bundle']}")
    emit(as_json, done, "\n".join([*lines, *([f"report: {done['report']}"] if done["report"] else [])]))


@click.command()
@_DATA
@section_options("data", "features")
@click.option("--dry-run", is_flag=True, help="Only say what would be computed.")
@_JSON
def extract(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Compute the features of every image that lacks them, and cache them."""
    from featx.extract import extract as extract_images
    from featx.extract import plan
    from featx.run import choose_images, read_data

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    images = choose_images(pipeline, read_data(pipeline))
    for note in images.notes:
        say(note)
    with Bars() as bars:
        if dry_run:
            content = plan(images, pipeline.features, bars).as_json()
            emit(as_json, content, _plan_text(content))
        else:
            done = extract_images(images, pipeline.features, bars)
            emit(as_json, done.as_json(), _extraction_text(done))


def _plan_text(plan: dict[str, Any]) -> str:
    seconds = "unknown before a first run" if plan["seconds"] is None else f"about {plan['seconds']:.0f} s"
    size = "unknown before a first run" if plan["bytes"] is None else f"{plan['bytes'] / 1e6:,.1f} MB"
    return (
        f"{plan['reason']}.\nrows to compute  {plan['rows']:,}\ntime             {seconds}\n"
        f"new features     {size}\nfree disk        {plan['free_bytes'] / 1e9:,.1f} GB"
    )


def _extraction_text(done: Extraction) -> str:
    found = done.as_json()
    rate = f" ({found['images_per_second']} images/s)" if found["images_per_second"] else ""
    head = (
        f"{found['images']:,} images: {found['computed']:,} computed, {found['reused']:,} reused, "
        f"{found['duplicates']:,} duplicates, {len(found['bad']):,} bad, in {found['seconds']:.1f} s{rate}"
    )
    rows = [
        (name, "x".join(map(str, one["shape"])), one["dtype"], one["path"]) for name, one in found["layers"].items()
    ]
    return "\n".join(
        part for part in (head, table(["features", "shape", "type", "folder"], rows), bad_images(found["bad"])) if part
    )


@click.command("fit-head")
@_DATA
@section_options("data", "features", "head", "report")
@_JSON
def fit_head(
    data: str | None, pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool, **values: Any
) -> None:
    """Fit a head on cached features, measure it on val and test, and save it as a bundle.

    Features that are missing are extracted first.
    """
    from featx.run import fit, prepare

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    with Bars() as bars:
        prepared = prepare(pipeline, bars)
        for note in prepared.extraction.images.notes:
            say(note)
        bundle = fit(prepared, command_line(), say)
    _tell_bundle(bundle, prepared.extraction.bad, as_json)


@click.command()
@_DATA
@section_options("data", "features", "finetune", "report")
@click.option("--from", "origin", metavar="BUNDLE", help="Start from this bundle (default: the best one).")
@_JSON
def finetune(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    origin: str | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Graft a bundle's head onto its backbone and train both end to end; keep the result as one more bundle."""
    from featx.bundle import find_bundle, load_bundle
    from featx.finetune import finetune as train
    from featx.run import prepare, regraft, run_directory

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    with Bars() as bars:
        prepared = prepare(pipeline, bars)
        start = load_bundle(
            find_bundle(origin, prepared.run.parent, run_directory(pipeline, prepared.extraction.images).name)
        )
        start = regraft(start, prepared, command_line(), say)
        say(f"Starting from {start.path}")
        bundle = train(start, prepared, command_line(), bars, say)
    _tell_bundle(bundle, prepared.extraction.bad, as_json)
    if not as_json:
        click.echo(str(bundle.about["verdict"]))


def _tell_bundle(bundle: Bundle, bad: list[dict[str, str]], as_json: bool) -> None:
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
