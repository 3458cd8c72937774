"""featx evaluate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.app import command_line
from featx.cli.arguments import pipeline_of, section_options
from featx.cli.bundles import IMPORT_OPTION, MODEL_TOO, TTA_OPTION, average_of, take
from featx.cli.complete import complete_model
from featx.cli.help import SectionedCommand
from featx.cli.render import JSON_OPTION, Bars, bad_images, emit, figure_cells, say, table
from featx.errors import UsageError
from featx.io.counting import counted
from featx.workflow.own_data import own_data

if TYPE_CHECKING:
    from featx.bundle.bundle import Bundle
    from featx.config import DataOptions, Pipeline
    from featx.inference.evaluation import EvaluationResult, RivalResult
    from featx.metrics.measures import Measures
    from featx.report.explained import WrittenMistakes


_OWN = (
    "Give their folder or CSV with --data, and --split test for those it was not fitted on; or the pipeline file with "
    "-p FILE."
)


@click.command(cls=SectionedCommand)
@click.argument("bundle", required=False, shell_complete=complete_model)
@MODEL_TOO
@click.option("--data", "data", help="Measure on these images instead of the pipeline's.")
@click.option(
    "--split",
    "part",
    type=click.Choice(["train", "val", "test", "all"]),
    help="Part to measure on (default: test; all with --data).",
)
@click.option(
    "--against", metavar="BUNDLE", help="Bundle to compare with; reports whether the difference is more than noise."
)
@TTA_OPTION
@click.option(
    "--report",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the report here (default: into the bundle's folder, when it is one of a run and there is no --data "
    "and no --tta).",
)
@click.option(
    "--mistakes",
    "folder",
    type=click.Path(path_type=Path),
    help="Write a page of the mistakes here, each with its explain maps and its nearest training images.",
)
@click.option("--force", is_flag=True, help="Write the mistakes into a folder that has files in it.")
@IMPORT_OPTION
@section_options("augment", "report", without=["augment.views"])
@JSON_OPTION
def evaluate(
    bundle: str | None,
    data: str | None,
    part: str | None,
    against: str | None,
    tta: int,
    directory: Path | None,
    folder: Path | None,
    force: bool,
    pipeline_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    **values: object,
) -> None:
    """Measure a bundle (default: the best one) on labelled images.

    The parts are those that the bundle was made with, by the images' content, wherever the files lie now.
    """
    from dataclasses import replace

    from featx.bundle.choices import describe_choices
    from featx.inference.evaluation import EvaluationResult
    from featx.inference.judge import describe_unknown, judge
    from featx.io.context import Context
    from featx.metrics.measures import measure
    from featx.report.occasions import Evaluation, report_evaluation, verdict_again
    from featx.store.cache import Cache
    from featx.workflow.mistakes import explain_mistakes
    from featx.workflow.prepare import images_of_part
    from featx.workflow.rivals import Rival, find_rival

    _require_unused(folder, force)
    pipeline = pipeline_of(None, pipeline_file, settings, values)
    model = take(bundle, pipeline, "Measuring")
    if data is not None:
        pipeline = replace(pipeline, data=_described(data, pipeline.data, settings))
    elif pipeline_file is None and not any(one.strip().startswith("data.") for one in settings):
        pipeline = replace(pipeline, data=own_data(model, pipeline, _OWN))
    part = part or ("test" if data is None else "all")
    other = None if against is None else find_rival(against, model, Path(pipeline.report.runs))
    average = average_of(model, tta, pipeline_file, settings, values)
    others = None if other is None else average_of(other, tta, pipeline_file, settings, values)
    with Cache(pipeline.features.cache) as cache:
        images, notes, unread = images_of_part(pipeline, model, part, cache)
        rival = None if other is None else Rival.of(other, model, images, part, cache)
    notes, name = [*notes, *(rival.notes if rival else ())], part if data is None or part != "all" else images.name
    start = time.perf_counter()
    with Bars() as bars:
        judged, undecoded = judge(model, images, name, bars, average)
        rivalry = None if rival is None else rival.compare(model, judged, others, bars)
        notes += [*describe_unknown(judged, model), *(describe_choices(model.manifest, "val") if part == "val" else ())]
        for note in notes:
            say(note)
        seconds, context = time.perf_counter() - start, Context(command_line(), bars, say)
        explained = None if folder is None else explain_mistakes(folder, model, judged, pipeline, context)
    directory = directory or (None if data is not None or tta else _folder_of_report(model, pipeline))
    evaluation = Evaluation(model, model.shown, judged, [*unread, *undecoded], seconds)
    page = directory and report_evaluation(directory, evaluation, pipeline, context.command)
    result = EvaluationResult(model, part, measure(judged), evaluation.bad, page or None, rivalry, notes)
    verdict = verdict_again(model, judged, pipeline, context.command, notes)
    content = result.as_json() | ({} if explained is None else {"mistakes": explained.as_json()})
    text = "\n\n".join(filter(None, [_text(result), _mistakes_text(explained), verdict.lines]))
    emit(as_json, content | {"summary": verdict.as_json()}, text)


def _require_unused(folder: Path | None, force: bool) -> None:
    from featx.workflow.mistakes import require_unused

    if folder is not None:
        require_unused(folder, force)
    elif force:
        raise UsageError("--force goes with --mistakes: add --mistakes DIR.")


def _folder_of_report(model: Bundle, pipeline: Pipeline) -> Path | None:
    """Where the report of a bundle of a run is kept; None where there is to be none."""
    from featx.report.occasions import belongs_to_run
    from featx.runs.run import report_folder

    return report_folder(model.shown) if pipeline.report.html and belongs_to_run(model.shown) else None


def _mistakes_text(found: WrittenMistakes | None) -> str:
    return "" if found is None else f"mistakes: {found.page}\nas a table: {found.csv}"


def _described(data: str, options: DataOptions, settings: tuple[str, ...]) -> DataOptions:
    """The options of other images than those of the pipeline file, whose columns a folder does not have."""
    from dataclasses import replace

    from featx.dataset.columns import without_columns
    from featx.dataset.folders import expand, is_folder

    options = replace(options, path=data, relabel=None)
    typed = any(setting.strip().startswith("data.") for setting in settings)
    return options if typed or not is_folder(expand(data)) else without_columns(options)


def _text(found: EvaluationResult) -> str:
    from featx.metrics.table import shown_keys

    measures = found.measures
    names = ["images", *shown_keys(measures.target, brief=True)]
    classes = measures.per_class if measures.images else ()
    figures = {"images": measures.images, **measures.values}
    parts = [
        table(["part", *names], [(found.part, *figure_cells(figures, names))]),
        _class_text(measures),
        _confusion_text(measures) if 0 < len(classes) <= 20 else "",
        _interval_text(measures),
        _rival_text(found.against) if found.against else "",
        bad_images(found.bad),
        f"report: {found.report}" if found.report else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _class_text(measures: Measures) -> str:
    """The table of the classes, with the intervals of precision and recall; * where they can be too narrow."""
    from featx.metrics.digits import ends_text

    if not measures.images:
        return ""
    names, rows, starred = list(measures.per_class[0].values), [], False
    for one in measures.per_class:
        row: list[object] = [one.label, one.images]
        for name, cell in zip(names, figure_cells({"images": measures.images, **one.values}, names), strict=True):
            both, narrow = one.intervals.get(name), name in one.bounds.narrow
            starred |= narrow
            ends = "" if both is None else ends_text(both, measures.images, between=" - ")
            row.append(f"{cell} ({ends}){'*' if narrow else ''}" if ends else cell)
        rows.append(row)
    note = "* fewer than five errors: the 95 % interval may be too narrow" if starred else ""
    return "\n".join(filter(None, [table(["class", "images", *names], rows), note]))


def _interval_text(measures: Measures) -> str:
    """The 95 % intervals of what the table shows, and which of them are too narrow."""
    from featx.metrics.digits import ends_text, figure_text
    from featx.metrics.table import metric_label, shown_keys

    keys = [key for key in shown_keys(measures.target, brief=True) if measures.intervals.get(key)]
    bounds = [(key, measures.intervals[key] or (0, 0)) for key in keys]
    shown = ", ".join(f"{metric_label(key)} {ends_text(both, measures.images)}" for key, both in bounds)
    lines = [f"95 % intervals: {shown}"] if shown else []
    error = measures.values.get("expected_calibration_error")
    if error is not None and measures.error_by_chance is not None:
        lines.append(
            f"calibration error {figure_text(error, measures.images)}; a perfectly calibrated model would have "
            f"{ends_text(measures.error_by_chance, measures.images)}"
        )
    return "\n".join([*lines, *[f"Caution: {caution}" for caution in measures.cautions]])


def _rival_text(found: RivalResult) -> str:
    from featx.metrics.digits import ends_text, figure_text
    from featx.metrics.table import metric_label

    compared = found.comparison

    def text(names: str, values: tuple[float, float], interval: tuple[float, float]) -> str:
        first, second = (figure_text(value, compared.images) for value in values)
        difference = figure_text(values[0] - values[1], compared.images, "+")
        ends = ends_text(interval, compared.images, "+")
        return f"{names} {first} and {second}, difference {difference} ({ends}, 95 %)\n"

    head = f"against {found.bundle}: {counted(compared.images, 'image')}, "
    lines = head + text("accuracy", compared.accuracy, compared.interval)
    if compared.chosen is not None:
        lines += text(metric_label(compared.chosen.metric), compared.chosen.values, compared.chosen.interval)
    return lines + compared.verdict


def _confusion_text(measures: Measures) -> str:
    if measures.confusion is None:
        return ""
    labels, confusion = [one.label for one in measures.per_class], measures.confusion.tolist()
    if measures.target == "labels":
        cells = [
            (label, there, missed, wrong, no)
            for label, ((no, wrong), (missed, there)) in zip(labels, confusion, strict=True)
        ]
        return table(["class", "has it: given", "not given", "has it not: given", "not given"], cells)
    return "truth down, prediction across\n" + table(
        ["", *labels], [(label, *row) for label, row in zip(labels, confusion, strict=True)]
    )
