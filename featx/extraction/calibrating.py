"""Choose the calibration images of int8: the smallest digests among the trainable images, once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featx.backbones import BackboneSpec
from featx.config import FeaturesOptions
from featx.dataset import TEST, VAL, ImageSet
from featx.engines.quantisation import INT8, require_nncf
from featx.errors import DataError
from featx.extraction.job import settle
from featx.extraction.request import Request, request_images
from featx.images.batches import Decoding, iter_batches
from featx.io.digest_arrays import first_of_equal, has_digest
from featx.io.progress import Progress, no_progress
from featx.store.cache import Cache
from featx.store.calibration import CalibrationImage, CalibrationImages

MOST_MEASURED, MOST_HELD = 300, 100
LEAST = 20  # images, of which a quarter are held back

Trains = Callable[[Request], np.ndarray]
"""Which rows may train, bool (n,)"""


def fix_calibration(
    images: ImageSet,
    options: FeaturesOptions,
    cache: Cache,
    progress: Progress = no_progress,
    trains: Trains | None = None,
) -> None:
    """Choose the images that int8 is calibrated on, where that is asked for and was not done for this network yet.

    trains : which of them may be taken; None: all but those declared as val or test

    Raises
    ------
    EngineError
        NNCF is not installed.
    DataError
        Too few images.
    """
    if options.precision != INT8:
        return
    job = settle(options, cache)
    if job.calibration is not None:
        return
    require_nncf()
    request = request_images(images, cache.index, progress)
    usable = has_digest(request.digests)
    usable[list(request.unreadable)] = False
    rows = np.flatnonzero(usable & (trains or _undeclared)(request))
    rows = rows[first_of_equal(request.digests[rows])]
    rows = rows[np.argsort(request.digests[rows])]
    chosen = _readable(request, rows, job.spec)
    held = min(MOST_HELD, len(chosen) // 4)
    if len(chosen) < LEAST:
        raise DataError(
            f"int8 is calibrated on training images, {LEAST} or more, and {images.source} has {len(chosen)} that can "
            "be read. Add images, or choose another --precision."
        )
    listed = [CalibrationImage(request.digests[row].tobytes().hex(), images.paths[row]) for row in chosen]
    found = CalibrationImages(tuple(listed[held:]), tuple(listed[:held]))
    found.write(cache.calibration(job.store.key))


def _undeclared(request: Request) -> np.ndarray:
    declared = request.images.declared
    return np.ones(len(request), bool) if declared is None else ~np.isin(declared, (VAL, TEST))


def _readable(request: Request, rows: np.ndarray, spec: BackboneSpec) -> list[int]:
    """The first of these rows that can be decoded, as many as are wanted."""
    found: list[int] = []
    reading = Decoding(spec.input_size, spec.resize, 16)
    for batch in iter_batches(request.sources, rows.tolist(), reading):
        found += batch.rows.tolist()
        if len(found) >= MOST_MEASURED + MOST_HELD:
            break
    return found[: MOST_MEASURED + MOST_HELD]
