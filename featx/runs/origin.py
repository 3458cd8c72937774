"""The origin of a model: its images, date, libraries and command."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from featx.backbones.licenses import find_license
from featx.bundle.fields import read_record
from featx.bundle.manifest import Manifest
from featx.bundle.records import AugmentRecord, BackboneRecord, DataRecord, KeyRecord, SplitRecord
from featx.dataset import SPLITS
from featx.extraction.flow import Extraction
from featx.extraction.sample import Sample
from featx.images.augment import Augmenter
from featx.io.urls import plain
from featx.io.versions import installed_versions

_LIBRARIES = ("featx", "tensorflow", "keras", "openvino", "scikit-learn", "numpy", "pillow")
_FIRST_ALGORITHM = "0.1.0"  # in the place of the number 1, so that what featx 0.1.0 has made is up to date
_SCHEDULES = {"piecewise": ", piecewise 2"}  # a rate holds up to its boundary, that epoch among them


@dataclass(frozen=True)
class Intake:
    """What a model was made of, and what was left aside.

    sample : one row per different image
    bad : {path, reason} of images that could not be read; duplicates : images that are copies of others
    timings : seconds of what was done before the model was fitted, by stage
    """

    sample: Sample
    bad: Sequence[Mapping[str, str]]
    duplicates: int
    timings: Mapping[str, float]

    @classmethod
    def of(cls, extraction: Extraction, sample: Sample) -> Intake:
        """What comes with the features of a sample."""
        stages = {f"extract: {stage}": seconds for stage, seconds in asdict(extraction.stages).items()}
        return cls(sample, extraction.bad, extraction.duplicates, {"extract": extraction.seconds, **stages})

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Part -> class -> images, of the parts that have any."""
        return count_classes(self.sample.images.classes, self.sample.y, self.sample.split)

    def split_record(self) -> SplitRecord:
        """Which images were in which part."""
        sample, images = self.sample, self.sample.images
        declared, grouped = images.declared is not None, images.groups is not None
        counts = sample.counts(), self.class_counts()
        return SplitRecord(sample.digest, *counts, declared, grouped, images.grouped_by)

    def data_record(self) -> DataRecord:
        """The images, and what was left aside."""
        images = self.sample.images
        return DataRecord(Path(plain(images.source)).name, len(images), len(self.bad), self.duplicates)


@dataclass(frozen=True)
class Provenance:
    """How a model came to be.

    command : that made it; fingerprint : of all that it depends on; seconds : that it took
    """

    command: str
    fingerprint: str
    seconds: float

    def stamp(self, manifest: Manifest) -> Manifest:
        """The manifest with this, the time, and the versions of the libraries."""
        return replace(
            manifest,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            command=self.command,
            fingerprint=self.fingerprint,
            seconds=round(self.seconds, 3),
            versions={"python": platform.python_version()} | installed_versions(*_LIBRARIES),
        )


def algorithm(number: int, schedule: str = "constant") -> str:
    """How an algorithm is named in a fingerprint, by its number from 1 on and by a schedule that has changed since.

    Each stage has a number of its own, to be raised by 1 when the same options on the same images begin to give another
    model: everything of that stage is then made anew. Nothing else raises it, least of all another version of featx.
    """
    return (_FIRST_ALGORITHM if number == 1 else str(number)) + _SCHEDULES.get(schedule, "")


def weighed_mark(class_weight: str, positive_weight: float) -> dict[str, str]:
    """What a fingerprint holds beside the algorithm's number where classes are weighed.

    Only there equal options give another confidence since it is corrected for the weights.
    """
    weighed = class_weight != "none" or positive_weight != 1
    return {"confidence": "corrected for weights"} if weighed else {}


def backbone_record(extraction: Extraction) -> BackboneRecord:
    """The frozen network that gave the features."""
    spec, key = extraction.spec, extraction.store.key
    terms = find_license(spec)
    return BackboneRecord(
        input_size=spec.input_size,
        name=spec.label,
        weights=Path(spec.weights).name,
        weights_seed=spec.weights_seed,
        preprocessing=spec.preprocessing,
        license=terms.name,
        license_source=terms.source,
        resize=key.resize,
        precision=key.precision,
        imports=spec.imports,
        source=spec.source,
        plugin="" if spec.plugin is None else spec.plugin.title,
    )


def augment_record(augmenter: Augmenter, views: int | None = None) -> AugmentRecord:
    """How images were altered; views : of each image, where they were cached."""
    return AugmentRecord(asdict(augmenter.policy), augmenter.seed, views)


def key_record(extraction: Extraction) -> KeyRecord:
    """The key of the features."""
    return read_record(KeyRecord, extraction.store.key.as_json())


def count_classes(classes: Sequence[str], y: np.ndarray, split: np.ndarray) -> dict[str, dict[str, int]]:
    """Part -> class -> images, of the parts that have any.

    y : int64 (n,), positions in `classes`, or bool (n, classes); split : uint8 (n,)
    """
    counts = {}
    for code, part in enumerate(SPLITS):
        labels = y[split == code]
        if len(labels):
            sizes = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
            counts[part] = dict(zip(classes, sizes.tolist(), strict=True))
    return counts
