"""What `bundle.json` tells, of any version and kind of bundle; what it does not tell is empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Kind = Literal["frozen", "tuned", "scratch"]

_METRICS = (
    *("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "top5_accuracy", "roc_auc_macro"),
    *("average_precision_macro", "expected_calibration_error"),
)
_LABEL_METRICS = (
    *("exact_match", "f1_samples", "f1_micro", "f1_macro", "hamming_loss", "log_loss", "roc_auc_macro"),
    *("average_precision_macro", "expected_calibration_error"),
)


def kind_of(about: Mapping[str, Any]) -> Kind:
    """A frozen network with a head, one that was fine-tuned, or one that was trained from scratch."""
    return "scratch" if about.get("baseline") else "tuned" if about.get("finetune") else "frozen"


def is_multilabel(about: Mapping[str, Any]) -> bool:
    """Whether it gives an image several labels."""
    return bool(about.get("multilabel"))


def backbone_of(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """The network."""
    return about.get("backbone") or {}


def metrics_on(about: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """What was measured on a part; empty where it has no images."""
    found = (about.get("metrics") or {}).get(part) or {}
    return found if found.get("images") else {}


def metric_names(about: Mapping[str, Any]) -> list[str]:
    """The metrics that such a bundle can have."""
    if is_multilabel(about):
        return list(_LABEL_METRICS)
    return [name for name in _METRICS if name != "top5_accuracy" or len(about["classes"]) > 5]


def judged_classes(about: Mapping[str, Any]) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """The part whose classes are told, test where it has images, and a row for each class."""
    found = about.get("per_class") or {}
    part = "test" if found.get("test") else "val"
    return part, found.get(part) or ()


def train_counts(about: Mapping[str, Any]) -> Mapping[str, int]:
    """Training images of each class."""
    return ((about.get("split") or {}).get("classes") or {}).get("train") or {}


def source_of(about: Mapping[str, Any]) -> str | None:
    """The name of the folder or file that its images came from."""
    return (about.get("data") or {}).get("source")
