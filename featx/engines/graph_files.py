"""The files of a converted graph, and the digests by which damage to them is found.

`graph.json` holds the digests of the two files of OpenVINO (`files`) and one of everything else in it (`digest`).
Graphs that featx 0.1.0 wrote have neither: they are used as they are, and get theirs.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from featx.errors import EngineError, StoreError
from featx.io.digests import digest_file, digest_json
from featx.io.files import write_json

DESCRIPTION = "graph.json"
MODEL, CONSTANTS = "graph.xml", "graph.bin"
FILES = (MODEL, CONSTANTS, DESCRIPTION)


def is_whole(graph: Path) -> bool:
    """Whether the directory holds all files of a converted graph."""
    return all((graph / name).is_file() for name in FILES)


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
    return json.loads((graph / DESCRIPTION).read_text(encoding="utf-8"))
