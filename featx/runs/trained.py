"""A network trained on images that is not yet a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from featx.backbones.keras_files import save_network
from featx.bundle.coverage import save_coverage
from featx.bundle.manifest import Manifest
from featx.bundle.novelty import Reference
from featx.bundle.split import SeenImages, write_split
from featx.engines.choice import choose_engine, compile_graph
from featx.heads.persist import FILES
from featx.heads.transform import TRANSFORM_FILE, Transform
from featx.metrics.predictions import LabelledPredictions
from featx.runs.origin import Intake
from featx.training.callbacks import Recording
from featx.training.log import TrainingLog


class KerasModel(Protocol):
    """A Keras model, as far as it is written here."""

    def save(self, path: Path) -> None:
        """Write it as a `.keras` file."""


@dataclass(frozen=True)
class Trained:
    """A network that was trained on images, taken apart into backbone and head, with what was measured of it.

    Attributes
    ----------
    label : what its folder in a run is called, after the number
    manifest : what `bundle.json` holds, but for the checksums
    predictions : of val and test
    intake : what it was made of
    backbone : RGB images in [0, 255] -> features; head : kernel (d, k) and bias (k,), or a network, from features to
        logits
    transform : what features pass through before the head
    reference : what unknown images are found by
    log : the epochs
    engine : as the option; where OpenVINO is chosen, the bundle has the graph that it runs
    recording : where the state is that the training resumes from, of no use once there is a bundle
    former : what the model has seen that it was fine-tuned from; None where it was trained from scratch
    licenses : texts of the licence of the weights that it started from, by what they are called in a bundle
    """

    label: str
    manifest: Manifest
    predictions: tuple[LabelledPredictions, ...]
    intake: Intake
    backbone: KerasModel
    head: tuple[np.ndarray, np.ndarray] | KerasModel
    transform: Transform
    reference: Reference
    log: TrainingLog
    engine: str
    recording: Recording
    former: SeenImages | None = None
    licenses: Mapping[str, Path] = field(default_factory=dict)

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the files of a bundle into a folder; return what they are called in the bundle, and where they are."""
        files = {name: folder / name for name in ("backbone.keras", "split.npz", "training.csv")}
        save_network(self.backbone, files["backbone.keras"])
        write_split(files["split.npz"], self.intake.sample.digests, self.intake.sample.split, self.former)
        self.log.write_csv(files["training.csv"])
        head = self._write_head(folder)
        reference = self.reference.save(folder)
        files |= {head.name: head, reference.name: reference, **save_coverage(folder, self.predictions[0])}
        files |= self.licenses
        if self.transform.changes:
            self.transform.save(folder / TRANSFORM_FILE)
            files[TRANSFORM_FILE] = folder / TRANSFORM_FILE
        if choose_engine(self.engine) == "openvino":
            compile_graph("openvino", lambda: self.backbone, folder / "graph", "float32")
            files["graph"] = folder / "graph"
        return files

    def _write_head(self, folder: Path) -> Path:
        if isinstance(self.head, tuple):
            path = folder / FILES["linear"]
            np.savez(path, kernel=self.head[0], bias=self.head[1])
        else:
            path = folder / FILES["network"]
            save_network(self.head, path)
        return path
