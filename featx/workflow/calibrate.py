"""Calibrate int8 on images of the train part alone, so the split is made before the first feature."""

from __future__ import annotations

import numpy as np

from featx.config import Pipeline
from featx.dataset import NONE, SPLITS, TEST, TRAIN, VAL, ImageSet
from featx.engines.quantisation import INT8
from featx.errors import UsageError
from featx.extraction.calibrating import fix_calibration
from featx.extraction.extraction import Extraction
from featx.extraction.request import Request
from featx.extraction.sample import Sample
from featx.io.digest_arrays import digest_array, has_digest
from featx.io.progress import Progress
from featx.runs.run import Run
from featx.store.cache import Cache


def calibrate(pipeline: Pipeline, images: ImageSet, cache: Cache, progress: Progress) -> None:
    """Choose the images that int8 is calibrated on, where it is asked for and that was not done for this network yet.

    Of images with labels they are of the train part, and the split is kept from then on.

    Raises
    ------
    UsageError
        The parts are known only from features.
    """
    if pipeline.features.precision != INT8:
        return

    def trains(request: Request) -> np.ndarray:
        declared = images.declared
        if declared is not None and not (declared == NONE).any():
            return np.asarray(declared == TRAIN)
        if pipeline.data.group_duplicates is not None:
            raise UsageError(
                "--precision int8 is calibrated on training images, and with --group-duplicates features show which "
                "these are. Leave it out, or split first: featx split."
            )
        usable = has_digest(request.digests)
        usable[list(request.unreadable)] = False
        split = Run.of(pipeline, images).split.assign(images, request.digests, usable, pipeline.data)
        return np.asarray(split == TRAIN)

    labelled = images.labels is not None and len(images.classes) > 1
    fix_calibration(images, pipeline.features, cache, progress, trains if labelled else None)


def note_calibrated(extraction: Extraction, sample: Sample) -> tuple[str, ...]:
    """Name the images of val and test that int8 was calibrated on: by another run, which had them to train on."""
    if extraction.calibration is None:
        return ()
    images = extraction.calibration.images
    known = digest_array(bytes.fromhex(one.digest) for one in (*images.measured, *images.held))
    met = np.bincount(sample.split[np.isin(sample.digests, known)], minlength=len(SPLITS))
    shown = " and ".join(f"{met[code]} of {SPLITS[code]}" for code in (VAL, TEST) if met[code])
    if not shown:
        return ()
    note = (
        f"int8 was calibrated on {shown} of this split: another run in this cache had them to train on. "
        "Their labels were not used; with another --cache it is calibrated on the train part of this split."
    )
    return (note,)
