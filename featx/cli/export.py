"""featx export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from featx.cli.arguments import pipeline_of, section_options
from featx.cli.bundles import IMPORT_OPTION, MODEL_TOO, take
from featx.cli.complete import complete_model
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, bad_images, emit, say, table
from featx.config import ExportFormat, ExportPrecision

if TYPE_CHECKING:
    from featx.export.flow import Exported, FormatResult


@click.command(cls=SectionedCommand)
@click.argument("bundle", required=False, shell_complete=complete_model)
@MODEL_TOO
@click.option(
    "--format",
    "formats",
    type=click.Choice(get_args(ExportFormat)),
    multiple=True,
    required=True,
    help="Format to write; may be repeated.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(ExportPrecision)),
    default="float32",
    show_default=True,
    help="Precision of the weights; int8 (onnx, litert) also sets that of the arithmetic, and needs --data.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder in which each format gets its own folder (default: RUN-BUNDLE-export, here).",
)
@click.option(
    "--data",
    metavar="IMAGES",
    help="Check the exports on these images, a file or folder (default: a few that come with the installed packages).",
)
@click.option("--force", is_flag=True, help="Replace an existing export.")
@IMPORT_OPTION
@section_options("report", without=["report.html", "report.keep_paths", "report.plots"])
@JSON_OPTION
def export(
    bundle: str | None,
    formats: tuple[str, ...],
    precision: str,
    out: Path | None,
    data: str | None,
    force: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Write a bundle (default: the best one) for other runtimes: the whole model, from images to probabilities.

    Every export is run in its own runtime and compared with the bundle before it is put in place.
    """
    from featx.export.flow import ExportOptions
    from featx.export.flow import export as write

    pipeline = pipeline_of(None, pipeline_file, settings, values)
    model = take(bundle, pipeline, "Exporting")
    path = model.shown
    done = write(model, out or _default_folder(path), ExportOptions(formats, precision, data, force), say)
    emit(as_json, {"bundle": str(path), **done.as_json()}, _text(done), done.failure)


def _default_folder(path: Path) -> Path:
    whole = path.resolve()
    return Path(f"{whole.stem}-export" if path.is_file() else f"{whole.parent.name}-{whole.name}-export")


def _text(done: Exported) -> str:
    headers = ["format", "precision", "bytes", "largest difference", "same answer", "images/s", "in batches of 8"]
    rows = [_row(outcome) for outcome in done.results]
    rows.append((f"bundle ({done.engine})", None, None, None, None, *_speeds(done.images_per_second)))
    folders = [f"{outcome.format}: {outcome.path}" for outcome in done.results if outcome.path]
    bad = bad_images([asdict(one) for one in done.images.unread])
    return "\n".join(filter(None, [bad, table(headers, rows), *folders]))


def _row(outcome: FormatResult) -> tuple[object, ...]:
    found = outcome.comparison
    largest = None if found is None or found.largest is None else f"{found.largest:.1e}"
    same = None if found is None else f"{found.agreement:.1%}"
    return (outcome.format, outcome.precision, outcome.bytes, largest, same, *_speeds(outcome.images_per_second))


def _speeds(found: dict[str, float] | None) -> tuple[str | None, str | None]:
    return (None, None) if found is None else (f"{found['1']:.1f}", f"{found['8']:.1f}")
