"""featx explain."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import pipeline_of, section_options
from featx.cli.bundles import IMPORT_OPTION, MODEL_OPTION, choose, describe_choice
from featx.cli.help import SectionedCommand
from featx.cli.outputs import FORCE_OPTION, require_new
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, say, table
from featx.errors import FeatxError
from featx.io.counting import counted

if TYPE_CHECKING:
    from featx.inference.overlays import DrawnExplanations


@click.command(cls=SectionedCommand)
@click.argument("images", nargs=-1, required=True)
@MODEL_OPTION
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder of pictures and arrays."
)
@FORCE_OPTION
@click.option(
    "--class",
    "labels",
    multiple=True,
    metavar="NAME",
    help="Explain this class, whatever the prediction is; may be repeated.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Number of most likely classes to explain (default: 1; with several labels per image, the predicted labels).",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "cam", "gradcam", "occlusion"]),
    default="auto",
    show_default=True,
    help="auto: cam where it is exact, else gradcam where the head has a gradient, else occlusion.",
)
@IMPORT_OPTION
@section_options("report", without=["report.html", "report.keep_paths", "report.plots"])
@JSON_OPTION
def explain(
    images: tuple[str, ...],
    model: str | None,
    out: Path,
    force: bool,
    labels: tuple[str, ...],
    top: int | None,
    method: str,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Show which regions of images, or of all images in folders, support a class.

    Writes for each image and class the picture with the map over it, the map alone, and the map's values (.npy).
    """
    from featx.bundle.bundle import load_bundle
    from featx.inference.explain import Explainer
    from featx.inference.overlays import GRID, draw_explanations
    from featx.inference.predict import find_files

    require_new(out, force)
    pipeline = pipeline_of(None, pipeline_file, settings, values)
    chosen = choose(model, pipeline)
    bundle = load_bundle(chosen.path)
    explainer = Explainer(bundle, method, labels, top)
    paths = find_files(images)
    if chosen.why or not as_json:
        say(f"Explaining {bundle.shown} by {explainer.method}{describe_choice(chosen)}")
    with Bars() as bars:
        found = draw_explanations(explainer, paths, out, bars)
    if found.left_out:
        say(f"{GRID} shows the first pictures; {counted(found.left_out, 'more is', 'more are')} in {out}.")
    failure = None if found.images else FeatxError("None of the images could be read.")
    emit(as_json, found.as_json(), _text(found, bundle.manifest.calibrated_on), failure)


def _text(found: DrawnExplanations, images: int | None) -> str:
    from featx.metrics.digits import confidence_text

    rows = [
        (image.explanation.path, one.label, confidence_text(one.confidence, images), one.files["overlay"])
        for image in found.images
        for one in image.classes
    ]
    parts = [
        table(["image", "class", "confidence", "picture"], rows) if rows else "",
        bad_images([asdict(one) for one in found.unread]),
        f"all pictures: {found.grid}" if found.grid else "",
    ]
    return "\n".join(part for part in parts if part)
