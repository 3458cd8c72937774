"""The units that a split keeps together: an image with its copies, or a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.dataset.imageset import NONE, ImageSet
from featx.io.digest_arrays import as_bytes


@dataclass(frozen=True)
class Units:
    """What must not be torn apart. Images of the same bytes count once.

    Attributes
    ----------
    of_row : int64 (rows,), the unit of each row
    size : int64 (units,), different images
    order : int64 (units,), the units in an order that only contents and the seed decide
    start, code, count : the classes of a unit, ascending, are `code[start[unit] : start[unit + 1]]`, and `count` says
        how many of its images have each
    classes : how many classes there are, one more than the set has: the last is that of images without any label
    """

    of_row: np.ndarray
    size: np.ndarray
    order: np.ndarray
    start: np.ndarray
    code: np.ndarray
    count: np.ndarray
    classes: int

    @classmethod
    def of(cls, images: ImageSet, digests: np.ndarray, rows: np.ndarray, seed: int) -> Units:
        """Connect the copies of an image and the images of a group; units come in an order drawn by the seed."""
        names, first, image_of_row = np.unique(digests[rows], return_index=True, return_inverse=True)
        unit_of_image = _connect(images, rows, image_of_row, len(names))
        size = np.bincount(unit_of_image)
        key = np.full(len(size), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(key, unit_of_image, _mix(names, seed))
        image, code = label_pairs(images, rows[first])
        classes = len(images.classes) + 1
        pairs, count = np.unique(unit_of_image[image] * classes + code, return_counts=True)
        start = np.searchsorted(pairs, np.arange(len(size) + 1) * classes)
        return cls(
            unit_of_image[image_of_row], size, np.argsort(key, kind="stable"), start, pairs % classes, count, classes
        )

    def classes_of(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes of a unit, and how many of its images have each."""
        part = slice(self.start[unit], self.start[unit + 1])
        return self.code[part], self.count[part]

    def counts_in(self, chosen: np.ndarray) -> np.ndarray:
        """int64 (classes,): images of each class in the units that are chosen (bool)."""
        weights = np.repeat(chosen, np.diff(self.start)) * self.count
        return np.bincount(self.code, weights, self.classes).astype(np.int64)

    def settled(self, fixed: np.ndarray) -> np.ndarray:
        """uint8 (units,): where each unit belongs because a row of it does; NONE for those that are free.

        A unit whose rows are declared to be in several splits belongs to the first of them.
        """
        settled = np.full(len(self.size), NONE, np.uint8)
        np.minimum.at(settled, self.of_row, fixed)
        return settled


def group_codes(images: ImageSet, digests: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """int64 (rows,): the group of each row, None where there are none.

    A row without a group is one of its own; groups that share an image, by its bytes, are one.
    """
    if images.groups is None:
        return None
    names, image_of_row = np.unique(digests[rows], return_inverse=True)
    unit = _connect(images, rows, image_of_row, len(names))[image_of_row]
    known, code = np.unique(images.groups, return_inverse=True)
    alone = np.array([not images.groups[row] for row in rows.tolist()], bool)
    code = np.where(alone, len(known) + np.arange(len(rows)), code[rows])
    lowest = np.full(len(names), len(known) + len(rows))
    np.minimum.at(lowest, unit, code)
    return np.asarray(lowest[unit], np.int64)


def _connect(images: ImageSet, rows: np.ndarray, image_of_row: np.ndarray, count: int) -> np.ndarray:
    """int64 (images,): the unit of every different image, connected through groups."""
    if images.groups is None:
        return np.arange(count)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = np.array([images.groups[row] for row in rows], dtype=object)
    grouped = np.flatnonzero(names != "")
    group = np.unique(names[grouped], return_inverse=True)[1] if len(grouped) else grouped
    nodes = count + (int(group.max()) + 1 if len(group) else 0)
    edges = coo_array((np.ones(len(grouped), bool), (image_of_row[grouped], count + group)), shape=(nodes, nodes))
    component = connected_components(edges, directed=False)[1][:count]
    return np.unique(component, return_inverse=True)[1].astype(np.int64)


def _mix(names: np.ndarray, seed: int) -> np.ndarray:
    """uint64 (n,): a pseudo-random number of each digest and the seed (the finaliser of SplitMix64, Steele 2014)."""
    words = as_bytes(names)[:, :8].copy().view("<u8")[:, 0]
    mixed = words + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def label_pairs(images: ImageSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position in `rows` and class of every label; an image without any has the class after the last."""
    labels = images.labels
    if labels is None or not images.multilabel:
        return np.arange(len(rows)), np.zeros(len(rows), np.int64) if labels is None else labels[rows]
    marks = np.column_stack([labels[rows], ~labels[rows].any(axis=1)])
    position, code = np.nonzero(marks)
    return position, code
