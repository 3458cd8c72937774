"""What `bundle.json` tells, of any version and kind of bundle; what it does not tell is empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from featx.metrics.table import shown_keys

Kind = Literal["frozen", "tuned", "scratch"]


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
    return shown_keys("labels" if is_multilabel(about) else "class", classes=len(about["classes"]))


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
