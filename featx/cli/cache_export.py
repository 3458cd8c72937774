"""featx cache export."""

from __future__ import annotations

from pathlib import Path

import click

from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.help import SectionedCommand
from featx.cli.outputs import FORCE_OPTION, require_new
from featx.cli.render import JSON_OPTION, Bars, emit, say


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@section_options("data", "features", "augment", "report", without=["report.html", "report.keep_paths", "report.plots"])
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write: .h5, .npz, .csv or .parquet by the end of its name.",
)
@FORCE_OPTION
@JSON_OPTION
def export(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    out: Path,
    force: bool,
    as_json: bool,
    **values: object,
) -> None:
    """Write features, labels, paths, classes and split as one plain file for other tools: HDF5, NPZ, CSV or Parquet.

    With --views the views of the training images follow the images; a column `view` tells which is which.
    """
    from featx.dataset import note_empty_classes
    from featx.store.cache import Cache
    from featx.store.export import require_exportable
    from featx.workflow.gather import export_gathered, gather

    require_exportable(out)
    require_new(out, force)
    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    with Cache(pipeline.features.cache) as cache:
        with Bars() as bars:
            gathered = gather(pipeline, cache, bars)
        shape = export_gathered(gathered, out)
    for note in note_empty_classes(gathered.extraction.images, gathered.extraction.readable):
        say(note)
    emit(as_json, {"out": str(out), "shape": list(shape)}, f"{'x'.join(map(str, shape))} features -> {out}")
