"""The sample of images that networks are run on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from featx.config import Pipeline
from featx.dataset import TEST, ImageSet
from featx.extraction.flow import Extraction
from featx.first_look.contact_sheet import NO_LABEL, some_of
from featx.io.digest_arrays import first_of_equal
from featx.io.progress import Progress, no_progress
from featx.store.cache import Cache

_SAMPLE = 500  # images that networks are run on where nobody asks for another number
_SECONDS = 45.0  # that networks may take of the minute, the rest of which goes into pictures and judging
_LEAST_OF_A_CLASS = 5  # images in the sample; of more classes than fit, some are drawn


@dataclass(frozen=True)
class Scope:
    """How much is looked at.

    classes, images : of a contact sheet: classes at most, and images of each
    sample : images at most that a network is run on
    seconds : that networks may take, about; slow ones are run on fewer images. None: as long as it takes
    imagenet : whether to show what ImageNet's classes make of them; advice : whether to advise
    """

    classes: int = 24
    images: int = 6
    sample: int = 500
    seconds: float | None = None
    imagenet: bool = False
    advice: bool = True

    @classmethod
    def asked(
        cls, classes: int = 24, images: int = 6, sample: int | None = None, imagenet: bool = False, advice: bool = True
    ) -> Self:
        """The scope of who asks for a sample, or for as many images as a minute is enough for (None)."""
        return cls(classes, images, sample or _SAMPLE, None if sample else _SECONDS, imagenet, advice)

    def after(self, seconds: float) -> Self:
        """The scope of what follows, when some of its seconds are gone."""
        return self if self.seconds is None else replace(self, seconds=self.seconds - seconds)


USUAL = Scope()


@dataclass(frozen=True)
class Study:
    """A sample of the images, and what a network run on it needs.

    images, sample : all images, and those that networks are run on
    cache : where their features are
    """

    images: ImageSet
    sample: ImageSet
    pipeline: Pipeline
    cache: Cache
    progress: Progress = no_progress

    @property
    def plain(self) -> ImageSet:
        """The sample as images alone: that a class has none that can be read is not an error here."""
        return replace(self.sample, labels=None, classes=())

    def codes(self, rows: np.ndarray) -> np.ndarray | None:
        """The class of each row, int64 (n,); of several labels, which set of them; None without labels."""
        labels = self.sample.labels
        if labels is None:
            return None
        return np.unique(labels[rows], axis=0, return_inverse=True)[1] if labels.ndim == 2 else labels[rows]

    def groups(self, rows: np.ndarray) -> np.ndarray | None:
        """The group of each row, int64 (n,); a row without one is a group of its own. None where there are none."""
        groups = self.sample.groups
        if groups is None:
            return None
        return np.unique([groups[row] or f"\0{row}" for row in rows.tolist()], return_inverse=True)[1]

    def name(self, row: int) -> str:
        """The labels of a row of the sample, in words."""
        return " + ".join(self.sample.label_names(row)) or NO_LABEL


def draw_sample(images: ImageSet, most: int, seed: int, without: Collection[int] = ()) -> np.ndarray:
    """Positions of at most so many images, as many of each class as there are, drawn by seed alone: int64 (n,).

    Of more classes than have room for five images each, some are drawn. Images with several labels are drawn alike.

    without : positions that are left out, of images that cannot be read
    """
    generator = np.random.default_rng(seed)
    usable = np.setdiff1d(np.arange(len(images)), np.array(list(without), np.int64))
    if images.labels is None or images.multilabel:
        return np.sort(generator.permutation(usable)[:most])
    labels = images.labels[usable]
    classes = some_of(np.unique(labels[labels >= 0]).tolist(), max(2, most // _LEAST_OF_A_CLASS), generator)
    quota = max(1, most // max(1, len(classes)))
    drawn = [generator.permutation(usable[labels == code])[:quota] for code in classes]
    return np.sort(np.concatenate([np.empty(0, np.int64), *drawn]))


def declared_test(images: ImageSet) -> list[int]:
    """Positions of the images declared as test, by which nothing may be chosen; none where there are no others."""
    rows = [] if images.declared is None else np.flatnonzero(images.declared == TEST).tolist()
    return [] if len(rows) == len(images) else rows


def different_rows(extraction: Extraction) -> np.ndarray:
    """The rows that can be read, of equal images one: int64 (n,)."""
    rows = np.flatnonzero(extraction.readable)
    return np.asarray(rows[first_of_equal(extraction.digests[rows])])


def reasons_of(extraction: Extraction) -> dict[str, str]:
    """Path -> why it cannot be read."""
    return {one["path"]: one["reason"] for one in extraction.bad}
