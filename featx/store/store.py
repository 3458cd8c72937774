"""FeatureStore: bottleneck features on disk, addressed by content.

    cache/<backbone>-<input size>-<key8>/     one folder per key
      key.json                                everything the key is made of
      graph/                                  the cut network as the engine runs it
      leases/                                 who works on what right now
      <layer>@<pooling>/*.h5                  parts, immutable once visible

`docs/hdf5.md` describes the files for other tools.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import StoreError
from featx.io.files import remove, remove_stale, write_json
from featx.io.jsontypes import parse_json
from featx.io.versions import installed_versions
from featx.store.compaction import MAINTENANCE, compact
from featx.store.damage import Checks, Damage, find_damage
from featx.store.graph import GraphFolder
from featx.store.key import Key, file_name
from featx.store.leases import Leases
from featx.store.part import SUFFIX, DamagedPart, read_name, read_rows, write_part
from featx.store.table import FeatureTable, TableFolder

KEY_FILE = "key.json"
_logger = logging.getLogger(__name__)
_GRAPH, _LEASES = "graph", "leases"
_LIBRARIES = ("tensorflow", "keras", "openvino", "pillow", "numpy", "h5py")


class FeatureStore:
    """The features of one key. Nothing is written before `open`."""

    def __init__(self, key: Key, directory: Path, network: Path, checks: Checks | None = None) -> None:
        """Cheap to make.

        network : the folder of the store whose cut networks are this one's, mostly its own
        checks : by what readers compare parts with their checksums
        """
        self.key = key
        self.directory = directory
        self.graphs = GraphFolder(network / _GRAPH)
        self._tables: dict[str, FeatureTable] = {}
        self._required: dict[bytes, int] = {}
        self._checks = checks or Checks()

    def open(self, made_of: dict[str, Any]) -> None:
        """Make the folder and its `key.json`; made_of : how to build the backbone again."""
        path = self.directory / KEY_FILE
        if path.exists():
            found = _read_key(path)
            if found != self.key:
                raise StoreError(f"{path} belongs to another key. Move that folder away and run again.")
            return
        note = {
            "key": self.key.as_json(),
            "digest": self.key.digest,
            "backbone": made_of,
            "versions": installed_versions(*_LIBRARIES),
        }
        write_json(path, note)

    def table(self, layer: str, pooling: str) -> FeatureTable:
        """The rows of one layer and pooling, as they are on disk now."""
        name = f"{layer}@{pooling}"
        if name not in self._tables:
            place = self.folder(layer, pooling)
            self._tables[name] = FeatureTable(place.directory, place.attributes, self._checks)
        else:
            self._tables[name].refresh()
        self._tables[name].require(self._required)
        return self._tables[name]

    def require(self, required: Mapping[bytes, int]) -> None:
        """Take rows of these images (digest -> revision) that an earlier decoder read for missing, in every table."""
        self._required.update(required)

    def folder(self, layer: str, pooling: str) -> TableFolder:
        """Where the parts of one layer and pooling belong, without looking at those that are there."""
        attributes = {"key": self.key.digest, "layer": layer, "pooling": pooling}
        return TableFolder(self.directory / file_name(f"{layer}@{pooling}"), attributes)

    def tables(self) -> dict[str, FeatureTable]:
        """Every table on disk, by `layer@pooling`."""
        for folder in sorted(self.directory.glob("*@*")):
            name = _table_name(folder)
            if name is not None:
                self.table(*name.rsplit("@", 1))
        return dict(sorted(self._tables.items()))

    def leases(self) -> Leases:
        """The leases of this store, to be used as a context."""
        return Leases(self.directory / _LEASES)

    def made_of(self) -> dict[str, Any]:
        """How to build the backbone again, as `open` was given it."""
        return dict(parse_json((self.directory / KEY_FILE).read_text())["backbone"])

    def verify(self) -> Iterator[tuple[Path, Damage | None]]:
        """Read every row of every part and compare its checksum; yields each part and what is wrong with it."""
        tables = {table.directory: table for table in self.tables().values()}
        for folder in sorted(self.directory.glob("*@*")):
            if folder in tables:
                for path, reason in tables[folder].damaged.items():
                    yield path, Damage(str(path), [], [], reason)
                for part in tables[folder].parts:
                    yield part.path, find_damage(part.path)
            else:
                for path in sorted(folder.glob(f"*{SUFFIX}")):
                    yield path, Damage(str(path), [], [], f"{path} cannot be read, nor can any other part beside it.")

    def verify_networks(self) -> Iterator[tuple[Path, Damage | None]]:
        """Compare the digests of the cut networks that are kept in this store; yields each as `verify` does."""
        if self.graphs.directory.parent == self.directory:  # a store of views has those of the images
            for path, reason in self.graphs.verify():
                yield path, None if reason is None else Damage(str(path), [], [], reason)

    def repair(self, damage: Damage) -> None:
        """Keep the good rows of a damaged part in a new one and remove the old one; bad rows are missing from then.

        A damaged network is removed: it is made anew when it is wanted.
        """
        path = Path(damage.part)
        with self._maintenance() as leases:
            if not path.exists():  # another run was first
                pass
            elif path.parent == self.graphs.directory:
                remove(path)
            elif damage.rows:
                rows, good = read_rows(path)
                leases.give_sign()
                table = next(table for table in self.tables().values() if table.directory == path.parent)
                if good.any():
                    write_part(path.parent, rows.take(good), table.attributes)
                path.unlink(missing_ok=True)
            else:
                path.replace(path.with_suffix(".damaged"))
        self._tables.clear()

    def doubt(self, damage: Damage) -> None:
        """Have every reader look at a damaged part itself, so that its bad rows are missing from now on."""
        self._checks.forget(Path(damage.part))

    def set_damaged_aside(self) -> None:
        """Repair every part in which readers have found damage, unless another process does; their rows are missing."""
        found = [damage for table in self._tables.values() for damage in table.unsound]
        for damage in found:
            try:
                self.repair(damage)
            except (StoreError, OSError) as error:  # the rows are not used in any case
                _logger.info("%s was left where it is: %s", damage.part, error)

    @contextmanager
    def _maintenance(self) -> Iterator[Leases]:
        """Keep two processes from removing parts at once: each might remove what the other counts on.

        Who takes longer than the patience of a lease has to give signs with it.
        """
        with self.leases() as leases:
            leases.claim(MAINTENANCE)
            if np.isin(MAINTENANCE, leases.of_others()).any():
                raise StoreError(f"Another prune or repair is running in {self.directory}. Wait until it ends.")
            yield leases

    def prune(self, compression: str = "none") -> tuple[int, int]:
        """Merge small parts, drop doubled rows and what killed runs left. Publishes before it unlinks.

        Returns the number of parts before and after.

        Raises
        ------
        StoreError
            When another process prunes or repairs this store.
        """
        before = after = 0
        with self._maintenance() as leases:
            self._tables.clear()
            for table in self.tables().values():
                before += len(table.parts)
                after += compact(table, compression, leases)
            self._tables.clear()
            remove_stale(self.directory)
            for path in self.directory.glob("*@*/*.damaged"):
                path.unlink(missing_ok=True)
        return before, after


def open_store(directory: Path, checks: Checks | None = None) -> FeatureStore:
    """The feature store in a folder, whatever the folder is called.

    checks : as `FeatureStore` takes it

    Raises
    ------
    StoreError
        Its key is damaged or from a newer featx.
    """
    return FeatureStore(_read_key(directory / KEY_FILE), directory, directory, checks)


def _read_key(path: Path) -> Key:
    try:
        return Key.from_json(parse_json(path.read_text())["key"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged or from a newer featx ({error}). Move that folder away.") from error


def _table_name(folder: Path) -> str | None:
    """`layer@pooling` as its parts spell it: a folder name has lost the colon of `grid:4`.

    None where no part can be read. A part that names another folder is damaged and not believed.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            name = read_name(path)
        except (FileNotFoundError, DamagedPart):
            continue
        if file_name(name) == folder.name:
            return name
    return None
