"""The files of a converted graph, and the digests that reveal damage to them.

`graph.json` holds the digests of the two files of OpenVINO (`files`) and one of everything else in it (`digest`).
Graphs that featx 0.1.0 wrote have neither: they are used as they are, and get theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.backbones.graphs.cut import MapTensor
from featx.errors import EngineError, StoreError
from featx.io.digests import digest_file, digest_json
from featx.io.files import write_json
from featx.io.jsontypes import parse_json

SCHEMA = 1
DESCRIPTION = "graph.json"
MODEL, CONSTANTS = "graph.xml", "graph.bin"
FILES = (MODEL, CONSTANTS, DESCRIPTION)


def is_whole(graph: Path) -> bool:
    """Whether the directory holds all files of a converted graph."""
    return all((graph / name).is_file() for name in FILES)


def is_sound(graph: Path) -> bool:
    """Whether the directory holds a whole graph whose files have their digests."""
    return is_whole(graph) and find_damage(graph) is None


def describe_graph(graph: Path, description: dict[str, Any]) -> None:
    """Write `graph.json`: the description, and the digests of the two other files, which are there already."""
    content = {**description, "files": {name: digest_file(graph / name).hex() for name in (MODEL, CONSTANTS)}}
    write_json(graph / DESCRIPTION, {**content, "digest": digest_json(content)})


def find_damage(graph: Path) -> str | None:
    """What is wrong with the files of a graph, in words; None where they hold their digests, or have none.

    Raises
    ------
    EngineError
        A file cannot be read, which says nothing against it.
    """
    try:
        content = _read(graph)
        if not isinstance(content, dict):
            return f"{DESCRIPTION} is not an object"
        if not {"files", "digest"} & content.keys():
            return None
        claimed = content.pop("digest", None)
        if claimed != digest_json(content) or not isinstance(content.get("files"), dict):
            return f"{DESCRIPTION} does not match its digest"
        for name in (MODEL, CONSTANTS):
            if digest_file(graph / name).hex() != content["files"].get(name):
                return f"{name} does not match its digest"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except OSError as error:
        raise EngineError(
            f"Cannot read {graph}: {error.strerror}. Check the disk and the rights of the file."
        ) from error
    except (ValueError, RecursionError) as error:
        return f"{DESCRIPTION} cannot be read: {error}"
    return None


def adopt(graph: Path) -> None:
    """Give a whole graph of featx 0.1.0 its digests; where nothing can be written it stays as it is."""
    content = _read(graph)
    if not {"files", "digest"} & content.keys():
        with suppress(OSError, StoreError):
            describe_graph(graph, content)


def _read(graph: Path) -> Any:
    return parse_json((graph / DESCRIPTION).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Description:
    """What `graph.json` holds.

    input_size : (height, width); outputs : output name -> name of its tensor
    batch : images at once that the graph is fixed to, None for any number
    maps : output name -> what it is pooled from, where that has places
    """

    input_size: tuple[int, int]
    outputs: dict[str, str]
    batch: int | None
    maps: Mapping[str, MapTensor]


def read_size(graph: Path) -> tuple[int, int]:
    """(height, width) of the images that the graph in a directory takes."""
    return read_description(graph).input_size


def read_description(graph: Path) -> Description:
    """What the graph in a directory takes and gives.

    Raises
    ------
    EngineError
        It cannot be read, or a newer featx wrote it.
    """
    try:
        content = parse_json((graph / DESCRIPTION).read_text(encoding="utf-8"))
        schema, (height, width), outputs = content.get("schema", SCHEMA), content["input_size"], content["outputs"]
        if schema > SCHEMA:
            raise EngineError(f"{graph} was written by a newer featx (schema {schema}, known {SCHEMA}).")
        batch = content.get("batch")
        tensors = {str(name): str(tensor) for name, tensor in outputs.items()}
        maps = {str(name): MapTensor(str(one), int(front)) for name, (one, front) in content.get("maps", {}).items()}
        return Description((int(height), int(width)), tensors, None if batch is None else int(batch), maps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(f"Cannot read {graph / DESCRIPTION}: {error}. Delete {graph} and extract again.") from error
