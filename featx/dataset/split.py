"""Dividing images into train, val and test.

One algorithm for every kind of set: the iterative stratification of Sechidis, Tsoumakas and Vlahavas, "On the
Stratification of Multi-Label Data" (ECML PKDD 2011), over units. A unit is what must not be torn apart: the files of
the same bytes, and the images of one group. Classes are taken from the rarest on; every class has a whole number of
images it wants in each split, and each of its units goes where most are still wanted, large units first.

Units are ordered by their content and the seed alone: neither names nor the order of files change a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.config import DataOptions
from featx.dataset.digests import conflicts
from featx.dataset.imageset import NONE, TEST, TRAIN, VAL, ImageSet
from featx.dataset.stratify import stratify
from featx.dataset.units import Units
from featx.errors import DataError, UsageError
from featx.io.digest_arrays import NO_DIGEST, has_digest


@dataclass(frozen=True)
class Placed:
    """Which images are in which part: digests V32 (n,), ascending, each once; split uint8 (n,).

    As arrays, since of millions of images a mapping takes hundreds of bytes each.
    """

    digests: np.ndarray
    split: np.ndarray

    @classmethod
    def of(cls, digests: np.ndarray, split: np.ndarray) -> Placed:
        """The parts of digests in any order; where a digest comes twice, the first counts."""
        names, first = np.unique(digests, return_index=True)
        return cls(names, np.asarray(split, np.uint8)[first])

    def __len__(self) -> int:
        return len(self.digests)

    def find(self, digests: np.ndarray) -> np.ndarray:
        """uint8 (n,): the part of each digest, NONE where it has none."""
        found = np.full(len(digests), NONE, np.uint8)
        if len(self):
            place = np.minimum(np.searchsorted(self.digests, digests), len(self) - 1)
            match = self.digests[place] == digests
            found[match] = self.split[place][match]
        return found

    def replaced(self, by: Placed) -> Placed:
        """With other parts for some of the images, and others besides."""
        return Placed.of(np.concatenate([by.digests, self.digests]), np.concatenate([by.split, self.split]))


def split_images(
    images: ImageSet,
    digests: np.ndarray,
    usable: np.ndarray,
    options: DataOptions,
    kept: Placed | None = None,
) -> np.ndarray:
    """Give every image its split.

    Declared splits stay, then those in `kept`, but for groups that would be torn apart; what is left brings every class
    near the shares of `options.split`. A class of three units or more is in every split that has a share (unless groups
    of mixed labels leave no way); one of two in train and test; one of one in train.
    Where the data declares train and test and no val, val is carved from train in the ratio of their shares.

    Parameters
    ----------
    images : the set, with labels
    digests : V32 (n,), of the images' bytes
    usable : bool (n,), which images could be read
    options : `split`, `seed` and `max_train` are used
    kept : where images were in an earlier run

    Returns
    -------
    uint8 (n,), TRAIN, VAL or TEST; NONE for images that are not usable, have no label, have another label elsewhere
    under the same bytes, or are beyond `max_train`

    Raises
    ------
    DataError
        When the set has no labels, or when `max_train` leaves a class without images.
    UsageError
        When the shares are not shares.
    """
    if images.labels is None:
        raise DataError(f"{images.source} has no labels, so it cannot be split. Give a folder per class, or a CSV.")
    shares = _check_shares(options.split)
    rows = _splittable(images, digests, usable)
    split = np.full(len(images), NONE, np.uint8)
    if not len(rows):
        return split
    units = Units.of(images, digests, rows, options.seed)
    declared = np.full(len(rows), NONE, np.uint8) if images.declared is None else images.declared[rows]
    before = np.full(len(rows), NONE, np.uint8) if kept is None else kept.find(digests[rows])
    fixed, shares = _fix(declared, before, shares)
    if images.groups is not None:
        fixed = _free_torn(fixed, declared, units)
    assigned = stratify(units, units.settled(fixed), shares, shares > 0)
    chosen = np.where(fixed == NONE, assigned[units.of_row], fixed)
    # The copy of a test image among the training images stays where it is declared; `check_images` reports it.
    split[rows] = np.where((declared == TRAIN) & (chosen == TEST), TRAIN, chosen)
    if options.max_train is not None:
        _drop_training(split, rows, images, digests, options)
    return split


def split_in_order(images: ImageSet, digests: np.ndarray, usable: np.ndarray, options: DataOptions) -> np.ndarray:
    """Split without shuffling: the first images are train, the next val, the last test.

    images, digests, usable, options : as in `split_images`; `split` is used. Copies and groups stay together, in the
        part of their first image.

    Returns
    -------
    uint8 (n,), as in `split_images`

    Raises
    ------
    DataError
        When the set has no labels.
    UsageError
        When the shares are not shares, the data declares its parts, or `max_train` is set.
    """
    if images.labels is None:
        raise DataError(f"{images.source} has no labels, so it cannot be split. Give a folder per class, or a CSV.")
    if images.declared is not None and (images.declared != NONE).any():
        raise UsageError(f"{images.source} declares its parts, so nothing is left to split. Leave out --no-shuffle.")
    if options.max_train is not None:
        raise UsageError("data.max_train draws training images by chance. Leave it out, or leave out --no-shuffle.")
    ends = np.cumsum(_check_shares(options.split))
    rows = _splittable(images, digests, usable)
    split = np.full(len(images), NONE, np.uint8)
    if len(rows):
        unit = Units.of(images, digests, rows, options.seed).of_row
        first = np.full(unit.max() + 1, len(rows))
        np.minimum.at(first, unit, np.arange(len(rows)))
        place = (first[unit] + 0.5) / len(rows)
        split[rows] = np.minimum(np.searchsorted(ends, place), TEST)
    return split


def _check_shares(shares: Sequence[float]) -> np.ndarray:
    values = np.array(shares, np.float64)
    if values.shape != (3,) or not (values >= 0).all() or abs(values.sum() - 1) > 1e-6:
        text = ",".join(f"{share:g}" for share in shares)
        raise UsageError(
            f"The split {text} must be three shares, of train, val and test, that add up to 1: 0.8,0.1,0.1."
        )
    return values


def _splittable(images: ImageSet, digests: np.ndarray, usable: np.ndarray) -> np.ndarray:
    keep = usable & has_digest(digests)
    if images.labels is not None and not images.multilabel:
        keep = keep & (images.labels >= 0)
    keep[[row for torn in conflicts(images, np.where(keep, digests, NO_DIGEST)) for row in torn]] = False
    return np.flatnonzero(keep)


def _fix(declared: np.ndarray, kept: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The split of the rows that have one already, NONE for the others, and the shares for these."""
    has = {split: bool((declared == split).any()) for split in (TRAIN, VAL, TEST)}
    if has[TRAIN] and has[TEST] and not has[VAL] and shares[VAL] > 0:
        # The test set is given. Everything else is divided into train and val, as it was before where it was.
        carved = np.where((kept == TRAIN) | (kept == VAL), kept, NONE)
        within = np.where([True, True, False], shares, 0.0)
        return np.where(declared == TEST, TEST, carved).astype(np.uint8), within / within.sum()
    return np.where(declared == NONE, kept, declared).astype(np.uint8), shares


def _free_torn(fixed: np.ndarray, declared: np.ndarray, units: Units) -> np.ndarray:
    """The same, and NONE for rows of units that an earlier run, which did not know of their groups, has torn apart."""
    has = fixed != NONE
    low, high = np.full(len(units.size), NONE, np.uint8), np.zeros(len(units.size), np.uint8)
    np.minimum.at(low, units.of_row[has], fixed[has])
    np.maximum.at(high, units.of_row[has], fixed[has])
    carved = bool((declared == TEST).any() and (declared == TRAIN).any() and not (declared == VAL).any())
    by_data = declared == TEST if carved else declared != NONE
    return np.where((low < high)[units.of_row] & ~by_data, NONE, fixed).astype(np.uint8)


def _drop_training(
    split: np.ndarray, rows: np.ndarray, images: ImageSet, digests: np.ndarray, options: DataOptions
) -> None:
    """Put training images beyond `max_train` into no split, in place: the same share of every class."""
    limit = options.max_train or 0
    rows = rows[split[rows] == TRAIN]
    units = Units.of(images, digests, rows, options.seed)
    total = int(units.size.sum())
    if total <= limit:
        return
    shares = np.array([limit / total, 1 - limit / total, 0.0])
    taken = stratify(units, np.full(len(units.size), NONE, np.uint8), shares, np.array([True, False, False])) == 0
    left, over = units.counts_in(taken), int(units.size[taken].sum()) - limit
    for unit in reversed(units.order.tolist()):  # what rounding and large units put above the limit
        classes, counts = units.classes_of(unit)
        if over > 0 and taken[unit] and (left[classes] > counts).all():
            taken[unit] = False
            left[classes] -= counts
            over -= int(units.size[unit])
    if over > 0:
        raise DataError(f"max_train {limit} is too few: there would be a class without a training image. Raise it.")
    split[rows[~taken[units.of_row]]] = NONE
