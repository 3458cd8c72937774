"""Manifests for tests: the least that a bundle must hold, and any of it changed as a file would have it."""

from __future__ import annotations

import json
from typing import Any

from featx.bundle.manifest import Manifest

LEAST: dict[str, Any] = {
    "schema": 1,
    "classes": ["a", "b"],
    "split": {"digest": "s"},
    "outputs": ["last@avg"],
    "backbone": {"input_size": [32, 32]},
    "head": {"clf": "logreg", "kind": "linear", "temperature": 1.0, "features": 16},
    "score": {"metric": "accuracy"},
    "files": {},
}


def manifest_of(**sections: Any) -> Manifest:
    """The least manifest with these sections."""
    return Manifest.from_json(LEAST | sections, "a test")


def changed(manifest: Manifest, **sections: Any) -> Manifest:
    """A manifest with other sections; a section that is a dict is brought in, key by key. None leaves one out."""
    found = json.loads(json.dumps(manifest.as_json()))
    for name, value in sections.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] |= value
        else:
            found[name] = value
    return Manifest.from_json(found, "a test")
