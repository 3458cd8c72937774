"""featx evaluate, predict, bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featx.cli import command_line
from featx.cli.arguments import pipeline_of, section_options
from featx.cli.render import Bars, bad_images, emit, metric_names, say, table
from featx.errors import FeatxError, UsageError

if TYPE_CHECKING:
    from featx.bundle import Bundle
    from featx.options import Pipeline
    from featx.predict import Average, Prediction

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


_TTA = click.option(
    "--tta",
    type=click.IntRange(min=0),
    default=0,
    help="Average over the image and so many altered versions of it, by the bundle's policy of augmentation or by the "
    "one that the options say.",
)


def _average(
    bundle: Bundle, tta: int, pipeline_file: Path | None, settings: tuple[str, ...], values: dict[str, Any]
) -> Average | None:
    """What is averaged over; a default pipeline file says nothing of it."""
    from featx.predict import Average

    said = pipeline_of("", pipeline_file, settings, {k: v for k, v in values.items() if k.startswith("augment__")})
    if tta:
        return Average.of_bundle(bundle, tta, said.augment, said.data.seed)
    if said.augment.operations and pipeline_file is None:
        raise UsageError(f"{', '.join(said.augment.operations)}: views are averaged with --tta N. Add --tta 5.")
    return None


def _find(where: str | None, pipeline: Pipeline) -> Path:
    from featx.bundle import find_bundle

    name = pipeline.report.name or Path(pipeline.data.path or "default").stem
    return find_bundle(where, Path(pipeline.report.runs), name)


@click.command()
@click.argument("bundle", required=False)
@click.option("--data", "data", help="Measure on these images instead of those of the pipeline.")
@click.option(
    "--split",
    "part",
    type=click.Choice(["train", "val", "test", "all"]),
    help="Which part (default: test; all with --data).",
)
@click.option("--against", metavar="BUNDLE", help="Say whether it differs from this bundle by more than noise.")
@_TTA
@click.option(
    "--report",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the report here (default: into the bundle's folder, when it is one of a run and there is no --data "
    "and no --tta).",
)
@section_options("augment", "report", without=["augment.views"])
@_JSON
def evaluate(
    bundle: str | None,
    data: str | None,
    part: str | None,
    against: str | None,
    tta: int,
    directory: Path | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: Any,
) -> None:
    """Measure a bundle (default: the best one) on labelled images.

    The parts are those that the bundle was made with, by the images' content, wherever the files lie now.
    """
    import time
    from dataclasses import asdict, replace

    from featx.bundle import load_bundle
    from featx.evaluate import compare_judged, judge, measure_judged, require_comparable
    from featx.report.occasions import FOLDER, belongs_to_run, report_evaluation
    from featx.run import images_of_part

    pipeline = pipeline_of(None, pipeline_file, settings, values)
    path = _find(bundle, pipeline)
    model = load_bundle(path)
    say(f"Measuring {model.path}")
    if data is not None:
        pipeline = replace(pipeline, data=replace(pipeline.data, path=data, relabel=None))
    elif pipeline_file is None and not settings:
        _require_own_data(model, pipeline)
    part = part or ("test" if data is None else "all")
    rival = None if against is None else load_bundle(_find(against, pipeline))
    if rival is not None:
        require_comparable(model.multilabel, rival.multilabel)
    average = _average(model, tta, pipeline_file, settings, values)
    rivals = None if rival is None else _average(rival, tta, pipeline_file, settings, values)
    images, notes = images_of_part(pipeline, model, part)
    name = part if data is None else images.name
    start = time.perf_counter()
    with Bars() as bars:
        judged, bad = judge(model, images, name, bars, average)
        comparison = None if rival is None else compare_judged(judged, judge(rival, images, name, bars, rivals)[0])
    for note in notes:
        say(note)
    found = measure_judged(judged)
    if directory is None and pipeline.report.html and data is None and not tta and belongs_to_run(path):
        directory = path / FOLDER
    seconds = time.perf_counter() - start
    page = directory and report_evaluation(directory, model, path, judged, bad, pipeline, command_line(), seconds)
    content = {"bundle": str(model.path), "split": part, **found, "bad": bad, "report": page and str(page)}
    if model.multilabel:
        content["thresholds"] = dict(zip(model.classes, model.thresholds.tolist(), strict=True))
    if rival is not None and comparison is not None:
        content["against"] = {"bundle": str(rival.path), **asdict(comparison), "verdict": comparison.verdict}
    emit(as_json, content, _metrics_text(content))


def _require_own_data(model: Bundle, pipeline: Pipeline) -> None:
    source = model.about["data"]["source"]
    if Path(pipeline.data.path or "").name != source:
        raise UsageError(
            f"{model.path} was made of {source}, and nothing says where its images are now. Give their folder or CSV "
            "with --data, and --split test for those it was not fitted on; or the pipeline file with -p FILE."
        )


def _metrics_text(found: dict[str, Any]) -> str:
    names = metric_names(found)
    rows = [one.values() for one in found["per_class"] or []]
    parts = [
        table(["part", *names], [(found["split"], *[found[name] for name in names])]),
        table(["class", *list(found["per_class"][0])[1:]], rows) if rows else "",
        _confusion_text(found) if "confusion" in found and 0 < len(rows) <= 20 else "",
        _comparison_text(found["against"]) if "against" in found else "",
        bad_images(found["bad"]),
        f"report: {found['report']}" if found["report"] else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _comparison_text(found: dict[str, Any]) -> str:
    first, second = found["accuracy"]
    low, high = found["interval"]
    return (
        f"against {found['bundle']}: {found['images']} images, accuracy {first:.4f} and {second:.4f}, difference "
        f"{first - second:+.4f} ({low:+.4f} to {high:+.4f}, 95 %)\n{found['verdict']}"
    )


def _confusion_text(found: dict[str, Any]) -> str:
    labels = [one["label"] for one in found["per_class"]]
    if "exact_match" in found:
        cells = [
            (label, there, missed, wrong, no)
            for label, ((no, wrong), (missed, there)) in zip(labels, found["confusion"], strict=True)
        ]
        return table(["class", "has it: given", "not given", "has it not: given", "not given"], cells)
    return "truth down, prediction across\n" + table(
        ["", *labels], [(label, *row) for label, row in zip(labels, found["confusion"], strict=True)]
    )


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--model", metavar="BUNDLE", help="A bundle, a .featx file, or a folder of bundles (default: the best).")
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, help="How many classes to tell.")
@click.option(
    "--min-confidence", type=click.FloatRange(0, 1), default=0.0, help="Answer 'unsure' where the confidence is less."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a CSV instead of printing.")
@click.option(
    "--max-distance",
    type=click.FloatRange(min=0),
    help="Answer 'unknown' farther than this from all training images; 99 % of images of known classes are within 1.",
)
@_TTA
@section_options("augment", "report", without=["augment.views", "report.html"])
@_JSON
def predict(
    images: tuple[str, ...],
    model: str | None,
    top: int,
    min_confidence: float,
    out: Path | None,
    max_distance: float | None,
    tta: int,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: Any,
) -> None:
    """Tell the class of images or of all images in folders, with the confidence.

    Fails when no image at all could be read.
    """
    from dataclasses import asdict

    from featx.bundle import load_bundle
    from featx.predict import Prediction, as_json_object, find_files, write_csv
    from featx.predict import predict as answer

    if (
        model is not None
        and pipeline_file is None
        and not settings
        and (Path(model).is_file() or (Path(model) / "bundle.json").is_file())
    ):
        bundle = load_bundle(Path(model))
    else:
        bundle = load_bundle(_find(model, pipeline_of(None, pipeline_file, settings, values)))
    paths = find_files(images)
    average = _average(bundle, tta, pipeline_file, settings, values)
    answers = answer(bundle, paths, top, 0, min_confidence, max_distance, average)
    if not as_json:
        say(f"Predicting with {bundle.path}")
    if out is not None:
        read, unread = write_csv(out, answers, max_distance is not None)
        bad = [asdict(one) for one in unread]
        text = "\n".join(filter(None, [bad_images(bad), f"{read:,} predictions, {len(bad):,} bad -> {out}"]))
        emit(as_json, {"out": str(out), "images": read, "bad": bad}, text)
    else:
        found = list(answers)
        read = sum(isinstance(one, Prediction) for one in found)
        emit(as_json, as_json_object(found), _predictions_text(found))
    if not read:
        raise FeatxError("None of the images could be read.")


def _prediction_text(one: Prediction) -> str:
    top = ", ".join(f"{choice.label} {choice.confidence:.1%}" for choice in one.top)
    if one.unknown:
        return f"unknown (taken for {top})"
    if one.labels is not None:
        return f"{' | '.join(one.labels) or 'no label'} ({top})"
    return top if one.label == one.top[0].label else f"{one.label} ({top})"


def _predictions_text(answers: list[Any]) -> str:
    from dataclasses import asdict

    from featx.predict import Prediction

    found = [one for one in answers if isinstance(one, Prediction)]
    rows: list[tuple[Any, ...]] = [(one.path, _prediction_text(one)) for one in found]
    measured = any(one.distance is not None for one in found)
    if measured:
        rows = [(*row, f"{one.distance:.2f}") for row, one in zip(rows, found, strict=True)]
    text = table(["image", "class", *(["distance"] if measured else [])], rows) if rows else ""
    bad = bad_images([asdict(one) for one in answers if not isinstance(one, Prediction)], shown=50)
    return "\n".join(part for part in (text, bad) if part)


@click.group()
def bundle() -> None:
    """Pack a bundle into one file, unpack it, verify it, write its model card."""


_MODEL = click.argument("model", required=False)


@bundle.command()
@_MODEL
@click.option("--out", type=click.Path(path_type=Path), help="The .featx file (default: the bundle's name, here).")
@section_options("report", without=["report.html"])
@_JSON
def pack(
    model: str | None,
    out: Path | None,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: Any,
) -> None:
    """Write a bundle (default: the best one) as one .featx file that predicts on any machine with featx."""
    from featx.bundle import load_bundle
    from featx.bundle import pack as write

    found = load_bundle(_find(model, pipeline_of(None, pipeline_file, settings, values)))
    out = out or Path(f"{found.path.parent.name}-{found.path.name}.featx")
    write(found, out)
    size = out.stat().st_size
    emit(as_json, {"bundle": str(found.path), "out": str(out), "bytes": size}, f"{out}: {size / 1e6:.1f} MB")


@bundle.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder to make (default: the file's name without .featx)."
)
@_JSON
def unpack(file: Path, out: Path | None, as_json: bool) -> None:
    """Unpack a .featx file into a bundle's folder, and verify it."""
    from featx.bundle import load_bundle
    from featx.bundle import unpack as extract

    if not file.is_file():
        raise UsageError(f"There is no file {file}.")
    out = out or file.with_suffix("")
    extract(file, out)
    load_bundle(out)
    emit(as_json, {"bundle": str(out)}, str(out))


@bundle.command()
@_MODEL
@section_options("report", without=["report.html"])
@_JSON
def verify(
    model: str | None, pipeline_file: Path | None, settings: tuple[str, ...], as_json: bool, **values: Any
) -> None:
    """Check every file of a bundle against its checksum, and that its head can be loaded."""
    from featx.bundle import load_bundle

    path = _find(model, pipeline_of(None, pipeline_file, settings, values))
    found = load_bundle(path)
    _ = found.head
    files = len(found.about["files"])
    emit(as_json, {"bundle": str(path), "files": files, "ok": True}, f"{path}: {files} files, all as they were written")


@bundle.command()
@_MODEL
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The Markdown file (default: print it).")
@click.option("--force", is_flag=True, help="Replace the file where there is one, and what was added to it by hand.")
@section_options("report", without=["report.html"])
@_JSON
def card(
    model: str | None,
    out: Path | None,
    force: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: Any,
) -> None:
    """Write the model card of a bundle (default: the best one): what it is, how right it is, where not to use it."""
    from featx.bundle import load_bundle
    from featx.card import model_card
    from featx.files import write_atomic

    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists already. Replace it with --force, or name another file with --out.")
    path = _find(model, pipeline_of(None, pipeline_file, settings, values))
    whole = path.resolve()
    name = whole.stem if path.is_file() else f"{whole.parent.name}/{whole.name}"
    text = model_card(load_bundle(path).about, name, str(path))
    if out is not None:
        write_atomic(out, text)
    content = {"bundle": str(path), "out": None if out is None else str(out), "card": text}
    emit(as_json, content, text.rstrip("\n") if out is None else str(out))
