"""Check that an exported file predicts the same as its bundle, on real images, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.bundle.bundle import Bundle
from featx.dataset.sample_images import sample_images
from featx.errors import DataError
from featx.export.formats import Runner
from featx.images.batches import Decoding, iter_batches
from featx.inference.predict import Unread, find_files
from featx.inference.speed import images_per_second
from featx.io.counting import counted
from featx.metrics.predictions import decide

BATCHES = (1, 8)
MOST_CHECKED = 64
MOST_MEASURED = 128  # by them the ranges of int8 are

TOLERANCES = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.05}
"""The largest difference of a probability that is taken for rounding, by precision"""
LEAST_AGREEMENT = 0.9
"""The share of images to which int8 has to give the same answer"""
LEAST_WITHIN = 0.95
"""The share of images within the tolerance where confidence is isotonic: at one of its steps, rounding decides"""


@dataclass(frozen=True)
class CheckImages:
    """Images to check an export on.

    images : uint8 (n, height, width, 3), those that are compared
    measured : uint8 (m, height, width, 3), those by which the ranges of int8 are measured
    source : where they come from, in words
    """

    images: np.ndarray
    measured: np.ndarray
    source: str
    unread: tuple[Unread, ...] = ()


@dataclass(frozen=True)
class Agreement:
    """What two predictions of the same images differ in.

    largest : the largest difference of any probability; None where one is not finite
    within : the share of images none of whose probabilities differs by more than the tolerance
    agreement : the share of images with the same answer: the same most likely class, or all the same labels
    """

    images: int
    largest: float | None
    within: float
    agreement: float


def read_check_images(bundle: Bundle, data: str | None, precision: str) -> CheckImages:
    """Images of a file or folder, spread evenly over it; without one, those that come with the packages.

    For int8, those to measure by are kept apart from those to compare.

    Raises
    ------
    DataError
        None of them could be read.
    """
    size, resize = bundle.input_size, bundle.manifest.backbone.resize
    if data is None:
        images = sample_images(size, resize)
        return CheckImages(images, images[:0], "photographs and digits of scikit-learn, and noise")
    paths = find_files([data])
    most = MOST_CHECKED + (MOST_MEASURED if precision == "int8" else 0)
    wanted = np.unique(np.linspace(0, len(paths) - 1, most).astype(int))
    read, unread = [np.empty((0, *size, 3), np.uint8)], list[Unread]()
    for batch in iter_batches(paths, wanted.tolist(), Decoding(size, resize, 16)):
        read.append(batch.images)
        unread += [Unread(paths[row], reason) for row, reason in batch.unreadable]
    images = np.concatenate(read)
    if not len(images):
        raise DataError(f"None of the images of {data} could be read: {unread[0].reason}. Name others with --data.")
    if precision != "int8" or len(images) < 3:
        return CheckImages(images, images, Path(data).name, tuple(unread))
    third = np.arange(len(images)) % 3 == 0
    return CheckImages(images[third], images[~third], Path(data).name, tuple(unread))


def predict_in_batches(run: Runner, images: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes): the first image alone, the others in batches of eight, as both have to work."""
    found = [run(images[:1])]
    found += [run(images[start : start + BATCHES[-1]]) for start in range(1, len(images), BATCHES[-1])]
    return np.concatenate(found)


def compare(
    own: np.ndarray,
    found: np.ndarray,
    tolerance: float,
    thresholds: np.ndarray | None,
    emphasis: np.ndarray | None = None,
) -> Agreement:
    """Compare a file's probabilities with the bundle's, both (n, classes).

    thresholds : float (classes,), of a bundle that gives an image several labels
    emphasis : float (classes,), what probabilities are multiplied by for the decision; None: by nothing
    """
    if found.shape != own.shape or not np.isfinite(found).all():
        return Agreement(len(own), None, 0.0, 0.0)
    differences = np.abs(found - own).max(axis=1)
    if thresholds is None:
        same = decide(found, emphasis) == decide(own, emphasis)
    else:
        same = ((found >= thresholds) == (own >= thresholds)).all(axis=1)
    within = float((differences <= tolerance).mean())
    return Agreement(len(own), float(differences.max()), within, float(same.mean()))


def judge(comparison: Agreement, precision: str, tolerance: float, steps: bool) -> str | None:
    """Why an export is refused, in words; None when it is good.

    steps : whether confidence is isotonic
    """
    if comparison.largest is None:
        return "it gives probabilities that are not finite numbers, or not one for each class"
    if precision == "int8":
        if comparison.agreement >= LEAST_AGREEMENT:
            return None
        return (
            f"it gives the same answer to {comparison.agreement:.1%} of {counted(comparison.images, 'image')}, and "
            f"{LEAST_AGREEMENT:.0%} are asked for"
        )
    if comparison.within >= (LEAST_WITHIN if steps else 1.0):
        return None
    return (
        f"its probabilities differ by up to {comparison.largest:.3g} on {counted(comparison.images, 'image')}, and "
        f"{tolerance:g} is allowed"
    )


def tolerance_of(bundle: Bundle, precision: str) -> float:
    """What may be rounding: of the export's precision, or of the bundle's own where that is coarser."""
    own = TOLERANCES.get(bundle.engine.precision, TOLERANCES["bfloat16"])  # of int8 all but OpenVINO's is by agreement
    return max(own, TOLERANCES.get(precision, own))


def measure_speed(run: Runner, images: np.ndarray, batches: Sequence[int] = BATCHES) -> dict[str, float]:
    """Images per second by batch size: one over the median time of a call, after one that is not counted."""
    return {
        str(size): round(images_per_second(run, np.resize(images, (size, *images.shape[1:]))), 2) for size in batches
    }
