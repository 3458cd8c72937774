"""How prediction sets are calibrated: the val images of a bundle, as its head saw them during the fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.bundle.manifest import Manifest
from featx.errors import BundleError
from featx.io.zips import load_arrays
from featx.metrics.conformal import CalibrationScores
from featx.metrics.predictions import LabelledPredictions

COVERAGE_FILE = "coverage.npz"
_MOST_VALUES = 4_000_000  # probabilities that are kept: 32 MB


def scores_of(predictions: LabelledPredictions) -> CalibrationScores:
    """The scores of labelled predictions by a model that was not fitted on them."""
    k = predictions.probabilities.shape[1]
    return CalibrationScores(np.asarray(predictions.probabilities[:, :k], np.float64), predictions.labels)


def save_coverage(folder: Path, val: LabelledPredictions) -> dict[str, Path]:
    """Write the val images' probabilities and labels as a file of a bundle; nothing where there are none.

    Of very many images those are kept that a generator draws.
    """
    found = scores_of(val)
    if not len(found):
        return {}
    rows = np.arange(len(found))
    most = max(1, _MOST_VALUES // found.probabilities.shape[1])
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    np.savez(folder / COVERAGE_FILE, probabilities=found.probabilities[rows], labels=found.labels[rows])
    return {COVERAGE_FILE: folder / COVERAGE_FILE}


def load_coverage(folder: Path, manifest: Manifest) -> CalibrationScores:
    """What the sets of a bundle are calibrated by.

    Raises
    ------
    BundleError
        The bundle has none, and why; or it is damaged.
    """
    path = folder / COVERAGE_FILE
    if COVERAGE_FILE not in manifest.files:
        raise BundleError(f"{folder} cannot give sets of classes: {_why_none(manifest)}")
    try:
        held = load_arrays(path)
        probabilities, labels = np.asarray(held["probabilities"], np.float64), held["labels"]
        several = manifest.multilabel
        if (
            probabilities.shape != (len(labels), len(manifest.classes))
            or labels.shape != (probabilities.shape if several else probabilities.shape[:1])
            or labels.dtype.kind != ("b" if several else "i")
            or not np.isfinite(probabilities).all()
            or (not several and labels.min(initial=0) < 0)
        ):
            raise ValueError(f"probabilities of shape {probabilities.shape} and labels of shape {labels.shape}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Get the bundle again from its source.") from error
    return CalibrationScores(probabilities, labels)


def _why_none(manifest: Manifest) -> str:
    if manifest.head.refitted:
        return (
            "it was fitted on its val images as well (--refit), and no other images are left to calibrate on. Make "
            "one without it: featx fit-head --no-refit"
        )
    if not manifest.split.images.get("val"):
        return "it was made without val images, which calibrate them. Make one with --split 0.8,0.1,0.1"
    return "it was made by an earlier featx. Make it again: featx fit-head"


def why_approximate(manifest: Manifest) -> str:
    """Why a coverage is not guaranteed, in words; empty where it is.

    Images that calibrate must have had no part in choosing or stopping: val images have none where strengths were
    compared on folds of train.
    """
    if manifest.finetune is not None or manifest.baseline is not None or manifest.head.clf == "dense":
        return "the val images that calibrate it stopped the training as well"
    if any(one.where == "val" for some in manifest.search.values() for one in some):
        return "the val images that calibrate it chose the head as well"
    if manifest.split.grouped:
        return "images come in groups, so those that calibrate it are not independent"
    return ""
