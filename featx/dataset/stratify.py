"""Distribute units of images over parts so that every class and label is spread evenly."""

from __future__ import annotations

import numpy as np

from featx.dataset.imageset import NONE, TEST, TRAIN, VAL
from featx.dataset.units import Units

_PREFERENCE = (TRAIN, TEST, VAL)  # where the units of a class go that has fewer than there are splits


def stratify(units: Units, settled: np.ndarray, shares: np.ndarray, required: np.ndarray) -> np.ndarray:
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

    def __init__(self, units: Units, split: np.ndarray, shares: np.ndarray, required: np.ndarray) -> None:
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
    units: Units, divided: np.ndarray, shares: np.ndarray, allowed: np.ndarray, must: np.ndarray
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
