"""The sections of a model card that consist of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from featx.bundle.choices import choices_of, describe_choices
from featx.bundle.manifest import Manifest
from featx.bundle.records import ClassRecord, DataRecord, MetricsRecord, SplitRecord
from featx.card.facts import measured_classes, metric_names, origin_of, source_of
from featx.card.markdown import NOT_MEASURED, NOT_RECORDED, bullets, escape, figure, listed, one_line, record, table
from featx.dataset import SPLITS
from featx.io.counting import counted, counted_of
from featx.metrics.digits import ends_text, figure_text
from featx.metrics.shares import LEVEL
from featx.metrics.table import metric_key, metric_label, metric_meaning

_OF_CLASSES = ("precision", "recall", "f1", "roc_auc", "average_precision")
_WHERE = {"val": " on val", "cv": " on folds of train"}
_FEW = 20  # test images of a class; with so many, one mistake more or less moves its recall by 0.05
_UNEVEN = 10  # times as many training images of one class as of another
_MOST_ROWS = 50  # of the table of classes
_MOST_WEAKEST = 5


def describe_metrics(manifest: Manifest) -> str:
    """What the metrics mean, and how their intervals were made."""
    metric, where = metric_label(one_line(manifest.score.metric)), _WHERE.get(manifest.score.where, "")
    if manifest.fold_score is not None and origin_of(manifest) == "frozen":
        where = f"{_WHERE['cv']} where all of them were tried there, else on val"
    return (
        f"Models of one run are compared by {metric}{where}. Intervals are of 95 %, Wilson's for shares and means of "
        "shares, by the bootstrap for the others: how much another set of so many images may differ, not another "
        "training.\n\n" + bullets(f"{metric_label(name)}: {metric_meaning(name)}" for name in metric_names(manifest))
    )


def describe_data(manifest: Manifest) -> str:
    """The images: how many in which part, how they were divided, what was left out."""
    data, split = manifest.data, manifest.split
    counts = split.images
    return "\n\n".join(
        [
            f"Source: {source_of(manifest)}, {_images(data)}.",
            table(("part", "images"), [(part, record(counts.get(part))) for part in SPLITS], numbers_from=1),
            _use_of_parts(manifest),
            _division(split),
            _left_out(data, sum(counts.values())),
        ]
    )


def _use_of_parts(manifest: Manifest) -> str:
    """Which part did what."""
    chosen = {one.by for one in choices_of(manifest)}
    by = " and ".join(words for where, words in (("cv", "folds of train"), ("val", "val")) if where in chosen)
    texts = ["It was fitted on train.", f"Choices were made by {by}." if by else "No part was used to choose anything."]
    calibrated = _calibrating_part(manifest)
    texts.append(f"Its confidence was calibrated on {calibrated}." if calibrated else "")
    texts.append("Test had no part in it." if manifest.split.images.get("test") else "There was no test part.")
    return " ".join(filter(None, texts))


def _calibrating_part(manifest: Manifest) -> str:
    """The part that the confidence was fitted on; empty where it was on none."""
    tried = [one for some in manifest.search.values() for one in some]
    if not manifest.calibrated_on:
        return ""
    return "folds of train" if any(one.where == "cv" for one in tried) else "val"


def _division(split: SplitRecord) -> str:
    if split.declared is None:
        return f"How the parts were made is {NOT_RECORDED}."
    if split.declared:
        return "The data declares its parts. What it leaves open was drawn by featx, stratified by class."
    drawn = "The parts were drawn by featx, stratified by class; files of the same bytes are in one part"
    return f"{drawn}{_together(split)}."


def _together(split: SplitRecord) -> str:
    if not split.grouped:
        return ""
    return ", and so are images of one group" + (f" ({escape(split.grouped_by)})" if split.grouped_by else "")


def _images(data: DataRecord) -> str:
    return f"number of images {NOT_RECORDED}" if data.images is None else counted(data.images, "image")


def _left_out(data: DataRecord, placed: int) -> str:
    images, bad, duplicates = data.images, data.bad, data.duplicates
    if images is None or bad is None or duplicates is None:
        copies = f"Copies of other images: {NOT_RECORDED}."
        return f"Images that could not be read and were left out: {record(bad)}. {copies}"
    return (
        f"Left out: {bad:,} that could not be read, {counted(duplicates, 'copy', 'copies')} of other images (which "
        f"count once), and {images - bad - duplicates - placed:,} for another reason: no label, the same image under "
        "two labels, or a limit on training images."
    )


def describe_results(manifest: Manifest) -> str:
    """The metrics with their intervals, every class, the weakest of them."""
    parts = ("val", "test")
    measured = [manifest.metrics_on(part) for part in parts]
    counts = [("images", *(figure(one.images) for one in measured))]
    if any(one.groups is not None for one in measured):
        counts.append(("groups", *(NOT_RECORDED if one.groups is None else figure(one.groups) for one in measured)))
    rows = [(metric_label(name), *(_with_interval(one, name) for one in measured)) for name in metric_names(manifest)]
    return "\n\n".join(
        [
            table(("", *parts), [*counts, *rows], numbers_from=1),
            *([escape(manifest.verdict)] if manifest.verdict else []),
            *(f"Note: {escape(note)}" for note in manifest.notes),
            *_classes(manifest),
            f"Two factors at once, such as a class in one kind of light: {NOT_MEASURED}.",
        ]
    )


def _with_interval(measured: MetricsRecord, name: str) -> str:
    value, interval, meaning = measured.get(name), (measured.intervals or {}).get(name), ""
    if name == "expected_calibration_error":
        interval, meaning = measured.calibration_error_by_chance, "by chance "
    shown = figure(value, measured.images)
    if value is None or not interval:
        return shown
    return f"{shown} ({meaning}{ends_text(interval, measured.images)})"


def _classes(manifest: Manifest) -> list[str]:
    """The table of classes and which are the weakest, as paragraphs."""
    part, classes = measured_classes(manifest)
    if not classes:
        return [f"By class: {NOT_RECORDED}. `featx evaluate` measures every class."]
    shown, which, measured = list(classes), "Every class", manifest.metrics_on(part).images
    if len(classes) > _MOST_ROWS:
        shown, which = (
            sorted(classes, key=_f1)[:_MOST_ROWS],
            f"The weakest {counted_of(_MOST_ROWS, len(classes), 'class', 'classes')}",
        )
    weakest = ", ".join(
        f"{escape(row.label)} (F1 {figure_text(_f1(row), measured)}, {counted(row.images, 'image')})"
        for row in _weakest(classes)
    )
    return [
        f"{which}, on {part}:",
        _class_table(manifest, part, shown),
        f"**Weakest on {part}:** {weakest}." if weakest else f"No class is weaker than another on {part}.",
    ]


def _class_table(manifest: Manifest, part: str, rows: Sequence[ClassRecord]) -> str:
    trained = manifest.split.classes.get("train") or {}
    thresholds = dict(zip(manifest.classes, manifest.thresholds or (), strict=False))
    names = [name for name in _OF_CLASSES if name in rows[0].values]
    headers = ["class", "train images", f"{part} images", *map(metric_label, names)]
    cells = [
        [
            escape(row.label),
            figure(trained.get(row.label, 0)) if trained else NOT_RECORDED,
            figure(row.images),
            *(figure(row.values.get(name), manifest.metrics_on(part).images) for name in names),
        ]
        for row in rows
    ]
    if thresholds:
        headers.append("threshold")
        cells = [[*line, figure(thresholds.get(row.label))] for line, row in zip(cells, rows, strict=True)]
    return table(headers, cells, numbers_from=1)


def _weakest(classes: Sequence[ClassRecord]) -> list[ClassRecord]:
    """The classes of the lowest F1 below the mean, the lowest first."""
    known = [row for row in classes if row.values.get("f1") is not None]
    mean = sum(map(_f1, known)) / max(len(known), 1)
    return sorted((row for row in known if _f1(row) < mean), key=_f1)[:_MOST_WEAKEST]


def _f1(row: ClassRecord) -> float:
    """What classes are sorted by; those that were not measured come first."""
    value = row.values.get("f1")
    return -1.0 if value is None else value


def describe_caveats(manifest: Manifest) -> str:
    """What the numbers do not show."""
    return bullets(
        [
            *_caveats_of_parts(manifest),
            *_caveats_of_classes(manifest),
            *_caveats_of_balance(manifest),
            "It was not tried on other data.",
        ]
    )


def _caveats_of_parts(manifest: Manifest) -> Iterable[str]:
    val, test = manifest.metrics_on("val"), manifest.metrics_on("test")
    if not test.images:
        yield "There was no test part: its accuracy on images that had no part in making it was not measured."
    if test.images and test.get(metric_key("accuracy", manifest.target)) == 1:
        # so many errors would have gone unseen in 5 % of such test sets: (1 - rate) ** images = 0.05
        rate = 1 - (1 - LEVEL) ** (1 / test.images)
        yield (
            f"No test image was wrong. Of {counted(test.images, 'image')}, an error rate of up to {rate:.1%} can go "
            "unseen (95 %)."
        )
    if manifest.calibrated_on == 0:
        yield "No image could be left out of the fit, so its confidence was calibrated on none and is unmeasured."
    if val.images and _calibrating_part(manifest) == "val":
        yield "Its confidence was calibrated on val, so its figures on val are too good."
    yield from describe_choices(manifest)
    yield from (test if test.images else val).cautions
    missing = [metric_label(name) for name in metric_names(manifest) if test.get(name) is None]
    if test.images and missing:
        yield f"Not measured on test: {', '.join(missing)}."


def _caveats_of_classes(manifest: Manifest) -> Iterable[str]:
    part, classes = measured_classes(manifest)
    few = [f"{escape(row.label)} ({row.images:,})" for row in classes if row.images < _FEW]
    if few:
        yield f"Classes with fewer than {_FEW} {part} images, whose figures say little: {listed(few)}."
    strange = [escape(row.label) for row in classes if row.label not in manifest.classes]
    if strange:
        yield f"There are images of classes that it does not know, and is always wrong about: {listed(strange)}."


def _caveats_of_balance(manifest: Manifest) -> Iterable[str]:
    trained = {name: count for name, count in manifest.split.classes.get("train", {}).items() if count}
    if trained and max(trained.values()) >= _UNEVEN * min(trained.values()):
        rare, frequent = min(trained, key=trained.__getitem__), max(trained, key=trained.__getitem__)
        yield (
            f"The training images are uneven: {trained[rare]:,} of {escape(rare)}, {trained[frequent]:,} of "
            f"{escape(frequent)}."
        )
    if manifest.multilabel:
        yield "Labels were measured one by one and all together; which labels are mistaken for which was not."
