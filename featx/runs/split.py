"""The split of a run, kept by content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.bundle.split import read_split, write_split
from featx.config import DataOptions
from featx.dataset import NONE, ImageSet, split_images
from featx.io.digest_arrays import digest_array
from featx.io.digests import digest_json
from featx.io.files import write_json


@dataclass(frozen=True)
class KeptSplit:
    """Which image is in which part, in a folder of a run: by digest, so that a rename never moves an image.

    It is kept on terms: other shares or another seed begin anew.
    """

    folder: Path

    def assign(
        self,
        images: ImageSet,
        digests: np.ndarray,
        readable: np.ndarray,
        options: DataOptions,
        keep: bool = True,
    ) -> np.ndarray:
        """The split uint8 (n,) of images: those that are kept stay where they are, new ones join the parts.

        digests : V32 (n,); readable : bool (n,); keep : whether what is new in it is written down
        """
        terms = digest_json({"split": list(options.split), "seed": options.seed, "max_train": options.max_train})
        kept = self.read(terms)
        split = split_images(images, digests, readable, options, kept)
        placed = split != NONE
        now = dict(zip(digests[placed].tolist(), split[placed].tolist(), strict=True))
        if keep and now.items() - kept.items():
            self.write(terms, kept | now)
        return split

    def read(self, terms: str) -> dict[bytes, int]:
        """Digest (32 bytes) -> split code of the images that were placed on these terms; empty on others."""
        if self._terms.exists() and terms in self._terms.read_text():
            return read_split(self._split)
        return {}

    def write(self, terms: str, codes: dict[bytes, int]) -> None:
        """Keep the split code of each digest (32 bytes)."""
        write_split(self._split, digest_array(codes), np.array(list(codes.values()), np.uint8))
        write_json(self._terms, {"terms": terms})

    @property
    def _split(self) -> Path:
        return self.folder / "split.npz"

    @property
    def _terms(self) -> Path:
        return self.folder / "terms.json"
