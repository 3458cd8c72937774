"""Comparisons in a report: where a model stands among all, and what was measured of it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from featx.io.commands import sentence_without_folders
from featx.io.jsontypes import Json


@dataclass(frozen=True)
class Place:
    """Where a model stands among all that are compared. layer : `layer@pooling`; stage : what was trained"""

    data: str
    backbone: str
    input_size: str
    layer: str
    clf: str
    stage: str

    def __str__(self) -> str:
        size = f" at {self.input_size}" if self.input_size else ""
        return f"{self.data}, {self.backbone}{size}, {self.layer}, {self.clf}, {self.stage}"


@dataclass(frozen=True)
class Row:
    """One model of the table; None where something is not known or not defined.

    place : the combination
    reason : why there is no model; None where there is one
    best : whether it is the best of its data set by `score`
    tie : whether its score is within noise of the best one; None if unknown
    behind_low, behind_high : 95 % interval of the best score less its own, as if on different images
    weights : of the backbone: bundled, imagenet, random, or a file's name
    metric, score, where : what models are chosen by, on val or in folds of train; score_images : on how many
    val_accuracy, test_accuracy, low, high : the share of images that are right, on test with its 95 % interval; of
        several labels per image, of images whose labels are all right
    test_images : on which that was measured
    gain : of a trained network: its test accuracy less that of the head it started from
    helped : of a trained network: whether its score is better than that of the head
    extract_seconds : of all images through the backbone, shared by all rows of that pass
    fit_seconds : of the head, or of the training that came after it
    features : per image; bytes : of the bundle; images_per_second : at prediction, from decoded images on
    share : of the network's multiply-adds up to the layer
    bundle, digest : where it is, and its identity
    """

    place: Place
    reason: str | None = None
    best: bool = False
    metric: str | None = None
    score: float | None = None
    where: str | None = None
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    test_images: int | None = None
    gain: float | None = None
    helped: bool | None = None
    extract_seconds: float | None = None
    fit_seconds: float | None = None
    features: int | None = None
    bytes: int | None = None
    images_per_second: float | None = None
    share: float | None = None
    bundle: str | None = None
    digest: str | None = None
    tie: bool | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    weights: str | None = None
    score_images: int | None = None

    def as_json(self) -> dict[str, Json]:
        """The row as a flat object, which is also a line of the CSV."""
        content = asdict(self)
        return {**content.pop("place"), **content}

    @property
    def note(self) -> str:
        """What is to be said of it in words."""
        tied = "within noise of the best" if self.reason is None and self.tie and not self.best else ""
        return "; ".join(filter(None, [tied, self.fault]))

    @property
    def fault(self) -> str:
        """What went wrong or was in vain."""
        if self.reason is not None:
            return f"failed: {self.reason}"
        return "fine-tuning did not help" if self.helped is False else ""

    def without_folders(self) -> Row:
        """The row for a file that others may get: its words name no folder of this machine."""
        return self if self.reason is None else replace(self, reason=sentence_without_folders(self.reason))

    def beside(self, folder: Path) -> Row:
        """The same, with its bundle as it lies from a folder."""
        row = self.without_folders()
        if row.bundle is None:
            return row
        return replace(row, bundle=Path(os.path.relpath(Path(row.bundle).resolve(), folder.resolve())).as_posix())
