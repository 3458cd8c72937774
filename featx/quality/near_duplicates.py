"""Pairs of images that are nearly the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.features import Features
from featx.metrics.similarity import close_pairs

NEAR = 0.95
"""Cosine similarity from which two images count as near-duplicates. Of 1,500 digits and of 1,500 Fashion-MNIST images,
on an inner and on the last layer of EfficientNetLite0, 99 % have no other image closer than 0.93 to 0.963. The median
of their JPEG copies of quality 90 is at 0.954 to 0.981, of copies brighter by a tenth above 0.989. Copies that are cut
by a tenth or halved in size mostly are as far away as other images, and not found."""
MOST_PAIRS = 10_000  # of either kind, within a part and across parts


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of nearly equal images: those in different parts of the split first, then by similarity.

    first, second : int64 (m,), positions; similarity : float32 (m,); across : bool (m,), in different parts
    complete : whether there are no more than these
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    across: np.ndarray
    complete: bool = True

    def __len__(self) -> int:
        return len(self.first)


def find_near_duplicates(
    features: Features, split: np.ndarray, threshold: float = NEAR, most: int = MOST_PAIRS
) -> NearDuplicates:
    """All pairs of images whose features have at least this cosine similarity; compared exactly, block by block.

    Parameters
    ----------
    features : of n rows, no two of the same image
    split : (n,), the part of each row
    most : pairs to keep of either kind
    """
    across, within = close_pairs(features, threshold, split, most + 1)
    some = [(pairs.first[:most], pairs.second[:most], pairs.similarity[:most]) for pairs in (across, within)]
    first, second, similarity = (np.concatenate(column) for column in zip(*some, strict=True))
    apart = np.arange(len(first)) < len(some[0][0])
    complete = max(len(across.first), len(within.first)) <= most
    return NearDuplicates(first, second, similarity, apart, complete)
