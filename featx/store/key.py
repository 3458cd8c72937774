"""The key of a feature store: everything that alters a feature's value, and nothing else."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from featx.io.digests import digest_json

SCHEMA = 1
NO_VIEWS = "none"
_LEFT_OUT = "left out of the digest at its default"


def added(default: Any) -> Any:
    """A field that the key has gained since 0.1.0: at its default it is no part of the JSON and of the digest.

    So the features that were computed before it there was keep their key.
    """
    return field(default=default, metadata={_LEFT_OUT: True})


@dataclass(frozen=True)
class Key:
    """Two runs share features exactly when their keys are equal.

    backbone : the network's name
    architecture, weights : hexadecimal digests of the graph and of its variables
    input_size : (height, width) in pixels
    resize, preprocessing : how pixels reach the network
    decoder : digest of the pixels that the decoder makes of a few small files
    precision : what the engine really computes in; with the engine's name where it is not float32
    storage : float16 or float32
    views : the augmentation policy of cached views, "none" for the images themselves
    calibration : of int8, digest of the images that it was calibrated on and of the network's outputs
    """

    backbone: str
    architecture: str
    weights: str
    input_size: tuple[int, int]
    resize: str
    decoder: str
    preprocessing: str
    precision: str
    storage: str
    views: str = NO_VIEWS
    schema: int = SCHEMA
    calibration: str = added("")

    @property
    def digest(self) -> str:
        """SHA-256 over all fields, as hexadecimal text."""
        return digest_json(self.as_json())

    @property
    def directory(self) -> str:
        """`<backbone>-<input size>-<first eight characters of the digest>`."""
        height, width = self.input_size
        size = str(height) if height == width else f"{height}x{width}"
        return f"{file_name(self.backbone)}-{size}-{self.digest[:8]}"

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON holds them, without those that were `added` and have their default."""
        usual = {
            one.name for one in fields(self) if _LEFT_OUT in one.metadata and getattr(self, one.name) == one.default
        }
        known = asdict(self) | {"input_size": list(self.input_size)}
        return {name: value for name, value in known.items() if name not in usual}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Key:
        """The reverse of `as_json`."""
        return cls(**(fields | {"input_size": tuple(fields["input_size"])}))


def file_name(text: str) -> str:
    """`text` as a file name on every system: `mixed2@grid:4` becomes `mixed2@grid-4`."""
    return re.sub(r"[^\w.@+-]", "-", text)
