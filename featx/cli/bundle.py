"""featx bundle pack | unpack | verify | card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import Command, pipeline_of, section_options
from featx.cli.bundles import IMPORT_OPTION, MODEL_TOO, take
from featx.cli.complete import complete_model
from featx.cli.outputs import FORCE_OPTION, require_new
from featx.cli.render import JSON_OPTION, emit
from featx.cli.repeated import CheckedGroup
from featx.errors import UsageError
from featx.io.counting import counted
from featx.io.shown import as_line

if TYPE_CHECKING:
    from featx.bundle.manifest import Manifest
    from featx.io.jsontypes import Json


@click.group(cls=CheckedGroup)
def bundle() -> None:
    """Pack a bundle into one file, unpack it, verify it, write its model card."""


def _model(command: Command) -> Command:
    """The bundle, as an argument or by the option of the other commands."""
    return click.argument("model", required=False, shell_complete=complete_model)(MODEL_TOO(command))


@bundle.command()
@_model
@click.option("--out", type=click.Path(path_type=Path), help="The .featx file (default: the bundle's name, here).")
@FORCE_OPTION
@section_options("report", without=["report.html", "report.plots"])
@JSON_OPTION
def pack(
    model: str | None,
    out: Path | None,
    force: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Write a bundle (default: the best one) as one .featx file that predicts on any machine with featx."""
    from featx.bundle.bundle import pack as write

    require_new(out, force)
    pipeline = pipeline_of(None, pipeline_file, settings, values)
    found = take(model, pipeline, "Packing", quiet=True)
    whole = found.shown.resolve()
    out = out or Path(f"{whole.stem}.featx" if found.packed else f"{whole.parent.name}-{whole.name}.featx")
    require_new(out, force)
    manifest = write(found, out, pipeline.report.keep_paths)
    size = out.stat().st_size
    files = [*manifest.files]
    lines = [
        f"{out}: {size / 1e6:.1f} MB",
        f"It holds bundle.json, {', '.join(files)}",
        "and in bundle.json the classes, figures and versions, the digest of each file, and the command:",
        f"  {as_line(manifest.command)}",
        *_license_lines(manifest),
    ]
    content: dict[str, Json] = {
        "bundle": str(found.shown),
        "out": str(out),
        "bytes": size,
        "files": files,
        "command": manifest.command,
        "licenses": [*manifest.licenses],
    }
    emit(as_json, content, "\n".join(lines))


def _license_lines(manifest: Manifest) -> list[str]:
    """What has to be passed on with the weights, where their licence is known."""
    name = manifest.backbone.license
    if not isinstance(name, str):
        return []
    texts = f"its text is in {', '.join(manifest.licenses)}" if manifest.licenses else "its text is not in the bundle"
    return [f"The weights of {manifest.backbone.name} are under {name}; {texts}."]


@bundle.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder to make (default: the file's name without .featx)."
)
@FORCE_OPTION
@JSON_OPTION
def unpack(file: Path, out: Path | None, force: bool, as_json: bool) -> None:
    """Unpack a .featx file into a bundle's folder, and verify it."""
    from featx.bundle.archive import unpack as extract
    from featx.bundle.bundle import load_bundle

    if file.is_dir():
        raise UsageError(f"{file} is a folder, but a .featx file is needed. featx bundle pack writes one.")
    if not file.is_file():
        raise UsageError(f"No file {file}. Check the name, or the folder you are in.")
    out = out or file.with_suffix("")
    require_new(out, force)
    extract(file, out, replace=force)
    load_bundle(out)
    emit(as_json, {"bundle": str(out)}, str(out))


@bundle.command()
@_model
@IMPORT_OPTION
@section_options("report", without=["report.html", "report.keep_paths", "report.plots"])
@JSON_OPTION
def verify(
    model: str | None, pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool, **values: object
) -> None:
    """Check every file of a bundle against its checksum, and that they fit together by predicting a black image."""
    found = take(model, pipeline_of(None, pipeline_file, settings, values), "Verifying", quiet=True)
    found.check()
    path, files = found.shown, len(found.manifest.files)
    emit(
        as_json,
        {"bundle": str(path), "files": files, "ok": True},
        f"{path}: {counted(files, 'file')}, all intact",
    )


@bundle.command()
@_model
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The Markdown file (default: print it).")
@click.option("--force", is_flag=True, help="Replace an existing file, including what was added to it by hand.")
@section_options("report", without=["report.html", "report.plots"])
@JSON_OPTION
def card(
    model: str | None,
    out: Path | None,
    force: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Write the model card of a bundle (default: the best one): what it is, how accurate it is, where not to use it."""
    from featx.bundle.sealing import without_folders
    from featx.card.card import model_card
    from featx.io.commands import without_folder
    from featx.io.files import write_atomic

    require_new(out, force)
    pipeline = pipeline_of(None, pipeline_file, settings, values)
    found = take(model, pipeline, "Describing", quiet=True)
    path, whole = found.shown, found.shown.resolve()
    name = whole.stem if found.packed else f"{whole.parent.name}/{whole.name}"
    manifest, place = found.manifest, str(path)
    if not pipeline.report.keep_paths:
        manifest, place = without_folders(manifest), without_folder(place)
    text = model_card(manifest, name, place)
    if out is not None:
        write_atomic(out, text)
    content = {"bundle": str(path), "out": None if out is None else str(out), "card": text}
    emit(as_json, content, text.rstrip("\n") if out is None else str(out))
