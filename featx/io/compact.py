"""Long sequences in a few bytes for each item, where objects of Python would take a hundred: of millions of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar, overload

import numpy as np

Value = TypeVar("Value")

_CHUNK = 4096  # items that are looked at together


@dataclass(frozen=True, eq=False)
class Coded(Sequence[Value], Generic[Value]):
    """A sequence of values of which many are equal: each of them once, and by number.

    codes : int32 (n,), positions in `values`
    """

    codes: np.ndarray
    values: tuple[Value, ...]

    @classmethod
    def of(cls, items: Iterable[Value], n: int | None = None) -> Self:
        """The items, which can be hashed. n : how many there are, where that is known"""
        number: dict[Value, int] = {}
        codes = np.fromiter((number.setdefault(one, len(number)) for one in items), np.int32, -1 if n is None else n)
        return cls(codes, tuple(number))

    @classmethod
    def same(cls, value: Value, n: int) -> Self:
        """One value, n times."""
        return cls(np.zeros(n, np.int32), (value,))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, row: int) -> Value: ...
    @overload
    def __getitem__(self, row: slice) -> Coded[Value]: ...
    def __getitem__(self, row: int | slice) -> Value | Coded[Value]:
        return Coded(self.codes[row], self.values) if isinstance(row, slice) else self.values[self.codes[row]]

    def __iter__(self) -> Iterator[Value]:
        for start in range(0, len(self.codes), _CHUNK):
            yield from map(self.values.__getitem__, self.codes[start : start + _CHUNK].tolist())

    def followed_by(self, other: Coded[Value]) -> Coded[Value]:
        """These items, then others."""
        return Coded(np.concatenate([self.codes, other.codes + np.int32(len(self.values))]), self.values + other.values)

    def replaced(self, rows: np.ndarray, others: Coded[Value]) -> Coded[Value]:
        """The same with other items in some rows. rows : int (m,), of m others"""
        codes = self.codes.copy()
        codes[rows] = others.codes + np.int32(len(self.values))
        return Coded(codes, self.values + others.values)

    def marked(self, test: Mapping[Value, bool]) -> np.ndarray:
        """Which items a test of their values holds for: bool (n,)."""
        return np.asarray(np.array([test[value] for value in self.values], bool)[self.codes])


class RowLookup:
    """The first row of each text of a sequence, by 12 bytes for each.

    repeated : int64 (m,), the rows whose text an earlier one has
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        keys = np.fromiter(map(hash, texts), np.int64, len(texts))
        self._rows = np.argsort(keys, kind="stable").astype(np.int32)
        self._keys = keys[self._rows]
        alike = np.flatnonzero(self._keys[1:] == self._keys[:-1]) + 1
        found = [row for row in self._rows[alike].tolist() if self.find(texts[row]) != row]
        self.repeated = np.array(sorted(found), np.int64)

    def find(self, text: str) -> int | None:
        """The first row of a text; None where it has none."""
        at = int(np.searchsorted(self._keys, hash(text)))
        while at < len(self._keys) and self._keys[at] == hash(text):
            row = int(self._rows[at])
            if self._texts[row] == text:
                return row
            at += 1
        return None
