"""featx explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from featx.cli.arguments import pipeline_of, section_options
from featx.cli.render import Bars, bad_images, emit, say, table
from featx.errors import FeatxError


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--model", metavar="BUNDLE", help="A bundle, a .featx file, or a folder of bundles (default: the best).")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder of pictures and arrays."
)
@click.option(
    "--class", "labels", multiple=True, metavar="NAME", help="Explain this class, whatever is seen; may be repeated."
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Explain this many classes, the likeliest (default: 1, or the labels given where images have several).",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "cam", "gradcam", "occlusion"]),
    default="auto",
    show_default=True,
    help="auto: cam where it is exact, else gradcam where the head has a gradient, else occlusion.",
)
@section_options("report", without=["report.html"])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(
    images: tuple[str, ...],
    model: str | None,
    out: Path,
    labels: tuple[str, ...],
    top: int | None,
    method: str,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: Any,
) -> None:
    """Show which places of images, or of all images in folders, speak for a class.

    Writes for each image and class the picture with the map over it, the map alone, and the map's values (.npy).
    """
    from featx.bundle.bundle import load_bundle
    from featx.inference.explain import Explainer
    from featx.inference.overlays import GRID, Album
    from featx.inference.predict import find_files
    from featx.runs.run import find_bundle

    pipeline = pipeline_of(None, pipeline_file, settings, values)
    name = pipeline.report.name or Path(pipeline.data.path or "default").stem
    bundle = load_bundle(find_bundle(model, Path(pipeline.report.runs), name))
    explainer = Explainer(bundle, method, labels, top)
    paths = find_files(images)
    if not as_json:
        say(f"Explaining {bundle.path} by {explainer.method}")
    album = Album(out, bundle)
    with Bars() as bars:
        album.add(explainer.explain(paths, progress=bars), paths)
    grid = album.finish()
    if album.left_out:
        say(f"{GRID} shows the first pictures; {album.left_out:,} more are in {out}.")
    content = {
        "bundle": str(bundle.path),
        "method": explainer.method,
        "out": str(out),
        "grid": grid and str(grid),
        "images": album.entries,
        "bad": album.bad,
    }
    emit(as_json, content, _text(content))
    if not album.entries:
        raise FeatxError("None of the images could be read.")


def _text(found: dict[str, Any]) -> str:
    rows = [
        (image["path"], one["label"], f"{one['confidence']:.1%}", one["files"]["overlay"])
        for image in found["images"]
        for one in image["classes"]
    ]
    parts = [
        table(["image", "class", "confidence", "picture"], rows) if rows else "",
        bad_images(found["bad"]),
        f"all pictures: {found['grid']}" if found["grid"] else "",
    ]
    return "\n".join(part for part in parts if part)
