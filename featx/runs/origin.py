"""Where a model comes from: of which images it was made, when, with what, and by which command."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones import Output
from featx.dataset import SPLITS
from featx.extraction.flow import Extraction
from featx.extraction.sample import Sample
from featx.io.urls import plain
from featx.io.versions import installed_versions

_LIBRARIES = ("featx", "tensorflow", "keras", "openvino", "scikit-learn", "numpy", "pillow")
_FIRST_ALGORITHM = "0.1.0"  # in the place of the number 1, so that what featx 0.1.0 has made is up to date


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


@dataclass(frozen=True)
class Provenance:
    """How a model came to be.

    command : that made it; fingerprint : of all that it depends on; seconds : that it took
    """

    command: str
    fingerprint: str
    seconds: float


def algorithm(number: int) -> str:
    """How an algorithm is named in a fingerprint, by its number from 1 on.

    Each stage has a number of its own, to be raised by 1 when the same options on the same images begin to give another
    model: everything of that stage is then made anew. Nothing else raises it, least of all another version of featx.
    """
    return _FIRST_ALGORITHM if number == 1 else str(number)


def describe_model(
    extraction: Extraction, outputs: tuple[Output, ...], intake: Intake, classes: Sequence[str], provenance: Provenance
) -> dict[str, Any]:
    """The part of `bundle.json` about the origin of a model on extracted features."""
    key = extraction.store.key
    return describe_intake(intake, classes, provenance) | {
        "outputs": [output.name for output in outputs],
        "backbone": {
            **asdict(extraction.spec),
            "input_size": list(extraction.spec.input_size),
            "name": extraction.spec.label,
            "weights": Path(extraction.spec.weights).name,
            "license": extraction.spec.weights_license,
            "resize": key.resize,
            "precision": key.precision,
        },
        "key": key.as_json(),
    }


def describe_intake(intake: Intake, classes: Sequence[str], provenance: Provenance) -> dict[str, Any]:
    """The part of `bundle.json` about when, of what and with what a model was made."""
    sample, images = intake.sample, intake.sample.images
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "classes": list(classes),
        "split": {
            "digest": sample.digest,
            "images": sample.counts(),
            "classes": intake.class_counts(),
            "declared": images.declared is not None,
            "grouped": images.groups is not None,
        },
        "data": {
            "source": Path(plain(images.source)).name,
            "images": len(images),
            "bad": len(intake.bad),
            "duplicates": intake.duplicates,
        },
        "command": provenance.command,
        "fingerprint": provenance.fingerprint,
        "seconds": round(provenance.seconds, 3),
        "versions": {"python": platform.python_version()} | installed_versions(*_LIBRARIES),
    }


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
