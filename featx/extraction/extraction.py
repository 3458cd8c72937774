"""The features of an image set, and how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones import BackboneSpec, Output
from featx.config import FeaturesOptions
from featx.dataset import ImageSet
from featx.errors import HeadError
from featx.extraction.computed import Stages, WorkerShare
from featx.extraction.request import Request
from featx.io.counting import counted
from featx.io.notebook import table_html
from featx.store.calibration import NetworkCalibration
from featx.store.store import FeatureStore
from featx.store.stored import StoredFeatures


@dataclass(frozen=True, eq=False)
class Extraction:
    """The features of an image set, and how they came to be.

    Attributes
    ----------
    request : the rows that were asked for
    readable : bool (n,), which of them could be read; bad : {"path", "reason"} of every image that could not
    outputs : the layers and poolings that were asked for
    options, store, spec, engine : what they were made with, and where they are
    computed, reused : different images that passed the network now, and that were in the store already
    duplicates : readable images that have the content of another one
    seconds : of the whole, and `stages` of decoding, inference and writing
    workers : of a cluster, and what each did; none where this process computed
    calibration : what the network was quantised by; None where it was not
    """

    request: Request
    readable: np.ndarray
    bad: list[dict[str, str]]
    outputs: tuple[Output, ...]
    options: FeaturesOptions
    store: FeatureStore
    spec: BackboneSpec
    engine: str
    duplicates: int
    computed: int
    reused: int
    seconds: float
    stages: Stages
    workers: tuple[WorkerShare, ...]
    calibration: NetworkCalibration | None = None

    def __repr__(self) -> str:
        return f"<featx Extraction: {self._summary}; {self._what}>"

    def _repr_html_(self) -> str:
        stages = [("images", f"{int(self.readable.sum()):,}"), ("duplicates", f"{self.duplicates:,}")]
        counts = [("computed", f"{self.computed:,}"), ("reused", f"{self.reused:,}"), ("bad", f"{len(self.bad):,}")]
        rows = [*stages, *counts, ("seconds", f"{self.seconds:.1f}"), ("engine", self.engine)]
        rows += [(f"bad: {one['path']}", one["reason"]) for one in self.bad]
        return table_html(f"Extraction: {self._what}", ("what", "value"), rows, len(rows))

    @property
    def _summary(self) -> str:
        counts = f"{self.computed:,} computed, {self.reused:,} reused, {len(self.bad):,} bad"
        return f"{counted(int(self.readable.sum()), 'image')}, {counts}"

    @property
    def _what(self) -> str:
        return f"{', '.join(one.name for one in self.outputs)} of {Path(self.spec.name).name}"

    @property
    def images(self) -> ImageSet:
        """The images of the rows: paths, labels, classes and what else is known of each."""
        return self.request.images

    @property
    def digests(self) -> np.ndarray:
        """V32 (n,), the contents of the images; `NO_DIGEST` of a file that could not be read."""
        return self.request.digests

    @property
    def views(self) -> np.ndarray:
        """uint16 (n,), which view of its image each row is; 0 is the image itself."""
        return self.request.views

    def features(self, output: Output, rows: np.ndarray) -> StoredFeatures:
        """The stored features of some of the rows (positions), not yet read."""
        return self.store.table(output.layer, output.pooling).read(self.digests[rows], self.views[rows])

    def as_json(self) -> dict[str, Any]:
        """What `featx extract --json` prints."""
        return {
            "images": int(self.readable.sum()),
            "duplicates": self.duplicates,
            "computed": self.computed,
            "reused": self.reused,
            "bad": self.bad,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.computed / self.seconds, 1) if self.computed and self.seconds else None,
            "stages": self.stages.as_json(),
            "engine": self.engine,
            "store": str(self.store.directory),
            "layers": {output.name: self._describe(output) for output in self.outputs},
            **({"workers": [worker.as_json() for worker in self.workers]} if self.workers else {}),
        }

    def _describe(self, output: Output) -> dict[str, Any]:
        table = self.store.table(output.layer, output.pooling)
        return {
            "shape": [self.computed + self.reused, *(table.parts[0].row_shape if table.parts else ())],
            "dtype": str(np.result_type(*{part.dtype for part in table.parts})) if table.parts else None,
            "path": str(table.directory),
        }


def first_row_output(outputs: Sequence[Output]) -> Output:
    """The first that is a row of features and no map, by which images are compared.

    Raises
    ------
    HeadError
        There are only maps.
    """
    for output in outputs:
        if output.pooling != "none":
            return output
    raise HeadError("There are only maps (pooling none) to compare. Add --pooling avg or flatten.")
