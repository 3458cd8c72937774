"""featx check, split, data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.arguments import need_data, pipeline_of, section_options
from featx.cli.help import SectionedCommand
from featx.cli.outputs import FORCE_OPTION, require_new
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, say, table
from featx.cli.repeated import CheckedGroup
from featx.cli.values import number
from featx.config.bounds import Cosine
from featx.errors import UsageError
from featx.io.counting import counted
from featx.io.shown import as_line

if TYPE_CHECKING:
    from featx.dataset.check import Check
    from featx.io.jsontypes import Json


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@click.option(
    "--features", "by_features", is_flag=True, help="Look for label errors, near-duplicates and outliers instead."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the findings of --features (default: RUNS/NAME/check)."
)
@click.option(
    "--near",
    type=number(Cosine),
    help="Cosine similarity from which two images count as near-duplicates, with --features [0.95].",
)
@section_options("data", "features", "report", without=["report.plots"])
@JSON_OPTION
def check(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    by_features: bool,
    out: Path | None,
    near: float | None,
    as_json: bool,
    **values: object,
) -> None:
    """Decode every file fully; report bad images, duplicates, and the same bytes under two labels.

    With --features, extract the features that are missing and compare them: likely label errors, near-duplicates and
    outliers, each as a CSV and a grid of pictures. featx relabel apply keeps what you correct in label_errors.csv.
    """
    from featx.cli.quality import require_features_flag, review_data
    from featx.dataset import check_images
    from featx.dataset.columns import require_no_duplicate_groups
    from featx.runs.labels import count_judged, read_labelled
    from featx.store.cache import Cache

    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    if by_features:
        review_data(pipeline, out, near, as_json)
        return
    require_features_flag(out, near)
    require_no_duplicate_groups(pipeline.data, "featx check without --features")
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        bars("hash", 0, 0)
        images = read_labelled(pipeline, cache.index)
        found = check_images(
            images,
            cache.index,
            progress=lambda done: bars("check", done, len(images)),
            levels=pipeline.features.levels,
        )
        found = replace(found, judged=count_judged(pipeline, cache.index))
    emit(as_json, found.as_json(), _check_text(found))


def _check_text(found: Check) -> str:
    head = (
        f"{counted(found.images, 'image')}, {found.readable:,} readable, {len(found.unreadable):,} bad, "
        f"{counted(len(found.duplicates), 'set')} of duplicates, {len(found.conflicts):,} with conflicting labels"
    )
    parts = [
        head,
        table(["class", "images"], found.classes.items()) if found.classes else "",
        bad_images(found.unreadable, shown=50),
        *["same bytes: " + ", ".join(map(as_line, group)) for group in found.duplicates[:20]],
        *[
            "conflict: " + ", ".join(map(as_line, one["paths"])) + " (left out of fitting)"
            for one in found.conflicts[:20]
        ],
        *["in two parts: " + ", ".join(map(as_line, one["paths"])) for one in found.straddling[:20]],
        *map(as_line, found.notes),
    ]
    return "\n".join(part for part in parts if part)


@click.command(cls=SectionedCommand)
@click.argument("data", required=False)
@section_options("data")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The CSV to write.")
@click.option(
    "--no-shuffle", is_flag=True, help="Keep the order of the data: the first images are train, the last test."
)
@FORCE_OPTION
@JSON_OPTION
def split(
    data: str | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    out: Path,
    no_shuffle: bool,
    force: bool,
    as_json: bool,
    **values: object,
) -> None:
    """Write path, label and split of every usable image as a CSV that featx and others read."""
    import numpy as np

    from featx.dataset import SPLITS, check_images, split_images, write_split
    from featx.dataset.columns import require_no_duplicate_groups
    from featx.dataset.digests import digest_images
    from featx.dataset.split import split_in_order
    from featx.io.suffixes import suffix_of
    from featx.runs.labels import read_labelled
    from featx.store.cache import Cache

    suffix_of(out, (".csv",), "A split")
    require_new(out, force)
    pipeline = need_data(pipeline_of(data, pipeline_file, settings, values))
    require_no_duplicate_groups(pipeline.data, "featx split")
    with Cache(pipeline.features.cache) as cache, Bars() as bars:
        bars("hash", 0, 0)
        images = read_labelled(pipeline, cache.index)
        found = check_images(
            images,
            cache.index,
            progress=lambda done: bars("check", done, len(images)),
            levels=pipeline.features.levels,
        )
        digests = digest_images(images.paths, cache.index)
    unreadable = {one["path"] for one in found.unreadable}
    usable = np.array([path not in unreadable for path in images.paths], bool)
    divide = split_in_order if no_shuffle else split_images
    parts = divide(images, digests.digest, usable, pipeline.data)
    write_split(out, images, parts)
    counts = {name: int((parts == code).sum()) for code, name in enumerate(SPLITS)}
    for note in images.notes:
        say(note)
    left_out = int((parts == len(SPLITS)).sum())
    content: dict[str, Json] = {"out": str(out), **counts, "left_out": left_out, "bad": found.unreadable}
    lines = [
        ", ".join(f"{name} {number:,}" for name, number in counts.items()) + f" -> {out}",
        bad_images(found.unreadable),
    ]
    emit(as_json, content, "\n".join(line for line in lines if line))


@click.group(cls=CheckedGroup)
def data() -> None:
    """Write embedded data sets as image folders."""


@data.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@JSON_OPTION
def digits(out: Path, as_json: bool) -> None:
    """scikit-learn's 1,797 handwritten digits, 8x8 pixels, a folder per class."""
    from featx.dataset.digits import write_digits

    count = write_digits(out)
    emit(as_json, {"out": str(out), "images": count}, f"{counted(count, 'image')} in {out}")


@data.command("fashion-mnist")
@click.option(
    "--source",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the four IDX files (Debian: /usr/share/datasets/fashion-mnist).",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option(
    "--multilabel", is_flag=True, help="Images of one or two garments with several labels each, as PNG files and a CSV."
)
@click.option("--images", type=click.IntRange(min=5), help="Number of images that --multilabel makes [3000].")
@click.option("--seed", type=click.IntRange(min=0), help="Seed that picks the garments of --multilabel [0].")
@JSON_OPTION
def fashion_mnist(
    source: Path, out: Path, multilabel: bool, images: int | None, seed: int | None, as_json: bool
) -> None:
    """Fashion-MNIST's 70,000 images with its own train and test parts, from its IDX files.

    With --multilabel, fewer images with labels such as Coat, upper body and sleeves, every third of two garments side
    by side with the labels of both; --label-separator '$' reads their index.csv.
    """
    if multilabel:
        from featx.dataset.labelled_fashion import INDEX, write_labelled_fashion

        count = write_labelled_fashion(source, out, 3000 if images is None else images, seed or 0)
        index = str(out / INDEX)
        emit(as_json, {"out": str(out), "images": count, "index": index}, f"{counted(count, 'image')} in {index}")
        return
    for name, value in (("--images", images), ("--seed", seed)):
        if value is not None:
            raise UsageError(f"{name} goes with --multilabel: featx data fashion-mnist --multilabel {name} ...")
    from featx.dataset.fashion_mnist import write_fashion_mnist

    count = write_fashion_mnist(source, out)
    emit(as_json, {"out": str(out), "images": count}, f"{counted(count, 'image')} in {out}")
