"""The cache folder: what is in it, and that it is closed."""

from __future__ import annotations

import gc
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

import featx
from featx.store.cache import Cache
from featx.store.key import Key

KEY = Key("tiny", "a" * 64, "b" * 64, (32, 48), "stretch", "c" * 64, "tf", "float32", "float16")


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        assert cache.store(KEY).directory == tmp_path / "cache" / KEY.directory
        assert cache.stores() == []
    assert not (tmp_path / "cache").exists()


def test_the_index_is_opened_once_and_closed_with_the_cache(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        index = cache.index
        assert cache.index is index
        index.remember("speed", "a", 1.5)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        index.recall("speed", "a")
    assert cache.index.recall("speed", "a") == 1.5  # it is opened again where it is asked for again
    cache.close()
    cache.close()


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_an_error_closes_it_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Cache(tmp_path) as cache:
        cache.index.remember("speed", "a", 1.5)
        raise KeyboardInterrupt
    del cache
    gc.collect()


def test_stores_are_found_whatever_their_folder_is_called(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.store(KEY).open({"name": "tiny"})
    (tmp_path / KEY.directory).rename(tmp_path / "renamed")
    (store,) = cache.stores()
    assert (store.key, store.directory) == (KEY, tmp_path / "renamed")
    assert store.made_of() == {"name": "tiny"}


def test_a_store_of_views_has_the_network_of_the_images(tmp_path: Path) -> None:
    images, views = Cache(tmp_path).store(KEY), Cache(tmp_path).store(replace(KEY, views="flip"))
    assert images.directory != views.directory
    assert images.graphs == views.graphs
    assert images.graphs.network(["high@avg"]).parent == images.directory / "graph"


def test_one_module_names_what_is_in_the_cache() -> None:
    package = Path(featx.__file__).parent
    for name, home in (("index.sqlite", "index.py"), ("key.json", "store.py"), ("leases", "store.py")):
        quoted = re.compile(f'"{re.escape(name)}"')
        assert [path.name for path in package.rglob("*.py") if quoted.search(path.read_text())] == [home]
