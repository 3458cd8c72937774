"""The list of a model's mistakes: image, label, prediction, and link to the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from featx.io.commands import short_path
from featx.io.csvtext import csv_text
from featx.io.files import write_atomic
from featx.io.urls import is_url
from featx.metrics.predictions import LabelledPredictions, indicators

TABLE = "mistakes.csv"


@dataclass(frozen=True)
class Mistake:
    """An image that is wrong.

    path : as it may be shown; link : to its file from the page, empty where that would name folders of this machine
    actual, predicted : classes, or labels with commas between them
    confidence : of the predicted class; of several labels, the mean log loss over labels
    row : of the image among those that were judged
    """

    path: str
    link: str
    actual: str
    predicted: str
    confidence: float
    row: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.path.replace("\\", "/").rpartition("/")[2]


def list_mistakes(judged: LabelledPredictions, folder: Path, keep_paths: bool, linked: bool) -> list[Mistake]:
    """Every mistake, the most confident first; of several labels, that of the largest loss.

    folder : of the page; keep_paths : whether paths may name all their folders; linked : whether links may
    """
    wrong = np.flatnonzero(~judged.correct)
    several = judged.target == "labels"
    predicted = np.asarray(judged.predicted)
    weight = _losses(judged) if several else judged.probabilities[np.arange(len(predicted)), predicted]
    order = wrong[np.argsort(-weight[wrong], kind="stable")]
    return [
        Mistake(
            judged.paths[row] if keep_paths else short_path(judged.paths[row]),
            _link(judged.paths[row], folder, linked or keep_paths),
            _names(judged.classes, judged.labels[row]),
            _names(judged.classes, predicted[row]),
            float(weight[row]),
            row,
        )
        for row in order.tolist()
    ]


def write_mistakes(folder: Path, judged: LabelledPredictions | None, found: Sequence[Mistake]) -> None:
    """Write `mistakes.csv` with every mistake; one of an earlier report goes where nothing was measured.

    Raises
    ------
    StoreError
        A full disk, or a folder that cannot be written to.
    """
    if judged is None:
        (folder / TABLE).unlink(missing_ok=True)
        return
    header = ("path", "actual", "predicted", "log_loss" if judged.target == "labels" else "confidence")
    rows = [(one.path, one.actual, one.predicted, f"{one.confidence:.4f}") for one in found]
    write_atomic(folder / TABLE, csv_text([header, *rows]))


def _losses(judged: LabelledPredictions) -> np.ndarray:
    found = np.where(indicators(judged), judged.probabilities, 1 - judged.probabilities)
    return np.asarray(-np.log(np.clip(found, np.finfo(np.float64).eps, 1)).mean(axis=1))


def _names(classes: Sequence[str], marked: np.ndarray) -> str:
    """The class of a code, or the labels that are marked."""
    if np.ndim(marked) == 0:
        return classes[int(marked)]
    return ", ".join(classes[code] for code in np.flatnonzero(marked).tolist()) or "nothing"


def _link(path: str, folder: Path, linked: bool) -> str:
    """From the page to a file."""
    if not linked or is_url(path) or not Path(path).is_file():
        return ""
    return quote(os.path.relpath(path, folder).replace(os.sep, "/"))
