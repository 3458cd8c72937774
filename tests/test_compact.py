"""Long sequences in few bytes, against lists and dictionaries of Python."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from featx.images.batches import decoding_threads
from featx.io.compact import Coded, Paths, Picked, RowLookup, any_url
from featx.io.urls import AT_ONCE


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


def test_paths_are_those_of_a_tuple() -> None:
    texts = (
        "/a/b.png",
        "/a/c.png",
        "/d",
        "e",
        "",
        "s3://bucket/a/é.png",
        "/a/\udcff\ud83d\ude00.png",
        "/a/b/",
        "/a/b.png",
    )
    found = Paths(texts)
    assert tuple(found) == texts
    assert found == texts
    assert texts == found
    assert found != texts[1:]
    assert found != "/a/b.png"
    assert hash(found) == hash(texts)
    assert [found[row] for row in range(-9, 9)] == [*texts, *texts]
    with pytest.raises(IndexError):
        found[9]
    assert found[2:7:2] == texts[2:7:2]
    assert found.index("/a/c.png") == 1
    assert "e" in found
    some = found.take(np.array([8, 0, 4]))
    some.extend(["/d/x", "/f/y"])
    assert some == ("/a/b.png", "/a/b.png", "", "/d/x", "/f/y")
    assert found == texts
    assert pickle.loads(pickle.dumps(some)) == some
    assert repr(Paths()) == "()"
    assert any_url(found)
    assert not any_url(Paths(texts[:5]))
    assert any_url(texts)
    assert list(Picked(found, np.array([3, 0]))[0:2]) == ["e", "/a/b.png"]


@pytest.mark.parametrize("kind", [list, tuple, Paths])
def test_servers_are_asked_by_more_threads(kind: Callable[[list[str]], Sequence[str]]) -> None:
    """Whatever sequence holds the paths."""
    assert decoding_threads(kind([f"/a/{row}.png" for row in range(40)]), 2) == 2
    assert decoding_threads(kind([f"https://example.org/{row}.png" for row in range(40)]), 2) == AT_ONCE


def test_a_path_takes_few_bytes() -> None:
    tracemalloc.start()
    found = Paths(f"/data/photos/class{row // 1000}/{row:08d}.jpg" for row in range(20_000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 20_000
    assert held / len(found) < 40
