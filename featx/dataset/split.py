"""Dividing images into train, val and test.

One algorithm for every kind of set: the iterative stratification of Sechidis, Tsoumakas and Vlahavas, "On the
Stratification of Multi-Label Data" (ECML PKDD 2011), over units. A unit is what must not be torn apart: the files of
the same bytes, and the images of one group. Classes are taken from the rarest on; every class has a whole number of
images it wants in each split, and each of its units goes where most are still wanted, large units first.

Units are ordered by their content and the seed alone: neither names nor the order of files change a split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featx.dataset.digests import conflicts
from featx.dataset.imageset import NONE, TEST, TRAIN, VAL, ImageSet
from featx.errors import DataError, UsageError
from featx.options import DataOptions

_PREFERENCE = (TRAIN, TEST, VAL)  # where the units of a class go that has fewer than there are splits


def split_images(
    images: ImageSet,
    digests: np.ndarray,
    usable: np.ndarray,
    options: DataOptions,
    kept: Mapping[bytes, int] | None = None,
) -> np.ndarray:
    """Give every image its split.

    Declared splits stay, then those in `kept`; what is left brings every class near the shares of `options.split`. A
    class of three units or more is in every split that has a share (unless groups of mixed labels leave no way); one of
    two in train and test; one of one in train.
    Where the data declares train and test and no val, val is carved from train in the ratio of their shares.

    Parameters
    ----------
    images : the set, with labels
    digests : S32 (n,), of the images' bytes
    usable : bool (n,), which images could be read
    options : `split`, `seed` and `max_train` are used
    kept : digest -> split in an earlier run

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
    units = _Units.of(images, digests, rows, options.seed)
    declared = np.full(len(rows), NONE, np.uint8) if images.declared is None else images.declared[rows]
    fixed, shares = _fix(declared, _look_up(digests[rows], kept or {}), shares)
    assigned = _stratify(units, units.settled(fixed), shares, shares > 0)
    chosen = np.where(fixed == NONE, assigned[units.of_row], fixed)
    # The copy of a test image among the training images stays where it is declared; `check_images` reports it.
    split[rows] = np.where((declared == TRAIN) & (chosen == TEST), TRAIN, chosen)
    if options.max_train is not None:
        _drop_training(split, rows, images, digests, options)
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
    keep = usable & (digests != b"")
    if images.labels is not None and not images.multilabel:
        keep = keep & (images.labels >= 0)
    keep[[row for torn in conflicts(images, np.where(keep, digests, b"")) for row in torn]] = False
    return np.flatnonzero(keep)


def _look_up(digests: np.ndarray, kept: Mapping[bytes, int]) -> np.ndarray:
    """uint8 (n,): the earlier split of each digest, NONE where it had none."""
    found = np.full(len(digests), NONE, np.uint8)
    if not kept:
        return found
    names = np.array(list(kept), "S32")
    values = np.array(list(kept.values()), np.uint8)
    order = np.argsort(names)
    place = np.minimum(np.searchsorted(names[order], digests), len(names) - 1)
    match = names[order][place] == digests
    found[match] = values[order][place][match]
    return found


def _fix(declared: np.ndarray, kept: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The split of the rows that have one already, NONE for the others, and the shares for these."""
    has = {split: bool((declared == split).any()) for split in (TRAIN, VAL, TEST)}
    if has[TRAIN] and has[TEST] and not has[VAL] and shares[VAL] > 0:
        # The test set is given. Everything else is divided into train and val, as it was before where it was.
        carved = np.where((kept == TRAIN) | (kept == VAL), kept, NONE)
        within = np.where([True, True, False], shares, 0.0)
        return np.where(declared == TEST, TEST, carved).astype(np.uint8), within / within.sum()
    return np.where(declared == NONE, kept, declared).astype(np.uint8), shares


def _drop_training(
    split: np.ndarray, rows: np.ndarray, images: ImageSet, digests: np.ndarray, options: DataOptions
) -> None:
    """Put training images beyond `max_train` into no split, in place: the same share of every class."""
    limit = options.max_train or 0
    rows = rows[split[rows] == TRAIN]
    units = _Units.of(images, digests, rows, options.seed)
    total = int(units.size.sum())
    if total <= limit:
        return
    shares = np.array([limit / total, 1 - limit / total, 0.0])
    taken = _stratify(units, np.full(len(units.size), NONE, np.uint8), shares, np.array([True, False, False])) == 0
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


@dataclass(frozen=True)
class _Units:
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
    def of(cls, images: ImageSet, digests: np.ndarray, rows: np.ndarray, seed: int) -> _Units:
        names, first, image_of_row = np.unique(digests[rows], return_index=True, return_inverse=True)
        unit_of_image = _connect(images, rows, image_of_row, len(names))
        size = np.bincount(unit_of_image)
        key = np.full(len(size), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(key, unit_of_image, _mix(names, seed))
        image, code = _label_pairs(images, rows[first])
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
    words = names.view(np.uint8).reshape(len(names), 32)[:, :8].copy().view("<u8")[:, 0]
    mixed = words + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _label_pairs(images: ImageSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position in `rows` and class of every label; an image without any has the class after the last."""
    labels = images.labels
    if labels is None or not images.multilabel:
        return np.arange(len(rows)), np.zeros(len(rows), np.int64) if labels is None else labels[rows]
    marks = np.column_stack([labels[rows], ~labels[rows].any(axis=1)])
    position, code = np.nonzero(marks)
    return position, code


def _stratify(units: _Units, settled: np.ndarray, shares: np.ndarray, required: np.ndarray) -> np.ndarray:
    """Give every free unit a split.

    Parameters
    ----------
    units : the units
    settled : uint8 (units,), the split of those that have one, NONE for the others
    shares : float64 (3,), of the splits; they add up to 1
    required : bool (3,), the splits that every class with enough units is in

    Returns
    -------
    uint8 (units,), no NONE
    """
    state = _Assignment(units, settled.copy(), shares, required)
    while True:
        waiting = np.where(state.free > 0, state.free, np.iinfo(np.int64).max)
        code = int(waiting.argmin())  # the rarest class
        if state.free[code] == 0:
            return state.split
        state.assign_class(code)


class _Assignment:
    """Units on their way to splits: what every class still wants, and what is still free."""

    def __init__(self, units: _Units, split: np.ndarray, shares: np.ndarray, required: np.ndarray) -> None:
        self.units, self.split = units, split
        self.used = shares > 0
        unit_of_pair = np.repeat(np.arange(len(split)), np.diff(units.start))
        ranked = np.empty(len(split), np.int64)
        ranked[units.order] = np.arange(len(split))
        # Large units first, since small ones can still even out what they leave; then by content and seed.
        by_class = np.lexsort((ranked[unit_of_pair], -units.size[unit_of_pair], units.code))
        bounds = np.searchsorted(units.code[by_class], np.arange(units.classes + 1))
        self.members = np.split(unit_of_pair[by_class], bounds[1:-1])
        # Most units are one image with one label: those need no look at other classes.
        self.simple = (units.size == 1) & (np.diff(units.start) == 1)
        self.free = np.bincount(units.code[split[unit_of_pair] == NONE], minlength=units.classes)
        self.has = np.zeros((units.classes, 3), bool)
        taken = split[unit_of_pair] != NONE
        self.has[units.code[taken], split[unit_of_pair][taken]] = True
        divided = (split == NONE) | self.used[np.minimum(split, TEST)]  # not what is in a part without a share
        total = units.size[divided].sum() * shares - np.bincount(split[split != NONE], units.size[split != NONE], 3)
        self.wanted_in_all = total.astype(np.float64)
        self.must = np.array([self._must_have(len(members), required) for members in self.members])
        self.allowed = np.array([self._may_have(*pair) for pair in zip(self.members, self.must, strict=True)])
        self.wanted = _targets(units, divided, shares, self.allowed, self.must)
        for part in range(3):
            self.wanted[:, part] -= units.counts_in(split == part)

    def _must_have(self, count: int, required: np.ndarray) -> np.ndarray:
        """The splits that a class of so many units must be in: bool (3,)."""
        must = np.zeros(3, bool)
        must[[part for part in _PREFERENCE if self.used[part] and required[part]][:count]] = True
        return must

    def _may_have(self, members: np.ndarray, must: np.ndarray) -> np.ndarray:
        """The splits that a class may be in: all that have a share, unless it has too few units for them."""
        few = len(members) < self.used.sum() and must.any()
        return must if few else self.used

    def assign_class(self, code: int) -> None:
        """Give every free unit of a class its split."""
        members = self.members[code]
        members = members[self.split[members] == NONE]
        simple = self.simple[members]
        for unit in members[~simple].tolist():
            self._assign_unit(unit, code)
        self._assign_simple(members[simple], code)

    def _assign_unit(self, unit: int, code: int) -> None:
        classes, counts = self.units.classes_of(unit)
        allowed = self.allowed[code]
        missing = self.must[classes] & ~self.has[classes]
        for urgent in missing[self.free[classes] <= missing.sum(axis=1)]:  # classes that need all their units
            allowed = allowed & urgent if (allowed & urgent).any() else allowed
        part = max(
            np.flatnonzero(allowed).tolist(),
            key=lambda part: (self.wanted[code, part], self.wanted_in_all[part], -part),
        )
        self.split[unit] = part
        self.wanted[classes, part] -= counts
        self.wanted_in_all[part] -= self.units.size[unit]
        self.has[classes, part] = True
        self.free[classes] -= 1

    def _assign_simple(self, members: np.ndarray, code: int) -> None:
        count = len(members)
        if not count:
            return
        missing = self.must[code] & ~self.has[code]
        share = np.maximum(self.wanted[code], 0) * self.allowed[code].astype(np.float64)
        if not share.any():
            share = self.allowed[code].astype(np.float64)
        places = _round_shares(share * (count / share.sum()), count, np.zeros(3), missing)
        self.split[members] = np.repeat(np.arange(3, dtype=np.uint8), places)
        self.wanted[code] -= places
        self.wanted_in_all -= places
        self.has[code] |= places > 0
        self.free[code] -= count


def _targets(
    units: _Units, divided: np.ndarray, shares: np.ndarray, allowed: np.ndarray, must: np.ndarray
) -> np.ndarray:
    """int64 (classes, 3): how many images every class wants in every split, of the units that are divided (bool).

    The largest remainder is rounded up; what rounding owes a split is carried on to the next class, so that many small
    classes do not all favour the same split.
    """
    counts = units.counts_in(divided)
    targets = np.zeros((units.classes, 3), np.int64)
    owed = np.zeros(3)
    for code in np.argsort(counts, kind="stable").tolist():
        share = shares * allowed[code]
        exact = counts[code] * share / share.sum()
        targets[code] = _round_shares(exact, int(counts[code]), owed, must[code])
        owed += counts[code] * shares - targets[code]
    return targets


def _round_shares(exact: np.ndarray, total: int, owed: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Round numbers that add up to `total` up or down so that they still do.

    Those are rounded up that have the largest remainder, with what is `owed` to them. Then each that is `needed` (bool)
    gets one, if need be from the largest.
    """
    whole = np.floor(exact + 1e-9).astype(np.int64)
    remainder = exact - whole
    claim = np.where(remainder > 1e-9, np.round(remainder + owed, 9), -np.inf)
    whole[np.argsort(-claim, kind="stable")[: total - int(whole.sum())]] += 1
    for part in np.flatnonzero(needed & (whole == 0)):
        if whole.max() > 1:
            whole[whole.argmax()] -= 1
            whole[part] += 1
    return whole
