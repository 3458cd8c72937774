"""The split of a run, kept by content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.bundle.split import read_split, write_split
from featx.config import DataOptions
from featx.dataset import NONE, ImageSet, split_images
from featx.dataset.class_names import describe_alike
from featx.dataset.split import Placed
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
    describe_unlabelled,
    describe_unmeasured,
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
        """The images that are in a part, with what is worth knowing of the parts; parameters as in `assign`."""
        from featx.extraction.sample import Sample  # a prediction does without extraction

        split, moved, strange = self._assign(images, digests, readable, options, keep=True)
        sample = Sample.of(images, digests, split)
        notes = describe_moved(moved, images, self.folder.parent.name)
        notes += describe_strange(strange, self.folder.parent)
        known = np.where(readable, digests, NO_DIGEST)
        notes += describe_conflicts(images, known, sample) + describe_unlabelled(images)
        notes += describe_alike(images.classes) + describe_lost(images, known, sample)
        notes += describe_torn(images, sample) + describe_unused_shares(sample, options)
        return replace(sample, notes=(*notes, *describe_missing(sample, options), *describe_unmeasured(sample)))

    def _assign(
        self, images: ImageSet, digests: np.ndarray, readable: np.ndarray, options: DataOptions, keep: bool
    ) -> tuple[np.ndarray, int, bool]:
        """The split, how many images are in another part of it than they were, and whether all are new to the run."""
        terms = digest_json({"split": list(options.split), "seed": options.seed, "max_train": options.max_train})
        kept = self.read(terms)
        split = split_images(images, digests, readable, options, kept)
        placed = split != NONE
        now = Placed.of(digests[placed], split[placed])
        before = kept.find(now.digests)
        if keep and (before != now.split).any():
            self.write(terms, kept.replaced(now))
        moved = int(((before != NONE) & (before != now.split)).sum())
        return split, moved, bool(len(kept)) and bool(len(now)) and bool((before == NONE).all())

    def read(self, terms: str) -> Placed:
        """The images that were placed on these terms; none on others."""
        if self._terms.exists() and terms in self._terms.read_text():
            return Placed.of(*read_split(self._split))
        return Placed.of(digest_array(()), np.empty(0, np.uint8))

    def known(self) -> np.ndarray:
        """The digests V32 of all images that were placed, on whatever terms."""
        return read_split(self._split)[0] if self._split.is_file() else digest_array(())

    def write(self, terms: str, placed: Placed) -> None:
        """Keep the part of each image."""
        write_split(self._split, placed.digests, placed.split)
        write_json(self._terms, {"terms": terms})

    @property
    def _split(self) -> Path:
        return self.folder / "split.npz"

    @property
    def _terms(self) -> Path:
        return self.folder / "terms.json"
