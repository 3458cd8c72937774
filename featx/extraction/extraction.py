"""The features of an image set, and how they came to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featx.backbones import BackboneSpec, Output
from featx.config import FeaturesOptions
from featx.dataset import ImageSet
from featx.store.store import FeatureStore
from featx.store.stored import StoredFeatures


@dataclass
class Extraction:
    """The features of an image set, and how they came to be.

    Attributes
    ----------
    images : the `ImageSet`: paths, labels, classes and what else is known of each image
    bad : {"path", "reason"} of every image that could not be read
    outputs : the layers and poolings that were asked for
    computed, reused : different images that passed the network now, and that were in the store already
    duplicates : readable images that have the content of another one
    seconds : of the whole, and `stages` of decoding, inference and writing
    store : the `FeatureStore`; digests, readable : V32 (n,) and bool (n,), by which its rows are found
    views : uint16 (n,), which view of its image a row is; 0 where the rows are the images themselves
    workers : of a cluster: {"host", "pid", "images", "seconds"} of each; empty where this process computed
    """

    images: ImageSet
    digests: np.ndarray
    readable: np.ndarray
    bad: list[dict[str, str]]
    outputs: tuple[Output, ...]
    options: FeaturesOptions
    store: FeatureStore
    spec: BackboneSpec
    engine: str
    duplicates: int = 0
    computed: int = 0
    reused: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "infer": 0.0, "write": 0.0})
    views: np.ndarray | int = 0
    workers: list[dict[str, Any]] = field(default_factory=list)

    def features(self, output: Output, rows: np.ndarray) -> StoredFeatures:
        """The stored features of some rows of `images` (positions), not yet read."""
        return self.store.table(output.layer, output.pooling).read(self.digests[rows], self.view(rows))

    def view(self, rows: np.ndarray) -> np.ndarray:
        """Which view of its image each of these rows is: uint16 (n,)."""
        return np.asarray(np.broadcast_to(np.asarray(self.views, np.uint16), len(self.digests))[rows])

    def as_json(self) -> dict[str, Any]:
        """What `featx extract --json` prints."""
        layers = {}
        for output in self.outputs:
            table = self.store.table(output.layer, output.pooling)
            shape = [len(np.unique(self.digests[self.readable])), *(table.parts[0].row_shape if table.parts else ())]
            dtype = str(np.result_type(*{part.dtype for part in table.parts})) if table.parts else None
            layers[output.name] = {"shape": shape, "dtype": dtype, "path": str(table.directory)}
        return {
            "images": int(self.readable.sum()),
            "duplicates": self.duplicates,
            "computed": self.computed,
            "reused": self.reused,
            "bad": self.bad,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.computed / self.seconds, 1) if self.computed and self.seconds else None,
            "stages": {name: round(value, 3) for name, value in self.stages.items()},
            "engine": self.engine,
            "store": str(self.store.directory),
            "layers": layers,
            **({"workers": self.workers} if self.workers else {}),
        }
