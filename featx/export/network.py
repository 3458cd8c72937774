"""The exported model: one Keras network from images to the bundle's probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from featx.backbones import import_keras
from featx.bundle.bundle import Bundle
from featx.errors import ExportError
from featx.finetune.flow import GRAFTABLE, graft
from featx.heads.calibration import Calibration

if TYPE_CHECKING:
    import keras

INPUT, OUTPUT = "images", "probabilities"


def require_network(bundle: Bundle) -> None:
    """Refuse a bundle whose head is not a network: nearest neighbours, an SVM with a radial kernel, an estimator.

    Raises
    ------
    ExportError
        Says which heads can be exported.
    """
    if bundle.manifest.head.kind not in {"linear", "network"}:
        raise ExportError(
            f"{bundle.shown} has a head ({bundle.manifest.head.clf}) that is not a network and cannot be exported. "
            f"Heads that can: {', '.join(GRAFTABLE)}. Fit one: featx fit-head --clf logreg"
        )


def build_network(bundle: Bundle) -> keras.Model:
    """Backbone, head and calibration as one Keras model.

    Takes float32 (n, height, width, 3), RGB in [0, 255]; gives {"probabilities": float32 (n, classes)}: those of
    `Bundle.probabilities`, which add up to 1, or one for each label where an image may have several.

    Raises
    ------
    ExportError
        A head that is not a network.
    """
    # `graft` refuses several labels, since they cannot be trained; the network up to the logits is the same
    grafted = graft(replace(bundle, manifest=replace(bundle.manifest, target="class")))
    return import_keras().Model(grafted.inputs[0], {OUTPUT: calibrated(bundle.calibration, grafted.output)})


def calibrated(calibration: Calibration, logits: keras.KerasTensor) -> keras.KerasTensor:
    """`Calibration.probabilities` of a symbolic tensor (n, classes) of logits, the temperature applied."""
    ops = import_keras().ops
    if calibration.kind == "temperature":
        if calibration.correction is not None:
            logits = logits + np.asarray(calibration.correction, np.float32)
        return ops.sigmoid(logits) if calibration.several else ops.softmax(logits, axis=-1)
    binary = not calibration.several and logits.shape[-1] == 2
    decisions = logits[:, 1:] - logits[:, :1] if binary else logits
    curves = _sigmoids if calibration.kind == "sigmoid" else _staircases
    found = curves(calibration, decisions)
    if calibration.several:
        return found
    if binary:
        return ops.concatenate([1.0 - found, found], axis=-1)
    total = ops.sum(found, axis=-1, keepdims=True)
    positive = total > 0
    return ops.where(positive, found / ops.where(positive, total, 1.0), 1.0 / found.shape[-1])


def _sigmoids(calibration: Calibration, decisions: keras.KerasTensor) -> keras.KerasTensor:
    slopes, intercepts = (np.array([curve[i][0] for curve in calibration.curves], np.float32) for i in (0, 1))
    return import_keras().ops.sigmoid(decisions * slopes + intercepts)


def _staircases(calibration: Calibration, decisions: keras.KerasTensor) -> keras.KerasTensor:
    """Lines between the knots of each curve: the first height, plus of every step the part that has been climbed."""
    ops = import_keras().ops
    starts, inverses, rises = _steps(calibration)
    climbed = ops.clip((ops.expand_dims(decisions, -1) - starts) * inverses, 0.0, 1.0)
    first = np.array([y[0] for _, y in calibration.curves], np.float32)
    return ops.sum(climbed * rises, axis=-1) + first


def _steps(calibration: Calibration) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every step of every curve: where it starts, one divided by its width, how much it rises; float32 (k, steps).

    Curves of fewer steps than the longest are filled up with steps that do not rise.
    """
    most = max(1, *(len(x) - 1 for x, _ in calibration.curves))
    starts, widths, rises = (np.full((len(calibration.curves), most), fill) for fill in (0.0, 1.0, 0.0))
    for row, (x, y) in enumerate(calibration.curves):
        count = len(x) - 1
        starts[row, :count], widths[row, :count], rises[row, :count] = x[:-1], np.diff(x), np.diff(y)
    least = float(np.finfo(np.float32).tiny) * 4  # its inverse is finite in float32
    inverses = 1 / np.maximum(widths, least)
    return starts.astype(np.float32), inverses.astype(np.float32), rises.astype(np.float32)
