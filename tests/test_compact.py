"""Long sequences in few bytes, against lists and dictionaries of Python."""

from __future__ import annotations

import numpy as np
import pytest

from featx.io.compact import Coded, RowLookup


def test_coded_items_are_those_of_a_list() -> None:
    items = [("a",), (), ("b", "a"), (), ("a",)] * 2000
    found = Coded.of(items)
    assert list(found) == items
    assert len(found) == len(items)
    assert found.values == (("a",), (), ("b", "a"))
    assert found[-1] == ("a",)
    assert list(found[1:4]) == items[1:4]
    assert found.marked({one: bool(one) for one in found.values}).tolist() == [bool(one) for one in items]
    assert list(found.followed_by(Coded.same((), 2))) == [*items, (), ()]
    others = found.replaced(np.array([0, 3]), Coded.of([("c",), ("b", "a")]))
    assert list(others) == [("c",), *items[1:3], ("b", "a"), *items[4:]]
    assert list(found) == items
    assert list(Coded.of([])) == []


class Alike(str):
    """A text whose hash is that of others."""

    __slots__ = ()

    def __hash__(self) -> int:
        return len(self) % 2


@pytest.mark.parametrize("kind", [str, Alike])
def test_rows_are_found_by_their_text(kind: type[str]) -> None:
    random = np.random.default_rng(0)
    texts = [kind(f"{one}.png") for one in random.integers(0, 60, 100)]
    found = RowLookup(texts)
    first = {text: texts.index(text) for text in texts}
    assert [found.find(text) for text in texts] == [first[text] for text in texts]
    assert found.find(kind("another.png")) is None
    assert found.repeated.tolist() == [row for row, text in enumerate(texts) if first[text] != row]
    assert RowLookup([]).find("a") is None
