"""The table of metrics: name, direction, domain and formula of each.

Everything that measures, chooses, compares or shows by a metric reads it here. A metric is one row; one that `--metric`
offers is named in `featx.config.Metric` as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from featx.metrics import formulas, shares
from featx.metrics.intervals import LabelDraws, Resampling, draw_labels, draw_losses, mean_of_images
from featx.metrics.predictions import Target
from featx.metrics.specs import MetricForm, MetricSpec

METRICS: dict[str, MetricSpec] = {  # in the order in which they are shown and written
    "accuracy": MetricSpec(
        "accuracy",
        (
            MetricForm(
                "class",
                "accuracy",
                "accuracy",
                "share of images whose most likely class is correct",
                formulas.accuracy,
                shares=shares.right_images,
            ),
            MetricForm(
                "labels",
                "exact_match",
                "exact match",
                "share of images whose labels are all correct",
                formulas.accuracy,
                shares=shares.right_images,
            ),
        ),
        choosable=True,
        note="all labels of an image right",
    ),
    "balanced_accuracy": MetricSpec(
        "balanced accuracy",
        (
            MetricForm(
                "class",
                "balanced_accuracy",
                "balanced accuracy",
                "mean recall of the classes, so that rare classes count as much as frequent ones",
                formulas.balanced_accuracy,
                shares=shares.recalls,
            ),
        ),
        choosable=True,
    ),
    "hamming_loss": MetricSpec(
        "hamming loss",
        (
            MetricForm(
                "labels",
                "hamming_loss",
                "hamming loss",
                "share of wrong pairs of image and label; lower is better",
                formulas.hamming_loss,
                shown="page",
            ),
        ),
        lower_is_better=True,
    ),
    "micro_f1": MetricSpec(
        "micro F1",
        (
            MetricForm(
                "labels",
                "f1_micro",
                "micro F1",
                "F1 of all pairs of image and label",
                formulas.micro_f1,
                shares=shares.overlap,
            ),
        ),
    ),
    "macro_f1": MetricSpec(
        "macro F1",
        (
            MetricForm(
                "class",
                "macro_f1",
                "macro F1",
                "mean of the classes' F1, which is the harmonic mean of precision and recall",
                formulas.macro_f1,
                shares=shares.overlaps,
            ),
            MetricForm(
                "labels",
                "f1_macro",
                "macro F1",
                "mean of the labels' F1",
                formulas.macro_f1,
                shares=shares.overlaps,
            ),
        ),
        choosable=True,
    ),
    "samples_f1": MetricSpec(
        "F1 by image",
        (
            MetricForm(
                "labels",
                "f1_samples",
                "F1 by image",
                "mean F1 of each image's labels",
                formulas.samples_f1,
                Resampling(draw_labels, LabelDraws.samples_f1),
            ),
        ),
    ),
    "log_loss": MetricSpec(
        "log loss",
        (
            MetricForm(
                "class",
                "log_loss",
                "log loss",
                "mean negative log of the probability given to the true class; lower is better",
                formulas.log_loss,
                Resampling(draw_losses, mean_of_images),
            ),
            MetricForm(
                "labels",
                "log_loss",
                "log loss",
                "mean negative log of the probability given to the true class; lower is better",
                formulas.log_loss,
            ),
        ),
        lower_is_better=True,
        choosable=True,
        temperate=True,
    ),
    "top5_accuracy": MetricSpec(
        "top-5 accuracy",
        (
            MetricForm(
                "class",
                "top5_accuracy",
                "top-5 accuracy",
                "share of images whose class is among the five most likely",
                formulas.top5_accuracy,
                shares=shares.top_images,
                least_classes=6,
            ),
        ),
    ),
    "roc_auc": MetricSpec(
        "ROC AUC",
        (
            MetricForm(
                "class",
                "roc_auc_macro",
                "macro ROC AUC",
                "mean area under the ROC curves of each class against the rest",
                formulas.macro_roc_auc,
                shown="page",
            ),
            MetricForm(
                "labels",
                "roc_auc_macro",
                "macro ROC AUC",
                "mean area under the ROC curves of each class against the rest",
                formulas.macro_roc_auc,
                Resampling(draw_labels, LabelDraws.macro_roc_auc),
            ),
        ),
        choosable=True,
    ),
    "average_precision": MetricSpec(
        "average precision",
        (
            MetricForm(
                "class",
                "average_precision_macro",
                "mean average precision",
                "mean area under the precision-recall curves of the classes",
                formulas.macro_average_precision,
                shown="page",
            ),
            MetricForm(
                "labels",
                "average_precision_macro",
                "mean average precision",
                "mean area under the precision-recall curves of the classes",
                formulas.macro_average_precision,
                Resampling(draw_labels, LabelDraws.macro_average_precision),
            ),
        ),
        choosable=True,
    ),
    "micro_roc_auc": MetricSpec(
        "micro ROC AUC",
        (
            MetricForm(
                "labels",
                "roc_auc_micro",
                "micro ROC AUC",
                "area under the ROC curve of all pairs of image and label",
                formulas.micro_roc_auc,
                shown="nowhere",
            ),
        ),
    ),
    "micro_average_precision": MetricSpec(
        "micro average precision",
        (
            MetricForm(
                "labels",
                "average_precision_micro",
                "micro average precision",
                "area under the precision-recall curve of all pairs of image and label",
                formulas.micro_average_precision,
                shown="nowhere",
            ),
        ),
    ),
    "calibration_error": MetricSpec(
        "calibration error",
        tuple(
            MetricForm(
                target,
                "expected_calibration_error",
                "calibration error",
                "expected difference between confidence and accuracy, over 15 bins; never near 0 with few images",
                formulas.calibration_error,
                shown="page",
            )
            for target in ("class", "labels")
        ),
        lower_is_better=True,
    ),
}

DEFAULTS: dict[Target, str] = {"class": "accuracy", "labels": "average_precision"}
"""What `--metric auto` stands for"""
_OF_CLASSES = {"f1": "F1"}  # names of what is measured class by class


def forms_of(target: Target) -> Iterator[MetricForm]:
    """Every metric of a kind of target, in the order of the table."""
    return (form for spec in METRICS.values() for form in spec.forms if form.target == target)


def resamplings_of(target: Target) -> dict[str, Resampling]:
    """How each metric that has an interval is resampled, by key."""
    return {form.key: form.resampling for form in forms_of(target) if form.resampling is not None}


def metric_form(metric: str, target: Target) -> MetricForm | None:
    """The metric that `--metric` names, None where it is not defined for this kind of target."""
    return METRICS[metric].form(target) if metric in METRICS else None


def metric_key(metric: str, target: Target) -> str:
    """The key in JSON of a metric that is defined for this kind of target."""
    form = metric_form(metric, target)
    return metric if form is None else form.key


def target_of_metrics(metrics: Mapping[str, object]) -> Target:
    """The kind of target that figures are of, by their keys, as JSON and bundles have them."""
    return "labels" if "exact_match" in metrics else "class"


def shown_keys(target: Target, *, brief: bool = False, classes: int | None = None) -> list[str]:
    """The keys of what people see of a kind of target: in reports and cards, or (`brief`) in tables of the terminal.

    classes : that there are, where metrics are to be left out that are not defined for so few
    """
    return [
        form.key
        for form in forms_of(target)
        if form.shown in (("everywhere",) if brief else ("everywhere", "page"))
        and (classes is None or classes >= form.least_classes)
    ]


def metric_of(metrics: Mapping[str, object], metric: str) -> float | None:
    """The value of the option `--metric` among figures as JSON and bundles have them."""
    value = metrics[metric_key(metric, target_of_metrics(metrics))]
    return None if value is None else float(value)  # type: ignore[arg-type]


def metric_label(name: str) -> str:
    """A metric's name as people read it; `name` is that of `--metric`, a key, or that of a column of classes."""
    if name in METRICS:
        return METRICS[name].label
    labels = {form.key: form.label for spec in METRICS.values() for form in spec.forms}
    return labels.get(name) or _OF_CLASSES.get(name) or name.replace("_", " ")


def metric_meaning(key: str) -> str:
    """What the metric of a key is, in words."""
    return next(form.meaning for spec in METRICS.values() for form in spec.forms if form.key == key)


def is_lower_better(name: str) -> bool:
    """Whether less is better of a metric, by its name or its key."""
    if name in METRICS:
        return METRICS[name].lower_is_better
    return any(spec.lower_is_better for spec in METRICS.values() if any(form.key == name for form in spec.forms))


def signed_score(metric: str, value: float) -> float:
    """A value of which more is better, whatever the metric."""
    return -value if is_lower_better(metric) else value


def is_better(metric: str, one: float, other: float) -> bool:
    """Whether one value of a metric is better than another."""
    return signed_score(metric, one) > signed_score(metric, other)
