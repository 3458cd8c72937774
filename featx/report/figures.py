"""The list of figures and image grids of a report, with their alternative texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from featx.bundle.records import CandidateRecord
from featx.heads.table import HEADS
from featx.images.grid import GridImage
from featx.images.resize import ResizeRule
from featx.io.counting import agreeing, counted_of
from featx.metrics.digits import figure_text
from featx.metrics.predictions import LabelledPredictions
from featx.metrics.table import metric_label
from featx.report import gallery, plots
from featx.report.content import Content
from featx.report.figure_folder import FigureFolder, Plot
from featx.report.plot_style import style
from featx.report.scores import Scores

STRENGTHS = "strengths-"
_PARAMETERS = sorted({kind.strength_name for kind in HEADS.values() if kind.strength_name})
NAMES = (
    *("sizes", "metrics", "confusion", "roc", "precision-recall", "reliability", "learning", "mistakes", "hits"),
    *(STRENGTHS + name for name in _PARAMETERS),
)


def draw_figures(
    directory: Path, content: Content, judged: LabelledPredictions | None, scores: Sequence[Scores]
) -> dict[str, Plot]:
    """Draw what there is to draw, by name; figures of an earlier report go.

    judged : the part that is shown in detail, the last of `scores`
    """
    folder = FigureFolder(directory, content.plots)
    with style(_names(content, scores)):
        if any(sizes for sizes in content.counts.values()):
            folder.draw("sizes", plots.draw_sizes(content.counts), _sizes_alt(content.counts), wide=True)
        if scores:
            folder.draw("metrics", plots.draw_metrics(scores), "Metrics of each part with 95 % intervals.")
        if judged is not None:
            levels = ResizeRule.parse(content.manifest.backbone.resize).levels
            _draw_part(folder, judged, scores[-1], levels)
        if content.history:
            figure = plots.draw_learning(content.history, kept_epoch(content))
            folder.draw("learning", figure, f"{' and '.join(content.history).replace('_', ' ')} by epoch.")
        lines, metric = strength_lines(content.manifest.search)
        for parameter, some in lines.items():
            figure = plots.draw_strengths(some, parameter, metric, content.manifest.calibrated_on)
            folder.draw(STRENGTHS + parameter, figure, f"{metric_label(metric)} against {parameter}.")
    folder.remove_others(NAMES)  # of an earlier report
    return folder.plots


def _draw_part(folder: FigureFolder, judged: LabelledPredictions, scores: Scores, levels: str) -> None:
    names, part = judged.classes, scores.part
    if scores.confusion is not None:
        right, images = int(scores.confusion.trace()), scores.images
        alt = (
            f"Confusion matrix of {part}: {counted_of(right, images, 'image')} {agreeing(right, 'is', 'are')} on the "
            "diagonal."
        )
        folder.draw("confusion", plots.draw_confusion(scores.confusion, names), alt, wide=True)
    if scores.roc is not None:
        alt = f"ROC curves of {part}: macro average AUC {figure_text(scores.roc.macro.area, scores.images)}."
        folder.draw("roc", plots.draw_roc(scores.roc, scores.images), alt)
    if scores.precision_recall is not None:
        area = figure_text(scores.precision_recall.macro.area, scores.images)
        alt = f"Precision-recall curves of {part}: mean average precision {area}."
        folder.draw("precision-recall", plots.draw_precision_recall(scores.precision_recall, scores.images), alt)
    error = scores.reliability.expected_calibration_error or 0.0
    alt = f"Accuracy by confidence on {part}: expected calibration error {figure_text(error, scores.images)}."
    folder.draw("reliability", plots.draw_reliability(scores.reliability, multilabel=judged.target == "labels"), alt)
    if judged.target == "labels":
        _draw_grid(folder, "mistakes", gallery.worst_images(judged), levels)
    else:
        _draw_grid(folder, "mistakes", gallery.confident_mistakes(judged), levels)
        _draw_grid(folder, "hits", gallery.doubtful_hits(judged), levels)


def _draw_grid(folder: FigureFolder, name: str, pictures: Sequence[GridImage], levels: str) -> None:
    if pictures:
        folder.grid(name, [replace(one, levels=levels) for one in pictures])


def _names(content: Content, scores: Sequence[Scores]) -> set[str]:
    """All classes that the figures may name."""
    counted = {name for sizes in content.counts.values() for name in sizes}
    return counted | {str(row["label"]) for one in scores for row in one.classes}


def _sizes_alt(counts: Mapping[str, Mapping[str, int]]) -> str:
    return (
        "Images per class: " + ", ".join(f"{sum(sizes.values()):,} in {part}" for part, sizes in counts.items()) + "."
    )


def kept_epoch(content: Content) -> int | None:
    """The epoch whose weights were kept, from 1; None where nothing says so."""
    training = content.manifest.finetune or content.manifest.baseline
    if training is not None and training.best_epoch is not None:
        return training.best_epoch
    losses = list((content.history or {}).get("val_loss") or [])
    return 1 + losses.index(min(losses)) if losses else None


def strength_lines(
    search: Mapping[str, Sequence[CandidateRecord]],
) -> tuple[dict[str, dict[str, list[tuple[float, float]]]], str]:
    """Candidates as lines of (strength, score): by parameter, then by head and layer; and the metric they have.

    search : output -> candidates. A single strength is no line.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    metric = ""
    for output, candidates in search.items():
        for one in candidates:
            for name in _PARAMETERS:
                strength = one.params.get(name)
                if isinstance(strength, int | float) and one.score is not None:
                    line = found.setdefault(name, {}).setdefault(f"{head_name(one)} on {output}", [])
                    line.append((float(strength), float(one.score)))
                    metric = one.metric
    lines = {name: {line: points for line, points in some.items() if len(points) > 1} for name, some in found.items()}
    return {name: some for name, some in sorted(lines.items()) if some}, metric


def head_name(candidate: CandidateRecord) -> str:
    """`svm`, and `svm (rbf)` for the one with a radial kernel, which has no iterations to limit."""
    radial = candidate.clf == "svm" and "max_iter" not in candidate.params
    return f"{candidate.clf} (rbf)" if radial else candidate.clf
