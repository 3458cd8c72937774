"""How far ImageNet's classes distinguish the user's own classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featx.io.jsontypes import Json


@dataclass(frozen=True)
class Separation:
    """How far the ImageNet class of an image determines its class among the user's.

    Attributes
    ----------
    purity : share of the images whose class is the commonest one among the other images with the same ImageNet class
        (a tie counts in part, an image whose ImageNet class no other has counts nothing): leave-one-out purity
    largest : the share of the largest class, which is what `purity` would be if ImageNet knew one class alone
    information : adjusted mutual information (Vinh, Epps and Bailey 2010): 0 is what chance gives, 1 is complete
    consistency : mean over the user's classes of the share that their commonest ImageNet class has
    """

    purity: float
    largest: float
    information: float
    consistency: float

    def as_json(self) -> dict[str, Json]:
        """What `featx look --json` prints of it."""
        return {
            "told": self.purity,
            "chance": self.largest,
            "information": self.information,
            "consistency": self.consistency,
        }


def measure_separation(first: np.ndarray, y: np.ndarray) -> Separation | None:
    """Compare ImageNet classes int64 (n,) with the user's int64 (n,); None where these are fewer than two.

    Plain purity and plain mutual information grow with the number of ImageNet classes that are seen, up to 1 where
    every image has one of its own; so each image is judged by the others, and information is adjusted for chance.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    if len(np.unique(y)) < 2:
        return None
    table = count_pairs(first, y)
    sizes = table.sum(axis=1)
    return Separation(
        purity=_leave_one_out_purity(table),
        largest=float(sizes.max() / sizes.sum()),
        information=float(adjusted_mutual_info_score(y, first)),
        consistency=float((table.max(axis=1) / sizes).mean()),
    )


def count_pairs(first: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How many images of each class have each ImageNet class that is seen: int64 (classes, seen), both ascending."""
    (classes, row), (seen, column) = (np.unique(values, return_inverse=True) for values in (y, first))
    table = np.zeros((len(classes), len(seen)), np.int64)
    np.add.at(table, (row, column), 1)
    return table


def _leave_one_out_purity(table: np.ndarray) -> float:
    """The mean chance that an image is of the commonest class among the others in its column."""
    right = 0.0
    for row, counts in enumerate(table):
        others = np.delete(table, row, axis=0)
        rival = others.max(axis=0)
        left = counts - 1  # of the image's own class, without itself
        tied = 1 + (others == left).sum(axis=0)
        share = np.where(left > rival, 1.0, np.where((left == rival) & (left > 0), 1 / tied, 0.0))
        right += float((counts * share).sum())
    return right / float(table.sum())
