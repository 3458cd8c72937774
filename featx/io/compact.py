"""Long sequences in a few bytes for each item, where objects of Python would take a hundred: of millions of images."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar, overload

import numpy as np

from featx.io.urls import is_url

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


class Paths(Sequence[str]):
    """Paths or URLs by their folder, which many share, and their name: 16 bytes and the name for each.

    They compare with any other sequence of texts by their items.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._folders: list[str] = []  # each with the separator behind it
        self._names = bytearray()
        self._folder, self._start, self._length = array("i"), array("q"), array("i")
        self._number: dict[str, int] = {}
        self.extend(paths)

    def extend(self, paths: Iterable[str]) -> None:
        """Add more of them."""
        number, names = self._number, self._names
        add_folder, add_start, add_length = self._folder.append, self._start.append, self._length.append
        for path in paths:
            cut = max(path.rfind("/"), path.rfind(os.sep)) + 1
            name = path[cut:].encode("utf-8", "surrogatepass")  # names of files need not be text
            add_folder(number.setdefault(path[:cut], len(number)))
            add_start(len(names))
            add_length(len(name))
            names += name
        self._folders = list(number)

    @property
    def folders(self) -> Sequence[str]:
        """What some of the paths begin with; none is missing."""
        return self._folders

    def take(self, rows: np.ndarray) -> Paths:
        """Those at these positions."""
        taken = Paths()
        taken._folders, taken._number, taken._names = self._folders, self._number, self._names
        for column, source in (
            (taken._folder, self._folder),
            (taken._start, self._start),
            (taken._length, self._length),
        ):
            column.frombytes(np.frombuffer(source, source.typecode)[rows].tobytes() if len(source) else b"")
        return taken

    def __len__(self) -> int:
        return len(self._folder)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Paths: ...
    def __getitem__(self, row: int | slice) -> str | Paths:
        if isinstance(row, slice):
            return self.take(np.arange(*row.indices(len(self))))
        start = self._start[row]
        name = self._names[start : start + self._length[row]]
        return self._folders[self._folder[row]] + name.decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        folders, names = self._folders, self._names
        for number, start, length in zip(self._folder, self._start, self._length, strict=True):
            yield folders[number] + names[start : start + length].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def any_url(paths: Sequence[object]) -> bool:
    """Whether one of them is a URL; of many in few folders the folders show it."""
    return any(map(is_url, paths.folders if isinstance(paths, Paths) else paths))


class Picked(Sequence[Value], Generic[Value]):
    """Some items of a sequence, which are looked up when they are needed. rows : int (m,), their positions"""

    def __init__(self, items: Sequence[Value], rows: np.ndarray) -> None:
        self._items, self._rows = items, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> Value: ...
    @overload
    def __getitem__(self, row: slice) -> Picked[Value]: ...
    def __getitem__(self, row: int | slice) -> Value | Picked[Value]:
        return Picked(self._items, self._rows[row]) if isinstance(row, slice) else self._items[int(self._rows[row])]


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
