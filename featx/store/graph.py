"""Cut networks kept beside their features, as a `.keras` file and as an engine's graph."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from featx.engines.graph_files import FILES, find_damage
from featx.io.digests import digest_json

_logger = logging.getLogger(__name__)
_NETWORK = ".keras"


@dataclass(frozen=True)
class GraphFolder:
    """The cut networks of a store, one for each choice of layers and poolings (`layer@pooling`)."""

    directory: Path

    def network(self, outputs: Iterable[str]) -> Path:
        """The `.keras` file of the network that ends in these outputs, which bundles are made of."""
        return self.directory / f"{_name(outputs)}{_NETWORK}"

    def converted(self, outputs: Iterable[str]) -> Path:
        """The folder of its graph as an engine has converted it."""
        return self.directory / _name(outputs)

    def has_network(self, outputs: Iterable[str]) -> bool:
        """Whether that `.keras` file is there and sound; a damaged one is removed, so that it is rebuilt."""
        path = self.network(outputs)
        if not path.exists():
            return False
        damage = _find_damage(path)
        if damage is not None:
            _logger.warning("%s is damaged (%s): it is rebuilt.", path, damage)
            path.unlink()
        return damage is None

    def verify(self) -> Iterator[tuple[Path, str | None]]:
        """Every file and folder of a network, and what is wrong with it."""
        for path in sorted(self.directory.glob("[!.]*")):
            if path.suffix == _NETWORK:
                yield path, _find_damage(path)
            elif any((path / name).exists() for name in FILES):
                yield path, find_damage(path)


def _find_damage(path: Path) -> str | None:
    """What is wrong with a `.keras` file, a zip whose members have checksums; None where nothing is."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        return str(error)
    return None if damaged is None else f"{damaged} does not match its checksum"


def _name(outputs: Iterable[str]) -> str:
    return digest_json(list(outputs))[:16]
