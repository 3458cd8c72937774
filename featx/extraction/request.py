"""A request: rows, each a view of an image, found in the store by digest and view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from featx.dataset import Digests, ImageSet, digest_images
from featx.dataset.digests import digest_contents
from featx.images.decoder import decoder_version
from featx.images.sources import Pinned, Source
from featx.io.compact import any_url
from featx.io.digest_arrays import digest_array, first_of_equal, is_among
from featx.io.index import StatIndex
from featx.io.progress import Progress
from featx.io.urls import is_url
from featx.store.table import identities

RowKind = Literal["image"]  # what a row is of; boxes in images and tiles of them may come


@dataclass(frozen=True, eq=False)
class Request:
    """Rows whose features are wanted.

    Attributes
    ----------
    images : n images; one comes as often as views of it are asked for
    digests : V32 (n,), of their contents
    views : uint16 (n,), which view of its image each row is; 0 is the image itself
    unreadable : row -> reason, of those that are known not to be readable
    row_kind : what a row is of
    """

    images: ImageSet
    digests: np.ndarray
    views: np.ndarray
    unreadable: Mapping[int, str] = field(default_factory=dict)
    row_kind: RowKind = "image"

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def identities(self) -> np.ndarray:
        """By what the rows are found in the store: V34 (n,)."""
        return identities(self.digests, self.views)

    def different(self, rows: np.ndarray) -> np.ndarray:
        """The first of some rows (positions, ascending) of every different image and view."""
        names = self.identities if self.views.any() else self.digests
        return np.asarray(rows[first_of_equal(names if len(rows) == len(names) else names[rows])])

    @cached_property
    def sources(self) -> Sequence[Source]:
        """What to decode; a URL with its digest, which is cheaper than to ask a server whether the file has changed."""
        images = self.images
        if images.contents is not None or not any_url(images.paths):
            return images.sources
        pairs = zip(images.paths, self.digests.tolist(), strict=True)
        return [Pinned(path, digest) if is_url(path) else path for path, digest in pairs]

    @property
    def noun(self) -> str:
        """What a row is, in a sentence."""
        return "view" if self.views.any() else "image"


def request_images(images: ImageSet, index: StatIndex, progress: Progress) -> Request:
    """The images themselves: digests of all files, and which are remembered as unreadable by this decoder."""
    found = _digest(images, index, lambda done: progress("hash", done, len(images)))
    unreadable, known = dict(found.bad), index.known_unreadable(decoder_version())
    for row in np.flatnonzero(is_among(found.digest, digest_array(known))).tolist():
        unreadable.setdefault(row, known[found.digest[row].tobytes()])
    return Request(images, found.digest, np.zeros(len(images), np.uint16), unreadable)


def _digest(images: ImageSet, index: StatIndex, progress: Callable[[int], None]) -> Digests:
    if images.contents is not None:
        return digest_contents(images.contents, progress)
    return digest_images(images.paths, index, progress)


def request_views(images: ImageSet, digests: np.ndarray, each: int) -> Request:
    """The first views of different images, numbered from 1 on, all views of an image after each other.

    digests : V32 (n,), of the images; each : views of every image
    """
    numbers = np.tile(np.arange(1, each + 1, dtype=np.uint16), len(images))
    return Request(images.take(np.repeat(np.arange(len(images)), each)), np.repeat(digests, each), numbers)
