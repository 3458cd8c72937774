"""featx drift."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.app import command_line
from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.bundles import MODEL_OPTION, take
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, say, table

if TYPE_CHECKING:
    from featx.active.drift import Drift


@click.command(cls=SectionedCommand)
@click.argument("new", required=False)
@MODEL_OPTION
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the files (default: RUNS/NAME/drift).")
@click.option("--fail", is_flag=True, help="Exit with status 1 where the images differ, for schedules.")
@section_options("data", "features", "drift", "report")
@JSON_OPTION
def drift(
    new: str | None,
    model: str | None,
    out: Path | None,
    fail: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> int:
    """Compare the images of NEW with those that a model was made with: features, distances, confidence, classes."""
    from featx.active.drift import find_drift
    from featx.io.context import Context
    from featx.store.cache import Cache

    pipeline = need_data(pipeline_of(new, pipeline_file, settings, values))
    bundle = take(model, pipeline, "Comparing with", quiet=as_json)
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        found = find_drift(pipeline, bundle, cache, out, Context(command_line(), bars, say))
    emit(as_json, found.as_json(), _text(found))
    return int(fail and found.drifted)


def _text(found: Drift) -> str:
    rows = [(name, f"{one.statistic:.4f}", f"{one.p:.3f}", f"{one.adjusted:.3f}") for name, one in found.tests.items()]
    shifts = [
        (one.label, f"{one.before:.1%}", f"{one.now:.1%}", f"{one.answered:.1%}")
        for one in sorted(found.mix or (), key=lambda one: -abs(one.now - one.before))[:10]
    ]
    parts = [
        bad_images([asdict(one) for one in found.unread]),
        table(["test", "statistic", "p", "adjusted"], rows),
        table(["class", "before", "now, estimated", "given"], shifts) if shifts else "",
        found.verdict,
        *found.notes,
        f"strangest: {found.csv}" if found.csv else "",
        f"page: {found.report}" if found.report else "",
    ]
    return "\n".join(part for part in parts if part)
