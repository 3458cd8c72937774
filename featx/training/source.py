"""Training data: labelled examples, and the network input made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from featx.images.augment import Augmenter
from featx.images.batches import Alter, Decoding, iter_batches
from featx.training.targets import Targets


@dataclass(frozen=True)
class Examples:
    """The images of every part and their labels.

    Attributes
    ----------
    paths : of n images
    split : uint8 (n,)
    classes : those that the network knows, and after them the others
    targets : of all n images; values are positions in `classes`, or 1 where an image has the label; weights are 1 on
        average over the training images
    known : how many classes the network knows
    groups : int64 (n,), equal for images that belong together; None where all are independent
    """

    paths: tuple[str, ...]
    split: np.ndarray
    classes: tuple[str, ...]
    targets: Targets
    known: int
    groups: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """int64 (n,), positions in `classes`; bool (n, known) where an image can have several."""
        return self.targets.values if self.targets.values.ndim == 1 else self.targets.values > 0

    def rows(self, code: int) -> np.ndarray:
        """Positions of the images of one part, int64."""
        return np.flatnonzero(self.split == code)

    def known_rows(self, code: int) -> np.ndarray:
        """Positions of those of a class that the network knows: the others can neither be trained nor be right."""
        known = self.labels.ndim == 2 or self.targets.values < self.known
        return np.flatnonzero((self.split == code) & known)


class Source(Protocol):
    """Examples, and what the network is given of them: their images, or what a frozen part of it makes of them."""

    @property
    def examples(self) -> Examples:
        """What is trained on, and what it is evaluated on."""

    def batches(self, rows: np.ndarray, size: int, epoch: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions, inputs float32 (n, ...)) of the readable ones of `rows`, in their order.

        size : rows per batch; fewer where some cannot be read
        epoch : from 0 on, in which they are trained on, which any augmentation depends on; None: as they are
        """


@dataclass(frozen=True)
class ImageSource:
    """Images, decoded as they are needed, and augmented where they are trained on: each epoch sees another view.

    Attributes
    ----------
    digests : (n,), of the content of each image
    size : (height, width); resize : as in `load_image`; workers : decoding threads, 0 for the best number
    """

    examples: Examples
    digests: np.ndarray
    size: tuple[int, int]
    resize: str
    workers: int
    augmenter: Augmenter

    def batches(self, rows: np.ndarray, size: int, epoch: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images (n, height, width, 3), RGB in [0, 255]: as they are, or the view 1 + `epoch` of each."""
        paths, alter = self.examples.paths, self._alter(epoch)
        for batch in iter_batches(paths, rows.tolist(), Decoding(self.size, self.resize, size, self.workers, alter)):
            if len(batch.rows):
                yield batch.rows, batch.images.astype(np.float32)

    def _alter(self, epoch: int | None) -> Alter | None:
        if epoch is None or not self.augmenter.policy.operations:
            return None
        return lambda row, image: self.augmenter(image, self.digests[row].tobytes(), 1 + epoch)
