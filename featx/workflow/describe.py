"""The parts of `bundle.json` that tell where a model comes from."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featx.backbones import Output
from featx.extraction.flow import Extraction
from featx.extraction.sample import Sample
from featx.io.urls import plain
from featx.io.versions import installed_versions
from featx.report.occasions import count_classes

_LIBRARIES = ("featx", "tensorflow", "keras", "openvino", "scikit-learn", "numpy", "pillow")


def describe_model(
    extraction: Extraction, outputs: tuple[Output, ...], sample: Sample, classes: list[str], command: str
) -> dict[str, Any]:
    """The part of `bundle.json` that tells where a model comes from."""
    key = extraction.store.key
    return describe_sample(sample, len(extraction.bad), extraction.duplicates, classes, command) | {
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


def describe_sample(sample: Sample, bad: int, duplicates: int, classes: list[str], command: str) -> dict[str, Any]:
    """The part of `bundle.json` that tells when, on what and with what a model was made.

    bad : images that could not be read; duplicates : images that are copies of others
    """
    images = sample.images
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "classes": classes,
        "split": {
            "digest": sample.digest,
            "images": sample.counts(),
            "classes": count_classes(images.classes, sample.y, sample.split),
            "declared": images.declared is not None,
            "grouped": images.groups is not None,
        },
        "data": {
            "source": Path(plain(images.source)).name,
            "images": len(images),
            "bad": bad,
            "duplicates": duplicates,
        },
        "command": command,
        "versions": {"python": platform.python_version()} | installed_versions(*_LIBRARIES),
    }
