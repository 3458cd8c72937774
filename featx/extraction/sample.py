"""The rows to fit and measure on: one per distinct image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from featx.dataset import NONE, SPLITS, TRAIN, ImageSet
from featx.dataset.units import group_codes
from featx.errors import DataError
from featx.extraction.views import Views
from featx.io.digest_arrays import first_of_equal
from featx.io.digests import digest_json_lists


@dataclass(frozen=True)
class Sample:
    """What is fitted on and measured: one row per different image.

    rows : positions in `images.paths`; y : int64 (n,), positions in `images.classes`, or bool (n, classes) where an
    image can have several labels; split : uint8
    groups : int64 (n,), a row without one has a number of its own; None where there are none
    notes : what is worth knowing of the parts
    views : of the train rows, in their order, where heads are fitted on views as well; they are no rows themselves
    """

    images: ImageSet
    digests: np.ndarray
    rows: np.ndarray
    y: np.ndarray
    split: np.ndarray
    groups: np.ndarray | None
    weight: np.ndarray | None
    views: Views | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: ImageSet, digests: np.ndarray, split: np.ndarray) -> Sample:
        """Rows that are in a part, duplicates once."""
        require_fittable(images)
        assert images.labels is not None
        used = np.flatnonzero(split != NONE)
        first = first_of_equal(digests[used])
        rows, groups = used[first], group_codes(images, digests, used)
        weight = None if images.weights is None else images.weights[rows]
        return cls(
            images,
            digests[rows],
            rows,
            images.labels[rows],
            split[rows],
            None if groups is None else groups[first],
            weight,
        )

    def without(self, rows: np.ndarray) -> Sample:
        """The same without some rows, bool (n,), none of which is of train: these have views."""
        kept = ~rows
        return replace(
            self,
            digests=self.digests[kept],
            rows=self.rows[kept],
            y=self.y[kept],
            split=self.split[kept],
            groups=None if self.groups is None else self.groups[kept],
            weight=None if self.weight is None else self.weight[kept],
        )

    @property
    def digest(self) -> str:
        """SHA-256 over (digest, part, class) of every image: bundles with the same one can be compared."""
        order, images = np.argsort(self.digests), self.images
        names = (
            (images.classes[code] for code in self.y[order].tolist())
            if self.y.ndim == 1
            else (np.flatnonzero(marks).tolist() for marks in self.y[order])
        )
        digests = (self.digests[row].tobytes().hex() for row in order)
        return digest_json_lists(digests, self.split[order].tolist(), names)

    def counts(self) -> dict[str, int]:
        """Images per part."""
        return {name: int((self.split == code).sum()) for code, name in enumerate(SPLITS)}

    @property
    def train_rows(self) -> np.ndarray:
        """The positions in `images.paths` of the train rows, of which there can be views."""
        return np.asarray(self.rows[self.split == TRAIN])

    @property
    def fitted(self) -> np.ndarray:
        """What a head is fitted on and judged by: the rows of the sample, then one for each view, the row it is of."""
        rows, train = np.arange(len(self.rows)), np.flatnonzero(self.split == TRAIN)
        return rows if self.views is None else np.concatenate([rows, train[self.views.of]])


def require_fittable(images: ImageSet) -> None:
    """Refuse images that no head can be fitted on, before anything is computed.

    Raises
    ------
    DataError
        No labels, or a single class.
    """
    if images.labels is None:
        why = "".join(f" {note}." for note in images.notes if "have no labels" in note)
        if why and "--label-columns" not in why:
            why += " Name the right one with --label-column."
        raise DataError(
            f"{images.source} has no labels: a folder per class or a CSV with labels is needed to fit.{why}"
        )
    if not images.classes:
        raise DataError(f"No image in {images.source} has a label yet. Give some a label: featx label {images.source}")
    if len(images.classes) < 2:
        raise DataError(
            f"A head needs two classes or more, but {images.source} has one class ({images.classes[0]}). Add another "
            "folder."
        )
