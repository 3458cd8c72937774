"""featx look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.app import command_line
from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, table
from featx.io.counting import counted, counted_of

if TYPE_CHECKING:
    from featx.first_look.answers import ImageAnswer, ImageNetResult
    from featx.first_look.flow import FirstLook
    from featx.first_look.recommendation import DepthsResult, Recommendation

_PREDICTIONS = 30  # lines
NOT_ITS_OPTIONS = (
    *("data.split", "data.max_train", "features.layer", "features.pooling", "features.storage"),
    *("features.compression", "features.precision"),
)


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder (default: RUNS/NAME/look).")
@click.option(
    "--show-classes",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="Number of classes on the contact sheet.",
)
@click.option(
    "--show-images", type=click.IntRange(1, 40), default=6, show_default=True, help="Number of images per class."
)
@click.option(
    "--sample",
    type=click.IntRange(min=10),
    help="Most images that networks are run on [500, or as many as a minute is enough for].",
)
@click.option(
    "--imagenet",
    is_flag=True,
    help="Print the ImageNet classes predicted for the images; fail where no network has an ImageNet top.",
)
@click.option(
    "--advice/--no-advice", default=True, help="Probe a few layers and recommend which head on which layer to try [on]."
)
@section_options("data", "features", "report", without=NOT_ITS_OPTIONS)
@JSON_OPTION
def look(
    data: str | None,
    out: Path | None,
    show_classes: int,
    show_images: int,
    sample: int | None,
    imagenet: bool,
    advice: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Get a first look at a data set: a contact sheet, what the network sees, ImageNet's answers, advice.

    Draws labelled images of every class, and images as the network gets them. With --advice runs the backbone on a
    sample, and says which of the four cases of transfer learning the data are in, which layer and head to try, and
    whether to fine-tune.
    """
    from featx.config.arguments import typed_arguments
    from featx.first_look.flow import Scope
    from featx.first_look.flow import look as look_at
    from featx.io.context import Context
    from featx.store.cache import Cache

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    scope = Scope.asked(show_classes, show_images, sample, imagenet, advice)
    arguments = typed_arguments(pipeline, data, pipeline_file, ("data", "features", "report"))
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        found = look_at(pipeline, cache, out, scope, arguments, Context(command_line(), bars))
    emit(as_json, found.as_json(), _text(found, imagenet))


def _text(found: FirstLook, imagenet: bool) -> str:
    views = found.views
    size = " x ".join(map(str, views.input_size))
    parts = [
        _sizes(found),
        bad_images([asdict(one) for one in found.unreadable]),
        *[f"note: {note}" for note in found.notes],
        f"contact sheet of {counted(found.shown, 'image')}: {found.contact_sheet}",
        f"what {views.backbone} sees ({size}, {views.resize}, {views.preprocessing}): {views.picture}",
        _answers(found.imagenet) if imagenet and found.imagenet else "",
        _depths(found.depths) if found.depths else "",
        _advice(found.recommendation) if found.recommendation else "",
        f"all on one page: {found.report}" if found.report else "",
    ]
    return "\n".join(part for part in parts if part)


def _sizes(found: FirstLook) -> str:
    sizes = list(found.classes.values())
    images = counted(found.images, "image")
    if not sizes:
        return f"{images} without labels"
    each = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    return f"{images} in {counted(len(sizes), 'class', 'classes')}, {each} in each"


def _answers(found: ImageNetResult) -> str:
    rows = [
        (Path(one.path).name, one.label, *(f"{entry.label} {entry.confidence:.0%}" for entry in one.top))
        for one in _spread(found.predictions)
    ]
    parts = [f"ImageNet classes predicted by {found.backbone} (preprocessing {found.preprocessing}):"]
    parts.append(table(["image", "class", "first", "second", "third"], rows))
    if len(found.predictions) > len(rows):
        parts.append(f"Shown: {counted_of(len(rows), len(found.predictions), 'image')}; --json lists all.")
    taken = [
        (one.label, one.images, ", ".join(f"{entry.label} {entry.share:.0%}" for entry in one.commonest))
        for one in found.classes
    ]
    if taken:
        parts.append(table(["class", "images", "predicted"], taken))
    return "\n".join([*parts, f"pictures: {found.picture}"])


def _spread(predictions: Sequence[ImageAnswer]) -> list[ImageAnswer]:
    """A few predictions, as many of each class as there is room for, class by class."""
    by_class: dict[str | None, list[ImageAnswer]] = {}
    for one in predictions:
        by_class.setdefault(one.label, []).append(one)
    each = max(1, _PREDICTIONS // max(1, len(by_class)))
    shown = [one for label in sorted(by_class, key=str) for one in by_class[label][:each]]
    return shown[:_PREDICTIONS]


def _depths(found: DepthsResult) -> str:
    rows = [(one.name, f"{one.share:.1%}", one.score) for one in found.probes]
    metric = found.metric.replace("_", " ")
    return table(["layer and pooling", "share of the work", metric], rows)


def _advice(found: Recommendation) -> str:
    advice = found.advice
    case = advice.case[0].upper() + advice.case[1:]
    lines = [f"{case}. {advice.summary}", *(f"- {reason}" for reason in found.reasons)]
    return "\n".join([*lines, "Try:", *(f"  {command}" for command in found.commands)])
