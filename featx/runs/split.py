"""The split of a run, kept by content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.bundle.split import read_split, write_split
from featx.config import DataOptions
from featx.dataset import NONE, ImageSet, split_images
from featx.io.digest_arrays import NO_DIGEST, digest_array
from featx.io.digests import digest_json
from featx.io.files import write_json
from featx.runs.part_notes import (
    describe_conflicts,
    describe_lost,
    describe_missing,
    describe_moved,
    describe_strange,
    describe_torn,
    describe_unused_shares,
)

if TYPE_CHECKING:
    from featx.extraction.sample import Sample


@dataclass(frozen=True)
class KeptSplit:
    """Which image is in which part, in a folder of a run: by digest, so that a rename never moves an image.

    It is kept on terms: other shares or another seed begin anew. Groups that it has torn apart, since they were not
    known when it was made, are placed anew.
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
        return self._assign(images, digests, readable, options, keep)[0]

    def sample(self, images: ImageSet, digests: np.ndarray, readable: np.ndarray, options: DataOptions) -> Sample:
        """The images that are in a part, with what is worth knowing of the parts; parameters as of `assign`."""
        from featx.extraction.sample import Sample  # a prediction does without extraction

        split, moved, strange = self._assign(images, digests, readable, options, keep=True)
        sample = Sample.of(images, digests, split)
        notes = describe_moved(moved, images, self.folder.parent.name)
        notes += describe_strange(strange, self.folder.parent)
        known = np.where(readable, digests, NO_DIGEST)
        notes += describe_conflicts(images, known, sample) + describe_lost(images, known, sample)
        notes += describe_torn(images, sample) + describe_unused_shares(sample, options)
        return replace(sample, notes=(*notes, *describe_missing(sample, options)))

    def _assign(
        self, images: ImageSet, digests: np.ndarray, readable: np.ndarray, options: DataOptions, keep: bool
    ) -> tuple[np.ndarray, int, bool]:
        """The split, how many images are in another part of it than they were, and whether all are new to the run."""
        terms = digest_json({"split": list(options.split), "seed": options.seed, "max_train": options.max_train})
        kept = self.read(terms)
        split = split_images(images, digests, readable, options, kept)
        placed = split != NONE
        now = dict(zip(digests[placed].tolist(), split[placed].tolist(), strict=True))
        if keep and now.items() - kept.items():
            self.write(terms, kept | now)
        moved = sum(kept.get(digest, part) != part for digest, part in now.items())
        return split, moved, bool(kept) and bool(now) and kept.keys().isdisjoint(now)

    def read(self, terms: str) -> dict[bytes, int]:
        """Digest (32 bytes) -> split code of the images that were placed on these terms; empty on others."""
        if self._terms.exists() and terms in self._terms.read_text():
            return read_split(self._split)
        return {}

    def known(self) -> frozenset[bytes]:
        """The digests (32 bytes) of all images that were placed, on whatever terms."""
        return frozenset(read_split(self._split)) if self._split.is_file() else frozenset()

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
