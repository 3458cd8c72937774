"""Facts of a manifest that several sections of a card use."""

from __future__ import annotations

from typing import Literal

from featx.bundle.manifest import Manifest
from featx.bundle.novelty import FILE
from featx.bundle.records import ClassRecord
from featx.card.markdown import NOT_RECORDED, code_span
from featx.metrics.table import shown_keys

Origin = Literal["frozen", "tuned", "scratch"]


def origin_of(manifest: Manifest) -> Origin:
    """A frozen network with a head, one that was fine-tuned, or one that was trained from scratch."""
    return "scratch" if manifest.baseline else "tuned" if manifest.finetune else "frozen"


def network_of(manifest: Manifest) -> str:
    """The network's name, as code."""
    return code_span(manifest.backbone.name or NOT_RECORDED)


def source_of(manifest: Manifest) -> str:
    """The name of the folder or file that its images came from, as code."""
    return code_span(manifest.data.source or NOT_RECORDED)


def keeps_features(manifest: Manifest) -> bool:
    """Whether it keeps features of training images, by which unknown images are found."""
    return FILE in manifest.files


def metric_names(manifest: Manifest) -> list[str]:
    """The metrics that such a bundle can have."""
    return shown_keys(manifest.target, classes=len(manifest.classes))


def measured_classes(manifest: Manifest) -> tuple[str, tuple[ClassRecord, ...]]:
    """The part whose classes are shown, test where it has images, and what was measured on each of them."""
    part = "test" if manifest.per_class.get("test") else "val"
    return part, manifest.per_class.get(part) or ()
