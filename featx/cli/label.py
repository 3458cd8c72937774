"""featx label."""

from __future__ import annotations

from pathlib import Path

import click

from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.complete import complete_model
from featx.cli.help import SectionedCommand
from featx.cli.render import Bars, say
from featx.io.counting import counted

_HOST = "127.0.0.1"
_AT_ONCE = 2000  # images that a model is asked about before the page is there


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@click.option(
    "--model",
    metavar="BUNDLE",
    shell_complete=complete_model,
    help="The bundle that suggests (default: what the list suggests, else the best of this data's run).",
)
@click.option("--out", type=click.Path(path_type=Path), help="CSV of the labels (default: RUNS/NAME/label/labels.csv).")
@click.option(
    "--labelled",
    metavar="DATA",
    help="A folder or CSV of images that have labels already: they go into the CSV, and are shown beside.",
)
@click.option(
    "--pool", metavar="DATA", help="Images that the button 'Fit again' chooses the next ones of (default: DATA)."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on (default: a free one).")
@section_options("data", "features", "head", "next", "report")
def label(
    data: str | None,
    model: str | None,
    out: Path | None,
    labelled: str | None,
    pool: str | None,
    port: int,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    **values: object,
) -> None:
    """Label the images of DATA, a folder or a CSV such as that of featx next, on a page with the keyboard.

    Only this machine can reach the page. Every answer is on the disk before the next image is shown, so that it can be
    ended at any time, with Ctrl-C, and started again where it stopped. The result is a CSV that every command reads:
    featx fit-head labels.csv
    """
    from featx.serve.installed import require_installed

    require_installed("featx label")

    from featx.active.label import LABELS, LabelPlan, ask_model, best_here, next_round, open_desk, run_of
    from featx.bundle.bundle import load_bundle
    from featx.cli.bundles import take
    from featx.io.context import Context
    from featx.serve.label_server import label_server, new_token
    from featx.serve.server import listen, run, url
    from featx.store.cache import Cache

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    home = run_of(pipeline)
    best = best_here(home) if model is None else None
    bundle = take(model, pipeline, "Suggestions of") if model is not None else load_bundle(best) if best else None
    if best is not None:
        say(f"Suggestions of {best}, the best of this run. For another one: --model NAME")
    plan = LabelPlan(pipeline, bundle, out or home.label / LABELS, labelled, pool)
    with listen(_HOST, port) as listener, Cache(pipeline.features.cache) as cache:
        with Bars() as bars:
            desk = open_desk(plan, cache, Context("featx label", bars, say), _AT_ONCE)
        token, later = new_token(), len(desk.sheet.paths) > _AT_ONCE
        first = (lambda show: ask_model(plan, desk, show)) if later else None
        server = label_server(desk, token, lambda show: next_round(plan, desk, show), first)
        say(f"Labels go to {plan.out}")
        say(f"Label at {url(_HOST, listener)}/{token}/ (Ctrl-C ends it)")
        run(server, listener)
        standing = desk.standing()
        desk.close()
    then = (
        f"Fit a head: featx fit-head {plan.out}" if standing.answered or standing.given else "The same command resumes."
    )
    say(f"Ended. {counted(standing.answered, 'image')} labelled here: {plan.out}. {then}")
