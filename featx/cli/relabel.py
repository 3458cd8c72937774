"""featx relabel apply | confirm | list | forget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, emit, table
from featx.cli.repeated import CheckedGroup
from featx.errors import DataError
from featx.io.counting import counted

if TYPE_CHECKING:
    from featx.config import Pipeline
    from featx.dataset import ImageSet
    from featx.dataset.relabel import Judgement
    from featx.io.jsontypes import Json
    from featx.runs.labels import KeptLabels
    from featx.store.cache import Cache

_CACHE = click.option("--cache", "folder", default="cache", show_default=True, metavar="DIR", help="The cache.")
_OPTIONS = section_options(
    "data", "report", without=["data.relabel", "report.html", "report.keep_paths", "report.plots"]
)
_DATA = click.option("--data", help="The images, instead of the pipeline's.")


@click.group(cls=CheckedGroup)
def relabel() -> None:
    """Correct labels permanently, or confirm that they are right: by the content of the images, for every command."""


def _read(pipeline: Pipeline, cache: Cache) -> tuple[ImageSet, KeptLabels]:
    """The images with the labels of the data alone, and where judged ones are kept."""
    from dataclasses import replace

    from featx.dataset import read_data
    from featx.dataset.relabel import require_one_label
    from featx.runs.labels import KeptLabels
    from featx.runs.run import Run

    plain = replace(need_data(pipeline).data, relabel=None)
    images = read_data(replace(pipeline, data=plain))
    require_one_label(images, "a judged label is one of each image")
    run = Run.of(pipeline, images)
    run.data.meet(images, cache.index, pipeline)
    run.data.remember(images, pipeline.data)
    return images, KeptLabels(run.path)


@relabel.command(cls=SectionedCommand)
@click.argument("file")
@click.argument("data", required=False)
@click.option("--confirm-rest", is_flag=True, help="Count every unchanged label of FILE as right.")
@_CACHE
@_OPTIONS
@JSON_OPTION
def apply(
    file: str,
    data: str | None,
    confirm_rest: bool,
    folder: str,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Keep the labels that FILE corrects: a CSV with the columns path and label, as featx check --features writes it.

    Labels that are as before are known to be right where the column 'right' has yes, and are not listed again. Later
    commands on the same images need no --relabel. Features are not computed again.
    """
    from featx.dataset.read import data_folder
    from featx.dataset.relabel import read_judgements
    from featx.store.cache import Cache

    pipeline = pipeline_of(data, pipeline_file, settings, values)
    with Cache(folder) as cache:
        images, kept = _read(pipeline, cache)
        read = read_judgements(images, file, data_folder(str(pipeline.data.path), pipeline.data))

        def is_said(one: Judgement) -> bool:
            """Whether a line says anything: by a mark, or by another label than that of the data.

            A list that is older than a correction has the label of the data, which takes nothing back.
            """
            return confirm_rest or one.marked or one.label != images.label_names(one.row)[0]

        judged = list(filter(is_said, read))
        _keep(kept, images, cache, judged, len(read) - len(judged), as_json)


@relabel.command(cls=SectionedCommand)
@click.argument("files", nargs=-1, required=True, metavar="IMAGES...")
@_DATA
@click.option("--label", metavar="CLASS", help="The right label (default: the label in the data).")
@_CACHE
@_OPTIONS
@JSON_OPTION
def confirm(
    files: tuple[str, ...],
    data: str | None,
    label: str | None,
    folder: str,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Confirm that the labels of images are right, so that featx check --features does not list them again."""
    from featx.dataset.relabel import Judgement, require_class
    from featx.store.cache import Cache

    pipeline = pipeline_of(data, pipeline_file, settings, values)
    with Cache(folder) as cache:
        images, kept = _read(pipeline, cache)
        if label is not None:
            require_class(label, images)
        rows = _rows_of(files, images)
        judged = [Judgement(row, label or images.label_names(row)[0]) for row in rows]
        _keep(kept, images, cache, judged, 0, as_json)


def _rows_of(files: Sequence[str], images: ImageSet) -> list[int]:
    """The rows of images that are named by their path from here, or as the data have it."""
    import os

    row_of = {os.path.realpath(path): row for row, path in enumerate(images.paths)}
    named = [(name, row_of.get(os.path.realpath(name))) for name in files]
    missing = [name for name, row in named if row is None]
    if missing:
        raise DataError(
            f"{missing[0]} is not among the {counted(len(images), 'image')} in {images.source}. Check the name."
        )
    return [row for _, row in named if row is not None]


def _keep(
    kept: KeptLabels, images: ImageSet, cache: Cache, judged: Sequence[Judgement], rest: int, as_json: bool
) -> None:
    corrected, confirmed = kept.keep(images, cache.index, judged) if judged else (0, 0)
    lines = [
        f"{counted(corrected, 'label')} corrected, {counted(confirmed, 'label')} known to be right -> {kept.file}",
        f"{counted(rest, 'label')} unchanged: where you checked them, write yes into the column "
        "'right', or add --confirm-rest."
        if rest
        else "",
    ]
    content: dict[str, Json] = {
        "file": str(kept.file),
        "corrected": corrected,
        "confirmed": confirmed,
        "as_before": rest,
    }
    emit(as_json, content, "\n".join(filter(None, lines)))


@relabel.command("list", cls=SectionedCommand)
@click.argument("data", required=False)
@_CACHE
@_OPTIONS
@JSON_OPTION
def list_labels(
    data: str | None,
    folder: str,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """List the labels that were corrected or confirmed."""
    from featx.store.cache import Cache

    pipeline = pipeline_of(data, pipeline_file, settings, values)
    with Cache(folder) as cache:
        _, kept = _read(pipeline, cache)
    found = sorted(kept.known().values(), key=lambda one: one.path)
    rows = [(one.path, one.given, one.label if one.label != one.given else "right") for one in found]
    content: list[Json] = [{"path": one.path, "given": one.given, "label": one.label} for one in found]
    listed: dict[str, Json] = {"file": str(kept.file), "labels": content}
    text = table(["image", "label in the data", "judged"], rows) if rows else "No label was corrected or confirmed."
    emit(as_json, listed, text)


@relabel.command(cls=SectionedCommand)
@click.argument("files", nargs=-1, metavar="[IMAGES]...")
@_DATA
@click.option("--all", "everything", is_flag=True, help="Forget the judgements on all images of the run.")
@_CACHE
@_OPTIONS
@JSON_OPTION
def forget(
    files: tuple[str, ...],
    data: str | None,
    everything: bool,
    folder: str,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Forget corrections and confirmations of images: the labels of the data hold again."""
    from featx.dataset import digest_images
    from featx.errors import UsageError
    from featx.store.cache import Cache

    if bool(files) == everything:
        raise UsageError("Name the images to forget the judgements on, or --all.")
    pipeline = pipeline_of(data, pipeline_file, settings, values)
    with Cache(folder) as cache:
        images, kept = _read(pipeline, cache)
        paths = [images.paths[row] for row in _rows_of(files, images)]
        some = [digest.hex() for digest in digest_images(paths, cache.index).digest.tolist()]
        number = kept.forget(kept.known() if everything else some)
    emit(as_json, {"file": str(kept.file), "forgotten": number}, f"{counted(number, 'judgement')} forgotten")
