"""The cache folder: one feature store per key, and the index of known files and networks.

    cache/
      index.sqlite                            what is remembered (`featx/io/index.py`)
      <backbone>-<input size>-<key8>/         a feature store (`featx/store/store.py`)
      calibration/                            the images that int8 is calibrated on (`featx/store/calibration.py`)
      hub/OWNER/NAME/                         networks of Hugging Face (`featx/backbones/hub/hugging_face.py`)

A command, a public function or a worker opens it once and passes it on; no other module names anything in it.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from featx.errors import StoreError
from featx.io.files import remove_stale
from featx.io.index import INDEX_FILE, StatIndex
from featx.io.temporary import remove_temporary_folders_of_the_dead
from featx.store.key import NO_VIEWS, Key

if TYPE_CHECKING:
    from featx.store.damage import Checks
    from featx.store.store import FeatureStore

_CALIBRATION = "calibration"
_logger = logging.getLogger(__name__)


class Cache:
    """A cache folder. Use it as a context, which closes the index; nothing is opened or written before it is needed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._index: StatIndex | None = None
        self._warned = set[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the index; it is opened again where it is asked for again."""
        if self._index is not None:
            self._index.close()
            self._index = None

    @property
    def index(self) -> StatIndex:
        """What is remembered of unchanged files and of networks."""
        if self._index is None:
            self._index = StatIndex(self.path / INDEX_FILE)
        return self._index

    def store(self, key: Key) -> FeatureStore:
        """The feature store of a key, whether there is anything in it yet or not.

        A store of views has the cut network of the images' own: views alter images and nothing behind them.
        """
        from featx.store.store import FeatureStore  # h5py, which checking images has no use for

        images = replace(key, views=NO_VIEWS)
        return FeatureStore(key, self.path / key.directory, self.path / images.directory, self._checks())

    def calibration(self, key: Key) -> Path:
        """The file with the images that int8 is calibrated on for the network of a key, whether it is there or not."""
        network = replace(key, storage="float32", views=NO_VIEWS, calibration="")
        return self.path / _CALIBRATION / f"{network.directory}.json"

    def stores(self, digest: str = "") -> list[FeatureStore]:
        """Every feature store in the folder, by name; with the digest of a key only that which has its name of it.

        One whose key cannot be read is left aside, with a warning: the others know nothing of it.
        """
        found, unread = self._open_stores(digest)
        for reason in unread.values():
            if reason not in self._warned:
                self._warned.add(reason)
                _logger.warning("Left aside: %s", reason)
        return found

    def unread_stores(self) -> dict[Path, str]:
        """The files of keys that are damaged or from a newer featx, and why."""
        return self._open_stores("")[1]

    def _open_stores(self, digest: str) -> tuple[list[FeatureStore], dict[Path, str]]:
        from featx.store.store import KEY_FILE, open_store

        found, unread = [], {}
        for path in sorted(self.path.glob(f"*{digest[:8]}/{KEY_FILE}")):
            try:
                found.append(open_store(path.parent, self._checks()))
            except StoreError as error:
                unread[path] = str(error)
        return found, unread

    def _checks(self) -> Checks:
        from featx.store.damage import Checks

        return Checks(lambda: self._index)

    def remove_stale(self) -> int:
        """Remove what killed processes have left here and in the temporary folder, and a damaged index.

        Returns the bytes of the files in the cache.
        """
        for left in self.path.glob(f"{Path(INDEX_FILE).stem}.damaged*"):
            left.unlink(missing_ok=True)
        with suppress(OSError):  # without a temporary folder there is nothing to remove
            remove_temporary_folders_of_the_dead()
        return remove_stale(self.path)
