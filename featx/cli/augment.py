"""featx augment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import pipeline_of, section_options
from featx.cli.help import SectionedCommand
from featx.cli.outputs import FORCE_OPTION, require_new
from featx.cli.render import JSON_OPTION, emit
from featx.config import DataOptions, FeaturesOptions
from featx.io.counting import counted

if TYPE_CHECKING:
    from featx.io.jsontypes import Json

_ITS_OPTIONS = {"data.seed", "features.backbone", "features.input_size", "features.resize", "features.levels"}
_OTHERS = [
    name
    for section, kind in (("data", DataOptions), ("features", FeaturesOptions))
    for name in (f"{section}.{entry.name}" for entry in fields(kind))
    if name not in _ITS_OPTIONS
] + ["augment.views"]


@click.command(cls=SectionedCommand)
@click.argument("image")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The PNG file to write.")
@FORCE_OPTION
@click.option("--count", type=click.IntRange(1, 20), default=5, show_default=True, help="Views in a row.")
@section_options("data", "features", "augment", without=_OTHERS)
@JSON_OPTION
def augment(
    image: str,
    out: Path,
    force: bool,
    count: int,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Draw what augmentation does to an image: the image, its first views, and each operation by itself.

    A view depends on the image's content, its number, the policy and --seed alone: it is the same on every machine.
    """
    from featx.backbones import resolve
    from featx.images.augment import Augmenter
    from featx.images.preview import draw_policy
    from featx.io.suffixes import suffix_of

    suffix_of(out, (".png",), "A picture")
    require_new(out, force)
    pipeline = pipeline_of(image, pipeline_file, settings, values)
    augmenter = Augmenter(pipeline.augment, pipeline.data.seed)
    spec = resolve(pipeline.features)
    draw_policy(augmenter, image, spec.input_size, spec.resize, out, count)
    content: dict[str, Json] = {"out": str(out), "views": count, "operations": list(pipeline.augment.operations)}
    emit(as_json, content, f"{counted(count, 'view')} of {image} -> {out}")
